"""Weightings: rules by which the weights of a loss's components follow its course."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.extensions import ByName


class FixedWeighting(Record):
    """The components' own weights, constant or scheduled."""

    name: Literal["fixed"] = "fixed"


class UncertaintyWeighting(Record):
    """Weights exp(-s) that are learnt, with s added to the loss (Kendall 2018)."""

    name: Literal["uncertainty"] = "uncertainty"
    lr: float = Field(default=1e-3, gt=0, le=1)
    """Learning rate of the log-variances s, which begin at 0."""


class DynamicAverageWeighting(Record):
    """Each epoch, components that fell less in the epoch before weigh more (DWA, Liu 2019); on average the factor is 1."""

    name: Literal["dynamic_average"] = "dynamic_average"
    temperature: float = Field(default=2.0, gt=0)
    """The higher, the more alike the weights."""


class AdaptiveWeighting(Record):
    """At each step, components that fell less lately weigh more; on average the factor is 1."""

    name: Literal["adaptive"] = "adaptive"
    memory: float = Field(default=0.99, gt=0, lt=1)
    """Share of the running mean that is kept at each step: lately."""
    long_memory: float = Field(default=0.999, gt=0, lt=1)
    """The same of the running mean that it is compared with: before."""
    temperature: float = Field(default=0.5, gt=0)
    """The higher, the more alike the weights."""
    least: float = Field(default=0.2, ge=0, le=1)
    """No component's factor falls below."""

    @model_validator(mode="after")
    def _check(self) -> "AdaptiveWeighting":
        if self.memory >= self.long_memory:
            raise ValueError(
                f"memory {self.memory:g} must be below long_memory {self.long_memory:g}: lately against before"
            )
        return self


LossWeighting = Annotated[
    FixedWeighting | UncertaintyWeighting | DynamicAverageWeighting | AdaptiveWeighting, ByName("weighting")
]
