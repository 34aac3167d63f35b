"""The fingerprint: measurements of a dataset, and all that planning may look at."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.dataset import DatasetDescription, FileName, LabelDoubt, PlainName, repeated_values

Voxels = Annotated[int, Field(ge=1)]
Shape3 = Annotated[tuple[Voxels, Voxels, Voxels], Field(description="voxels (Z, Y, X), canonical orientation")]
Positive = Annotated[float, Field(gt=0)]


class IntensityStatistics(Record):
    """One channel's intensities over foreground voxels, each case weighing the same."""

    mean: float
    """In the image's own unit (HU for CT), as all of these."""
    median: float
    """Percentile 50."""
    std: float = Field(ge=0)
    """Standard deviation of the population."""
    min: float
    """Least intensity drawn."""
    max: float
    """Greatest intensity drawn."""
    percentile_00_5: float
    """Percentile 0.5."""
    percentile_99_5: float
    """Percentile 99.5."""


class LabelPlace(Record):
    """Position of a label in a case: mm along (Z, Y, X) of the canonical orientation, from the first voxel's centre."""

    centroid_mm: tuple[float, float, float]
    """Mean of its voxels."""
    low_mm: tuple[float, float, float]
    """Its first voxel along each axis."""
    high_mm: tuple[float, float, float]
    """Its last voxel along each axis."""


class ImageDoubt(Record):
    """Doubt about the intensities of one image."""

    channel: str
    """Its name."""
    kind: Literal["not_hounsfield", "constant"]
    """What is wrong: CT that cannot be in Hounsfield units, one single value in all voxels."""
    message: str
    """What was found."""


class CaseMeasurement(Record):
    """One case's geometry, in canonical orientation."""

    case_id: FileName
    """As in the dataset."""
    spacing_mm: tuple[Positive, Positive, Positive]
    """Voxel edge (Z, Y, X) in mm."""
    shape: Shape3
    """Voxels (Z, Y, X) as stored."""
    shape_after_crop: Shape3
    """Voxels (Z, Y, X) of the box around everything that is not 0 in some channel."""
    label_voxels: dict[str, int] | None = None
    """Voxels of each label, background left out."""
    label_voxels_cropped: dict[str, int] | None = None
    """Voxels of each label outside `shape_after_crop`'s box, of those labels that have some."""
    label_places: dict[str, LabelPlace] | None = None
    """Where each label lies; those without a voxel are left out."""
    channel_minima: dict[str, float] | None = None
    """Least intensity of each channel's whole image."""
    uncovered_voxels: dict[str, int] | None = None
    """Voxels of the case's grid that a channel does not cover, of those channels that leave some out."""
    grid_channel: str | None = None
    """Channel on whose grid the label lies; null where all channels lie on one grid."""
    unplaced: tuple[str, ...] = ()
    """Names of its files that state no orientation."""
    image_doubts: tuple[ImageDoubt, ...] | None = None
    """What speaks against its intensities; null: nobody looked."""
    run_lengths_mm: dict[str, tuple[Positive, Positive, Positive]] | None = None
    """Mean length of the unbroken runs of each label, or of each region where there are any, along (Z, Y, X) in mm;
    those without a voxel are left out."""
    content_hash: str | None = None
    """Hash of the bytes of the case's files."""
    group: PlainName | None = None
    """As in the dataset."""
    site: PlainName | None = None
    """As in the dataset."""


class Fingerprint(Record):
    """The fingerprint document."""

    schema_version: Literal[1]
    """Of this document's form."""
    dataset: DatasetDescription
    """What was measured."""
    content_hash: str | None = None
    """Hash of all cases' files; null when the images were not read."""
    cases: tuple[CaseMeasurement, ...] = Field(min_length=1)
    """In the dataset's order."""
    intensities: dict[str, IntensityStatistics]
    """By channel name."""
    median_relative_size_after_cropping: float = Field(gt=0, le=1)
    """Median over cases of cropped over stored number of voxels."""
    excluded: tuple[str, ...] = ()
    """Ids of cases that were left out (`--exclude`)."""
    doubts: tuple[LabelDoubt, ...] = ()
    """What speaks against labels that were found in files, not stated."""

    @model_validator(mode="after")
    def _check(self) -> "Fingerprint":
        if repeated := repeated_values(case.case_id for case in self.cases):
            raise ValueError(f"case_id given twice: {repeated[:5]}")
        expected = {channel.name for channel in self.dataset.channels}
        if set(self.intensities) != expected:
            raise ValueError(f"intensities are of {sorted(self.intensities)}, channels are {sorted(expected)}")
        return self
