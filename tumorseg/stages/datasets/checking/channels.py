"""Checks of one case's image files, each by itself and against each other."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.ops.geometry import AS_STORED
from tumorseg.ops.grids import covered_voxels, describe_grid, describe_mismatch, shared_part
from tumorseg.ops.integrity import ChannelFacts, measure_channel
from tumorseg.ops.units import ct_doubt
from tumorseg.planning.evidence.kinds import kind_from_name
from tumorseg.schema.cases import CaseReading, reading_of
from tumorseg.schema.dataset import Case, Channel, DatasetDescription, ImageFile
from tumorseg.schema.findings import Finding, finding, finding_of
from tumorseg.stages.opening.case_grids import LEAST_SHARED, grid_fault, grid_of, way_onto
from tumorseg.stages.opening.reading import describe_forms
from tumorseg.storage.images import Volume, read_images

PET_NOISE = -1.0
"""Uptake below this is no noise around zero."""
UNIT_ADVICE = "apply the scanner's rescale slope and intercept, or state another kind in a manifest"


class ReadChannel(NamedTuple):
    """One channel of a case that could be read."""

    channel: Channel
    file: ImageFile
    volume: Volume
    facts: ChannelFacts


def read_channels(case: Case, description: DatasetDescription) -> tuple[list[ReadChannel | None], list[Finding]]:
    """Read the channels of a case; one that cannot be read is None, and becomes a finding."""
    volumes: dict[ImageFile, Volume] = {}
    findings = []
    # By file, so that a damaged one of several volumes is one finding.
    for path, parts in dict.fromkeys((file.path, file.parts) for file in case.images):
        files = [file for file in case.images if (file.path, file.parts) == (path, parts)]
        try:
            read = read_images(files, description.reading.assumed_orientation)
            volumes.update(zip(files, read, strict=True))
        except InputError as error:
            findings.append(finding_of(error, fault(path, error), cases=(case.case_id,), file=path))
    channels: list[ReadChannel | None] = []
    for channel, file in zip(description.channels, case.images, strict=True):
        volume = volumes.get(file)
        channels.append(None if volume is None else ReadChannel(channel, file, volume, measure_channel(volume.array)))
    return channels, findings


def fault(path: str, error: InputError) -> str:
    """Return what kind of fault kept a file from being read."""
    return error.kind or ("unreadable_file" if os.path.lexists(path) else "missing_file")


def check_channels(
    case: Case, channels: Sequence[ReadChannel | None], *, grid: int, description: DatasetDescription
) -> Iterator[Finding]:
    """Yield what is wrong with the channels of a case.

    Args:
        case: where they lie.
        channels: None for one that cannot be read.
        grid: the one whose grid counts.
        description: how files are read.
    """
    onto, reading = channels[grid], reading_of(description)
    yield from check_forms(case.case_id, [file.path for file in case.images])
    read = [channel for channel in channels if channel is not None]
    is_constant = len(read) == len(channels) and all(channel.facts.is_constant for channel in read)
    if is_constant:
        message = "found one single value in every channel, expected an image; restore the files or leave the case out"
        yield finding("constant_image", message, cases=(case.case_id,), file=case.images[0].path)
    for channel in read:
        yield from _check_values(case.case_id, channel, is_constant=is_constant)
        if onto is not None and channel is not onto:
            yield from _check_grid(case.case_id, channel, onto, reading=reading)
    yield from _check_repeated(case.case_id, read)


def check_forms(case_id: str, paths: Sequence[str]) -> Iterator[Finding]:
    """Yield the files whose sform and qform disagree."""
    for path in dict.fromkeys(paths):
        if (message := describe_forms(path)) is not None:
            advice = "make sure in a viewer that the sform is right, then write it to both (--fix does so, unless one mirrors the other)"
            yield finding("forms_disagree", f"{message}; {advice}", cases=(case_id,), file=path)


def _check_values(case_id: str, one: ReadChannel, *, is_constant: bool) -> Iterator[Finding]:
    """Yield what is wrong with the intensities of one channel."""
    name, facts = one.channel.name, one.facts
    tell = partial(finding, cases=(case_id,), file=one.file.path)
    if facts.num_bad:
        message = (
            f"{name} has {facts.num_bad} voxels that are NaN or infinite, expected finite intensities; "
            "replace them, for example by the background's value"
        )
        yield tell("not_finite", message)
    if facts.is_constant:
        if not is_constant:
            message = f"every voxel of {name} is {facts.minimum:g}, expected an image; restore it"
            yield tell("constant_channel", message)
        return
    kind = one.channel.kind or kind_from_name(name)
    if kind == "ct" and (doubt := ct_doubt(one.volume.array)) is not None:
        advice = f"; {UNIT_ADVICE}" if doubt.is_impossible else ""
        yield tell("intensity_unit" if doubt.is_impossible else "no_air", f"{name} has {doubt.message}{advice}")
    if kind == "pet" and facts.minimum < PET_NOISE:
        span = f"{name} has intensities from {facts.minimum:g} to {facts.maximum:g}"
        yield tell("intensity_unit", f"{span}; uptake is not negative; is it another channel?")


def _check_grid(case_id: str, one: ReadChannel, onto: ReadChannel, *, reading: CaseReading) -> Iterator[Finding]:
    """Yield whether a channel lies on other voxels than the one whose grid counts."""
    tell = partial(finding, cases=(case_id,), file=one.file.path)
    grid, other, name = grid_of(one.volume), grid_of(onto.volume), Path(onto.file.path).name
    way = way_onto(one.volume, onto.volume, reading=reading)
    if way is not None:
        if way != AS_STORED:
            yield tell(
                "reoriented", f"its axes are stored otherwise than those of {name}; it is reoriented, without loss"
            )
        return
    if not (one.volume.is_placed and onto.volume.is_placed):
        fault = grid_fault(one.volume, onto.volume, reading=reading)
        yield tell("channel_elsewhere", f"does not lie on {name}: {fault}")
        return
    covered = covered_voxels(other, grid)
    found = f"compared with {name}, it {describe_mismatch(grid, other)}"
    if (shared := shared_part(other, grid, covered)) < LEAST_SHARED:
        message = (
            f"{found}; the two have {shared:.0%} of the smaller one's field of view in common (at least {LEAST_SHARED:.0%} is "
            "expected); are they of one study? look at both in a viewer, and register or replace the one that is off"
        )
        yield tell("channel_elsewhere", message)
        return
    left_out = 1 - float(covered.mean())
    uncovered = f", {left_out:.1%} of whose voxels it does not cover" if left_out else ""
    found = f"has {describe_grid(grid)}, {name} has {describe_grid(other)}"
    yield tell(
        "channel_grid", f"{found}; it will be interpolated onto {name}{uncovered}; resample it yourself to decide how"
    )


def _check_repeated(case_id: str, read: Sequence[ReadChannel]) -> Iterator[Finding]:
    """Yield the channels that are a copy of one before."""
    for position, two in enumerate(read):
        one = next((one for one in read[:position] if is_copy(one.volume.array, two.volume.array)), None)
        if one is not None:
            message = (
                f"{one.channel.name} ({Path(one.file.path).name}) and {two.channel.name} hold the same voxels, expected two "
                "images; restore the wrong one"
            )
            yield finding("repeated_channel", message, cases=(case_id,), file=two.file.path)


def is_copy(one: NDArray[np.generic], two: NDArray[np.generic]) -> bool:
    """Tell whether two arrays hold the same values, and not one single value."""
    # Empty channels are alike without being copies.
    return one.shape == two.shape and np.array_equal(one, two) and bool((one != one.flat[0]).any())
