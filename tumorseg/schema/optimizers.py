"""Optimizers and their schedules in a plan."""

from typing import Annotated, Literal

from pydantic import Field

from tumorseg.schema.base import Record

MOST_LR = 100.0
"""Above this no training converges."""

Decay = Annotated[float, Field(ge=0, lt=1)]


class Sgd(Record):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    lr: float = Field(default=1e-2, gt=0, le=MOST_LR)
    """Initial learning rate."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """Share of the last step that is kept."""
    nesterov: bool = True
    """Whether the gradient is taken after the momentum step."""
    weight_decay: float = Field(default=3e-5, ge=0)
    """L2 penalty."""


class AdamW(Record):
    """Adam with decoupled weight decay (Loshchilov 2019)."""

    name: Literal["adamw"] = "adamw"
    lr: float = Field(default=1e-3, gt=0, le=MOST_LR)
    """Initial learning rate."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the first and second moment."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the root of the second moment."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Decoupled decay per step, times lr."""


OptimizerSpec = Annotated[Sgd | AdamW, Field(discriminator="name")]


class PolySchedule(Record):
    """The lr times (1 - progress)^exponent, progress by finished epochs (nnU-Net's own)."""

    name: Literal["poly"] = "poly"
    exponent: float = Field(default=0.9, gt=0)
    """Shape of the decay."""


class PlateauSchedule(Record):
    """Lower the lr when the training loss stalls, then anneal linearly so that a planned end is reached.

    Lengths are shares of the planned training, so that a plan keeps its meaning when its length changes.
    """

    name: Literal["plateau"] = "plateau"
    factor: float = Field(default=0.6, gt=0, lt=1)
    """The lr is multiplied by this."""
    patience: float = Field(default=0.1, gt=0, le=1)
    """Share of the training over which the mean loss must have fallen below that of the share before; else the lr is lowered."""
    threshold: float = Field(default=0.05, ge=0, lt=1)
    """Share of the whole fall of that mean since the beginning that it must fall each time."""
    floor: float = Field(default=0.05, ge=0, le=1)
    """Share of the lr that stalls leave at least; only annealing goes below."""
    anneal_fraction: float = Field(default=0.2, ge=0, lt=1)
    """Last share of all iterations in which the lr falls linearly."""
    anneal_to: float = Field(default=0.01, ge=0, le=1)
    """Share of the lr before annealing that is left at the very end."""


ScheduleSpec = Annotated[PolySchedule | PlateauSchedule, Field(discriminator="name")]
