"""Optimizers and their schedules in a plan."""

from typing import Annotated, Literal

from pydantic import Field

from tumorseg.schema.base import Record

MOST_LR = 100.0
"""Above this no training converges."""

Decay = Annotated[float, Field(ge=0, lt=1)]
WarmUp = Annotated[float, Field(ge=0, lt=1)]


class AnyOptimizer(Record):
    """What all optimizers have."""

    name: str
    """Which one it is."""
    lr: float = Field(default=1e-3, gt=0, le=MOST_LR)
    """Initial learning rate."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Decoupled decay per step, times lr."""
    decay_norms_and_biases: bool = True
    """Whether the weight decay holds for norms and biases too, as in nnU-Net; otherwise for the weights of convolutions alone."""


class Sgd(AnyOptimizer):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    lr: float = Field(default=1e-2, gt=0, le=MOST_LR)
    """Initial learning rate."""
    weight_decay: float = Field(default=3e-5, ge=0)
    """L2 penalty."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """Share of the last step that is kept."""
    nesterov: bool = True
    """Whether the gradient is taken after the momentum step."""


class DecoupledAdam(AnyOptimizer):
    """What Adam and its kin have in common."""

    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the first and second moment."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the root of the second moment."""


class AdamW(DecoupledAdam):
    """Adam with decoupled weight decay (Loshchilov 2019)."""

    name: Literal["adamw"] = "adamw"


class RAdam(DecoupledAdam):
    """Adam whose first steps are held back until its second moment is reliable (Liu 2020), with decoupled weight decay."""

    name: Literal["radam"] = "radam"


OptimizerSpec = Annotated[Sgd | AdamW | RAdam, Field(discriminator="name")]


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


class WarmedUp(Record):
    """What schedules that may begin with a warm-up say of it."""

    name: str
    """Which one it is."""
    warmup_fraction: WarmUp = 0.0
    """First share of all iterations in which the lr rises linearly to the optimizer's."""
    warmup_from: float = Field(default=0.1, gt=0, le=1)
    """Share of the lr with which that begins."""


class CosineSchedule(WarmedUp):
    """After a warm-up, the lr falls along half a cosine (Loshchilov 2017, without restarts)."""

    name: Literal["cosine"] = "cosine"
    warmup_fraction: WarmUp = 0.05
    """First share of all iterations in which the lr rises linearly to the optimizer's."""
    anneal_to: float = Field(default=0.0, ge=0, le=1)
    """Share of the lr at the planned end, which the last step is just short of."""


class OneCycleSchedule(Record):
    """The lr rises from a share of the optimizer's to it, then falls to almost nothing, both along half a cosine (Smith 2018)."""

    name: Literal["one_cycle"] = "one_cycle"
    peak_at: float = Field(default=0.3, gt=0, lt=1)
    """Share of all iterations at whose end the lr is the optimizer's."""
    initial_divisor: float = Field(default=25.0, ge=1)
    """The first step's lr is the optimizer's divided by this."""
    final_divisor: float = Field(default=1e4, ge=1)
    """The last step's lr is the first one's divided by this."""


class ConstantSchedule(WarmedUp):
    """The optimizer's lr throughout, after a warm-up if there is one."""

    name: Literal["constant"] = "constant"


ScheduleSpec = Annotated[
    PolySchedule | PlateauSchedule | CosineSchedule | OneCycleSchedule | ConstantSchedule, Field(discriminator="name")
]
