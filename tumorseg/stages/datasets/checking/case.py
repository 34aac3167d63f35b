"""One case: everything that is wrong with it, not only the first thing, and what is to be compared with other cases."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.ops.cropping import nonzero_box
from tumorseg.ops.duplicates import content_digest, signature
from tumorseg.ops.geometry import orient, orientation_of, spacing_of
from tumorseg.ops.integrity import ChannelFacts, axis_code, centroid_x, is_left_handed, obliqueness
from tumorseg.ops.labels import count_values
from tumorseg.planning.evidence.laterality import mirror_pairs
from tumorseg.schema.cases import reading_of
from tumorseg.schema.dataset import Case, DatasetDescription
from tumorseg.schema.findings import Finding, finding
from tumorseg.stages.datasets.checking.channels import ReadChannel, check_channels, read_channels
from tumorseg.stages.datasets.checking.crop import check_crop
from tumorseg.stages.datasets.checking.label import check_label, label_faults, read_label
from tumorseg.stages.opening.case_grids import grid_number, way_onto
from tumorseg.storage.file_warnings import FileWarning, captured_warnings
from tumorseg.storage.images import Volume, knows_names_only
from tumorseg.types import Image, Segmentation

NOWHERE = Volume(np.empty((1, 1, 1), np.float32), np.eye(4))
"""Grid of a first channel that cannot be read: labels that are numbers need none."""


class CheckTask(NamedTuple):
    """Input of a worker that checks one case."""

    case: Case
    description: DatasetDescription


class LabelFacts(NamedTuple):
    """Facts about a case's label that are compared between cases."""

    voxels: dict[int, int]
    """Voxels of each value that is found."""
    digest: str | None
    """Of the whole map in canonical orientation; None without foreground."""
    right_of_mm: dict[tuple[str, str], float]
    """How far the right label of each mirror pair lies to the patient's right of the left one."""


class CaseFacts(NamedTuple):
    """Facts about a case that are compared between cases; a few kB, whatever the size of the images."""

    case_id: str
    spacing_mm: tuple[float, float, float]
    """Of the first channel in canonical orientation (Z, Y, X)."""
    shape: tuple[int, ...]
    """Likewise."""
    code: str
    """Where the stored axes x, y, z point to."""
    oblique_deg: float
    is_left_handed: bool
    channels: tuple[ChannelFacts | None, ...]
    """None for a channel that could not be read."""
    digests: tuple[str | None, ...]
    """Of each channel in canonical orientation; None for one that is constant or could not be read."""
    signature: NDArray[np.float16] | None
    """Of the first channel; None where it could not be read."""
    label: LabelFacts | None = None
    """None without a sound label on the image's grid."""


class CheckedCase(NamedTuple):
    """Result of a worker that checked one case."""

    findings: tuple[Finding, ...]
    facts: CaseFacts | None
    """None where the first channel cannot be read."""


def check_case(task: CheckTask) -> CheckedCase:
    """Check one case; called in a worker process."""
    with captured_warnings() as captured:
        found = _check_case(task)
    return found._replace(findings=(*found.findings, *_warnings(task.case, captured)))


def _warnings(case: Case, captured: Sequence[FileWarning]) -> Iterator[Finding]:
    """Yield each warning that reading raised once, with the file or folder of the case that it is about."""
    named = [*(image.path for image in case.images), *case.label_files]
    files = {file: Path(file) for file in named}
    for warning in dict.fromkeys(captured):
        about = Path(warning.file)
        holding = [file for file, path in files.items() if about == path or path in about.parents]
        # The innermost, as one folder of DICOM may lie in another.
        file = max(holding, key=len, default=None)
        message = warning.reason if warning.source == file else warning.text
        yield finding("reading", message, cases=(case.case_id,), file=file)


