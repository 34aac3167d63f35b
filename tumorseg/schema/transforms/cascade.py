"""Transforms of the previous segmentation of a cascade."""

from typing import Literal

from pydantic import Field, model_validator

from tumorseg.schema.transforms.base import Probability, TransformRecord


class PreviousMorphology(TransformRecord):
    """Erode, dilate, open or close labels of a cascade's previous segmentation, by a ball of voxels."""

    name: Literal["previous_morphology"] = "previous_morphology"
    probability: Probability = 0.4
    """Per sample."""
    label_probability: Probability = 0.5
    """Per label that the sample's previous segmentation has."""
    least_radius: int = Field(default=1, ge=1)
    """Least radius of the ball in voxels."""
    largest_radius: int = Field(default=8, ge=1)
    """Largest radius of the ball in voxels."""

    @model_validator(mode="after")
    def _check(self) -> "PreviousMorphology":
        if self.least_radius > self.largest_radius:
            raise ValueError(f"least_radius {self.least_radius} is above largest_radius {self.largest_radius}")
        return self


class PreviousRemoval(TransformRecord):
    """Remove a component of labels of a cascade's previous segmentation, as if it had been missed."""

    name: Literal["previous_removal"] = "previous_removal"
    probability: Probability = 0.2
    """Per sample."""
    label_probability: Probability = 0.5
    """Per label that the sample's previous segmentation has."""
    largest_share: float = Field(default=0.15, gt=0, le=1)
    """Components of this share of the patch or more stay."""
