"""Normalisation and resampling in a plan."""

from typing import Annotated, Literal

from pydantic import Field

from tumorseg.schema.base import Record


class CtNormalization(Record):
    """Clip to foreground percentiles of the whole dataset, then z-score with its foreground mean and std."""

    name: Literal["ct"] = "ct"
    lower_hu: float
    """Percentile 0.5 of foreground voxels."""
    upper_hu: float
    """Percentile 99.5 of foreground voxels."""
    mean_hu: float
    """Mean of foreground voxels."""
    std_hu: float = Field(ge=0)
    """Standard deviation of foreground voxels."""


class ZScoreNormalization(Record):
    """Subtract the image's own mean, divide by its own std."""

    name: Literal["zscore"] = "zscore"
    masked: bool
    """Use and change only voxels inside the non-zero mask; those outside stay 0."""


class RescaleNormalization(Record):
    """Map the image's own minimum and maximum to 0 and 1."""

    name: Literal["rescale_to_0_1"] = "rescale_to_0_1"


class RgbNormalization(Record):
    """Divide by 255."""

    name: Literal["rgb_to_0_1"] = "rgb_to_0_1"


class NoNormalization(Record):
    """Leave intensities alone."""

    name: Literal["none"] = "none"


NormalizationSpec = Annotated[
    CtNormalization | ZScoreNormalization | RescaleNormalization | RgbNormalization | NoNormalization,
    Field(discriminator="name"),
]


class ResamplingSpec(Record):
    """Interpolation orders for bringing images, labels and logits to another voxel grid."""

    image_order: Literal[0, 1, 3] = 3
    """Spline order for intensities."""
    label_order: Literal[0, 1] = 1
    """Spline order for each label's mask; a voxel goes to the label with the largest share of it."""
    logit_order: Literal[0, 1] = 1
    """Spline order for logits on their way back."""
    separate_axis_order: Literal[0, 1] = 0
    """Spline order along the coarse axis where that axis is resampled separately."""
    separate_axis_ratio: float = Field(default=3.0, gt=1)
    """An axis is resampled separately where its spacing is over this many times the finest."""