def _check_case(task: CheckTask) -> CheckedCase:
    case, description = task
    channels, findings = read_channels(case, description)
    grid = _grid(case, channels, description)
    findings += check_channels(case, channels, grid=grid, description=description)
    first, label = channels[grid], None
    # Labels that are numbers can be read without an image; named structures have to be painted on one.
    if case.label is not None and (first is not None or not knows_names_only(case.label)):
        try:
            label = read_label(case, description, NOWHERE if first is None else first.volume)
        except InputError as error:
            findings += label_faults(case, error, channels)
    if label is not None:
        findings += check_label(case, label, description, channels=channels, grid=grid)
    if first is None:
        return CheckedCase(tuple(findings), None)
    facts = _facts(case.case_id, channels, first.volume)
    way = None if label is None else way_onto(label, first.volume, reading=reading_of(description))
    if label is not None and way is not None:
        laid = first.volume._replace(array=orient(label.array, way))
        facts = facts._replace(label=_label_facts(laid, description))
        on_grid = _on_grid(channels, first.volume, description)
        if len(on_grid) == len(channels):
            findings += check_crop(case, laid.array, description, channels=on_grid)
    return CheckedCase(tuple(findings), facts)


def _grid(case: Case, channels: Sequence[ReadChannel | None], description: DatasetDescription) -> int:
    """Return the channel whose grid counts; the first that can be read where the label cannot, or says nothing of it."""
    readable = [number for number, channel in enumerate(channels) if channel is not None]
    reading = reading_of(description)
    if reading.grid is not None or not readable:
        return reading.grid or 0
    volumes = [channel.volume for channel in channels if channel is not None]
    try:
        return readable[grid_number(case, volumes, reading=reading)]
    except InputError:
        return readable[0]


def _on_grid(channels: Sequence[ReadChannel | None], grid: Volume, description: DatasetDescription) -> list[Image]:
    """Return the channels that have the voxels of a grid, in its order of axes."""
    volumes = [channel.volume for channel in channels if channel is not None]
    ways = [way_onto(volume, grid, reading=reading_of(description)) for volume in volumes]
    return [orient(volume.array, way) for volume, way in zip(volumes, ways, strict=True) if way is not None]


def _facts(case_id: str, channels: Sequence[ReadChannel | None], first: Volume) -> CaseFacts:
    orientation = orientation_of(first.affine)
    channel_facts = [None if channel is None else channel.facts for channel in channels]
    return CaseFacts(
        case_id=case_id,
        spacing_mm=spacing_of(first.affine, orientation),
        shape=tuple(first.array.shape[axis] for axis in orientation.axes),
        code=axis_code(first.affine),
        oblique_deg=obliqueness(first.affine),
        is_left_handed=is_left_handed(first.affine),
        channels=tuple(channel_facts),
        digests=tuple(map(_digest, channels)),
        signature=_signature(channels[0]),
    )


def _signature(channel: ReadChannel | None) -> NDArray[np.float16] | None:
    if channel is None:
        return None
    oriented = orient(channel.volume.array, orientation_of(channel.volume.affine))
    # One NaN would become the mean of its whole block.
    canonical = np.nan_to_num(oriented, nan=0, posinf=0, neginf=0)
    return signature(canonical, nonzero_box(canonical[None]))


def _digest(channel: ReadChannel | None) -> str | None:
    if channel is None or channel.facts.is_constant:
        return None
    return content_digest(orient(channel.volume.array, orientation_of(channel.volume.affine)))


def _label_facts(label: Volume, description: DatasetDescription) -> LabelFacts:
    orientation = orientation_of(label.affine)
    oriented = np.ascontiguousarray(orient(label.array, orientation))
    voxels = dict(zip(*count_values(oriented), strict=True))
    # A digest is of bytes, and label maps are read as int16 or int32.
    digest = content_digest(oriented.astype(np.int32)) if set(voxels) - {0} else None
    spacing_x_mm = spacing_of(label.affine, orientation)[2]
    return LabelFacts(voxels, digest, _right_of_mm(oriented, description.labels, spacing_x_mm))


def _right_of_mm(
    segmentation: Segmentation, labels: dict[str, int], spacing_x_mm: float
) -> dict[tuple[str, str], float]:
    found = {}
    for left, right in mirror_pairs(labels):
        masks = [segmentation == labels[name] for name in (left, right)]
        if all(mask.any() for mask in masks):
            found[left, right] = spacing_x_mm * (centroid_x(masks[1]) - centroid_x(masks[0]))
    return found
