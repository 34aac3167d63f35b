"""Records that are kept beside the arrays of a preprocessed case."""

import math
from itertools import pairwise
from typing import Self

from pydantic import model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.dataset import Channel, DatasetDescription, OrientationCode
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.preprocessing import NormalizationSpec, ResamplingSpec

OUTSIDE_CT = -1024.0
"""Intensity of CT where nothing was scanned."""


class CaseReading(Record):
    """Reading of a case's files: a dataset's `Reading` and channels, as far as they decide arrays."""

    assumed_orientation: OrientationCode | None = None
    """As in `Reading`."""
    paint_order: tuple[str, ...] = ()
    """As in `Reading`."""
    grid: int | None = None
    """Index of the channel on whose grid the others are brought; None: the one that the label lies on, else the first."""
    outside_values: tuple[float | None, ...] = ()
    """Per channel, the intensity where it covers nothing; None for its least one. Empty: None for all."""


def reading_of(description: DatasetDescription) -> CaseReading:
    """Return how the cases of a dataset are read."""
    reading = description.reading
    grid = None
    if reading.grid_channel is not None:
        # By index: what a channel is called does not change the arrays, and so must not change a case's address.
        names = [channel.name for channel in description.channels]
        grid = names.index(reading.grid_channel)
    return CaseReading(
        assumed_orientation=reading.assumed_orientation,
        paint_order=reading.paint_order,
        grid=grid,
        outside_values=tuple(map(_outside_value, description.channels)),
    )


def _outside_value(channel: Channel) -> float | None:
    """Return the intensity where a channel covers nothing; None for its least one."""
    if channel.outside_value is None and channel.kind == "ct":
        return OUTSIDE_CT
    return channel.outside_value


class Preprocessing(Record):
    """The part of a plan that decides a preprocessed case; its hash is part of the case's address."""

    store_version: int = 2
    """Raised when the same part would give other arrays."""
    reading: CaseReading = CaseReading()
    """How files are read."""
    cropping: bool = True
    """As in the plan."""
    orientation: str
    """As in the plan."""
    transpose: tuple[int, int, int]
    """As in the plan."""
    spacing_mm: tuple[float, ...]
    """Target spacing in the plan's axis order; of the last axes where there are fewer than three."""
    normalization: tuple[NormalizationSpec, ...]
    """One per channel."""
    resampling: ResamplingSpec
    """How the grid is changed."""


def preprocessing_of(plan: Plan, configuration: Configuration) -> Preprocessing:
    """Return the part of a plan that decides a preprocessed case."""
    return Preprocessing(
        reading=reading_of(plan.dataset),
        cropping=plan.cropping,
        orientation=plan.orientation,
        transpose=plan.transpose,
        spacing_mm=configuration.spacing_mm,
        normalization=configuration.normalization,
        resampling=configuration.resampling,
    )


class StoredCase(Record):
    """One preprocessed case, in the plan's axis order."""

    case_id: str
    """As in the dataset."""
    shape: tuple[int, int, int]
    """Voxels after resampling."""
    spacing_mm: tuple[float, float, float]
    """Voxel edges after resampling."""
    num_channels: int
    """Channels of the image."""
    class_voxels: tuple[int, ...]
    """Voxels of each class index, background included."""
    location_starts: tuple[int, ...]
    """Row of the locations at which each class index begins; their number at the end."""
    has_ignore_label: bool = False
    """Whether the dataset has an ignore label, so that background has locations too."""

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        """Refuse parts that contradict each other: readers index by them."""
        starts, voxels = self.location_starts, self.class_voxels
        if min(self.shape) < 1 or self.num_channels < 1 or min(voxels, default=0) < 0:
            raise ValueError("shape, num_channels and class_voxels hold numbers that no case has")
        if sum(voxels) > math.prod(self.shape):
            raise ValueError(f"class_voxels are {sum(voxels)} voxels together, more than the shape has")
        if len(starts) != len(voxels) + 1 or starts[0] != 0:
            raise ValueError(f"location_starts are {len(starts)}, expected one more than class_voxels, from 0 on")
        # Drawn without replacement, so that no class has more than it has voxels.
        drawn = [after - before for before, after in pairwise(starts)]
        if any(not 0 <= count <= most for count, most in zip(drawn, voxels, strict=True)):
            raise ValueError("location_starts fall, or leave a class more locations than it has voxels")
        return self
