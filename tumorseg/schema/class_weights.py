"""Class weights of a cross-entropy in a plan."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.extensions import ByName


class GivenWeights(Record):
    """A weight for each class or region."""

    name: Literal["given"] = "given"
    values: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    """In the order of the network's outputs: background and labels, or regions."""

    @model_validator(mode="after")
    def _check(self) -> "GivenWeights":
        if sum(self.values) <= 0:
            raise ValueError("class weights that are all 0 leave nothing to learn")
        return self


class CountedWeights(Record):
    """Weights from how many voxels each class or region has; on average over voxels they are 1."""

    of: Literal["dataset", "batch"] = "dataset"
    """Whether the voxels of the dataset are counted once, or those of each batch."""
    voxels: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Those of the dataset by output, as stored; null for the planner to fill in."""


class InverseFrequencyWeights(CountedWeights):
    """The inverse of each class's share of the voxels."""

    name: Literal["inverse_frequency"] = "inverse_frequency"
    power: float = Field(default=1.0, gt=0, le=2)
    """Of the share: 0.5 is milder."""


class EffectiveNumberWeights(CountedWeights):
    """(1 - beta) / (1 - beta^n) of the number of voxels n of each class (Cui 2019)."""

    name: Literal["effective_number"] = "effective_number"
    beta: float = Field(default=0.999999, ge=0, lt=1)
    """Between weights that are all alike (0) and the inverse of n (towards 1)."""


ClassWeights = Annotated[GivenWeights | InverseFrequencyWeights | EffectiveNumberWeights, ByName("class_weights")]
