"""Checks of one case's label file, by itself and against the images."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.ops.geometry import AS_STORED, grid_mismatch_mm, spacing_of
from tumorseg.ops.integrity import TINY_VOXELS, TinyComponents, find_tiny_components
from tumorseg.ops.labels import count_values
from tumorseg.schema.cases import reading_of
from tumorseg.schema.dataset import Case, DatasetDescription, ImageFile
from tumorseg.schema.findings import Finding, finding, finding_of
from tumorseg.schema.targets import targets_of
from tumorseg.stages.datasets.checking.channels import ReadChannel, check_forms, fault, is_copy
from tumorseg.stages.opening.case_grids import grid_fault, way_onto
from tumorseg.storage.formats.label_values import is_coarse, round_labels
from tumorseg.storage.formats.stored import NIFTI_ENDINGS, Geometry
from tumorseg.storage.images import Volume, knows_names_only, read_reference, read_stored, real_values

LEAST_MISMATCH = 0.01
"""Share of the finest voxel edge up to which a label's header differs from the image's by rounding only."""
MOST_COMPONENT_VALUES = 500
"""Values up to which a label map is looked through for tiny components."""
MOST_LISTED = 8
"""Values that a message lists at most."""


def read_label(case: Case, description: DatasetDescription, first: Volume) -> Volume:
    """Read the label of a case that has one; DICOM is painted on the grid of the channel `first`.

    Raises:
        InputError: it is no label map.
    """
    z, y, x = first.array.shape
    grid = Geometry((z, y, x), first.affine, 1, first.is_placed)
    return read_reference(case.label_files, grid, targets_of(description).values_by_name, reading_of(description))


def label_faults(case: Case, error: InputError, channels: Sequence[ReadChannel | None]) -> list[Finding]:
    """Return what a file is that cannot be read as a label."""
    if knows_names_only(case.label or ""):
        missing = next((path for path in case.label_files if not os.path.lexists(path)), None)
        kind = "missing_file" if missing else "unreadable_file"
        return [finding_of(error, kind, cases=(case.case_id,), file=missing or case.label)]
    return list(_label_faults(case, error, channels))


def _label_faults(case: Case, error: InputError, channels: Sequence[ReadChannel | None]) -> Iterator[Finding]:
    """Yield why a label cannot be read, or that it holds something else than labels."""
    path = case.label or ""
    tell = partial(finding, cases=(case.case_id,), file=path)
    try:
        stored = read_stored(ImageFile(path=path))
    except InputError as unreadable:
        yield finding_of(unreadable, fault(path, unreadable), cases=(case.case_id,), file=path)
        return
    yield from _check_copies(case, real_values(stored.array, stored.scaling), channels)
    rounded = round_labels(stored.array, stored.scaling)
    found, counts = np.unique(rounded.values[rounded.is_off], return_counts=True, equal_nan=True)
    if is_coarse(stored.array, stored.scaling) or not found.size:  # or too large for any integer type
        yield finding_of(error, "non_integer_label", cases=(case.case_id,), file=path)
        return
    # in full: 1.0039 as 1 would be no reason
    listed = _listed([f"{value!s} ({count} voxels)" for value, count in zip(found, counts, strict=True)])
    message = (
        f"found {int(rounded.is_off.sum())} voxels that are no integers, nor rounded from one: {listed}; expected a label map; is it "
        "an intensity image, or was it interpolated? store labels as integers"
    )
    yield tell("non_integer_label", message)


def _check_copies(case: Case, values: NDArray[Any], channels: Sequence[ReadChannel | None]) -> Iterator[Finding]:
    """Yield the images whose very voxels a label file holds."""
    for channel in channels:
        if channel is not None and is_copy(channel.volume.array, values):
            message = (
                f"holds the same voxels as the image {Path(channel.file.path).name}, expected a label map; restore it"
            )
            yield finding("label_is_image", message, cases=(case.case_id,), file=case.label)


def check_label(
    case: Case,
    label: Volume,
    description: DatasetDescription,
    *,
    channels: Sequence[ReadChannel | None],
    grid: int,
) -> Iterator[Finding]:
    """Yield what is wrong with a label map and with its place among the images.

    Args:
        case: where they lie.
        label: as it was read.
        description: of the dataset.
        channels: None for one that cannot be read.
        grid: the channel that the label should lie on.
    """
    yield from check_forms(case.case_id, case.label_files)
    yield from _check_type(case)
    yield from _check_values(case, label, description)
    copies = list(_check_copies(case, label.array, channels))
    yield from copies
    # An image that was taken for a label has thousands of values, each of which would be searched.
    if not copies and len(count_values(label.array)[0]) <= MOST_COMPONENT_VALUES:
        yield from _check_components(case, label, description)
    if (onto := channels[grid]) is not None:
        yield from _check_grid(case, label, onto, description=description)


def _check_type(case: Case) -> Iterator[Finding]:
    path = case.label or ""
    if not path.lower().endswith(NIFTI_ENDINGS):
        return
    from tumorseg.storage.formats.nifti_headers import is_stored_as_integers

    if not is_stored_as_integers(path):
        stored = read_stored(ImageFile(path=path))
        rounded = round_labels(stored.array, stored.scaling)
        most = float(np.abs(rounded.values - rounded.labels).max())
        found = f"up to {most:.2g} away from the integers that they stand for" if most else "though all are integers"
        message = (
            f"labels are stored as floating-point or scaled numbers, {found}; other programs may round them (--fix)"
        )
        yield finding("label_type", message, cases=(case.case_id,), file=path)


def _check_values(case: Case, label: Volume, description: DatasetDescription) -> Iterator[Finding]:
    tell = partial(finding, cases=(case.case_id,), file=case.label)
    found = dict(zip(*count_values(label.array), strict=True))
    known = set(description.labels.values()) | {0, description.ignore_label}
    if unknown := [f"{value} ({count} voxels)" for value, count in found.items() if value not in known]:
        expected = sorted(value for value in known if value is not None)
        message = (
            f"found the label values {_listed(unknown)}, expected {_listed(expected)}; add them to the dataset's labels or "
            "correct the segmentation"
        )
        yield tell("unknown_label", message)
    foreground = set(found) - {0, description.ignore_label}
    if not foreground:
        message = "holds no label but the background; leave the case out unless there truly is nothing to segment"
        yield tell("empty_label", message)
        return
    wanted = {name: value for name, value in description.labels.items() if value not in (0, description.ignore_label)}
    if missing := [f"{name} ({value})" for name, value in wanted.items() if value not in found]:
        yield tell("label_not_in_case", f"has no voxel of {_listed(missing)}")


def _check_components(case: Case, label: Volume, description: DatasetDescription) -> Iterator[Finding]:
    names = {value: name for name, value in description.labels.items()}
    volume_mm3 = float(np.prod(spacing_of(label.affine)))
    tiny = [found for found in find_tiny_components(label.array) if found.value != description.ignore_label]
    if tiny:
        message = (
            f"has components of fewer than {TINY_VOXELS} voxels, apart from all others: "
            f"{_listed([_describe_tiny(found, names, volume_mm3) for found in tiny])}; are they slips of the pen?"
        )
        yield finding("tiny_components", message, cases=(case.case_id,), file=case.label)


def _describe_tiny(found: TinyComponents, names: dict[int, str], volume_mm3: float) -> str:
    least, most = found.sizes[0], found.sizes[-1]
    sizes = f"{least}" if least == most else f"{least} to {most}"
    return (
        f"{names.get(found.value, found.value)}: {len(found.sizes)} of {found.num_components}, of {sizes} voxels "
        f"({sum(found.sizes) * volume_mm3:.3g} mm³ in all)"
    )


def _check_grid(case: Case, label: Volume, onto: ReadChannel, *, description: DatasetDescription) -> Iterator[Finding]:
    """Yield whether a label lies on other voxels than the channel whose grid counts."""
    tell = partial(finding, cases=(case.case_id,), file=case.label)
    image, name = onto.volume, Path(onto.file.path).name
    way = way_onto(label, image, reading=reading_of(description))
    if way is None:
        # Sorted, as the same grid may be stored in another order of axes.
        kind = "label_shape" if sorted(label.array.shape) != sorted(image.array.shape) else "label_grid"
        yield tell(kind, f"does not lie on {name}: {grid_fault(label, image, reading=reading_of(description))}")
        return
    if way != AS_STORED:
        yield tell("reoriented", f"its axes are stored otherwise than those of {name}; it is reoriented, without loss")
        return
    mismatch = grid_mismatch_mm(label.affine, image.affine, label.array.shape)
    if label.is_placed and image.is_placed and mismatch > LEAST_MISMATCH * min(spacing_of(image.affine)):
        how = " (--fix writes it on the image's grid)" if (case.label or "").lower().endswith(NIFTI_ENDINGS) else ""
        message = f"lies {mismatch:.3g} mm away from {name}, less than half a voxel: it is taken to lie on it, other programs may refuse it{how}"
        yield tell("label_header", message)


def _listed(entries: Sequence[object]) -> str:
    more = f" and {len(entries) - MOST_LISTED} more" if len(entries) > MOST_LISTED else ""
    return ", ".join(map(str, entries[:MOST_LISTED])) + more
