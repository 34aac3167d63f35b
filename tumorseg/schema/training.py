"""The training that a plan asks for: length, precision, seed."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.distillation import Distillation

Count = Annotated[int, Field(ge=1)]


class Precisions(Record):
    """Type of numbers in which a training step computes its convolutions, by kind of device; weights and sums are fp32."""

    cpu: Literal["fp32", "bf16"] = "bf16"
    """On a processor; one that does not compute in bf16 takes fp32 instead, and says so."""
    cuda: Literal["fp32", "fp16", "bf16"] = "fp16"
    """On a GPU; fp16 with a gradient scaler."""


class OnGpu(Record):
    """Whether something is done on a GPU; on a processor it is settled."""

    cuda: bool = False
    """On a GPU."""


class Switches(Record):
    """Whether something is done, by kind of device."""

    cpu: bool = False
    """On a processor."""
    cuda: bool = False
    """On a GPU."""


class FineTuning(Record):
    """How a training that begins with the weights of another one goes easy on them."""

    freeze: tuple[str, ...] = ()
    """Parts of the network that are left as they are at first: `encoder`, `decoder`, or beginnings of names of its parameters
    (`stem`, `stages.0`)."""
    freeze_fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the training's steps for which they are; 1: for good."""
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    """First share of the training's steps over which the lr rises linearly to the schedule's."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """The lr of each part of a U-Net, from the heads back to the stem, is this times that of the part after it; 1: the same lr
    everywhere."""
    swin_merging: Literal["before_monai_1_5", "monai_1_5"] = "before_monai_1_5"
    """Which tokens a Swin UNETR merged of which MONAI's weights are given, in a file that does not tell: all published ones are of
    before 1.5, where two of eight were taken twice and two never. Weights with a plan merge as here."""

    @property
    def needs_weights(self) -> bool:
        """Return whether it makes sense only with weights that were trained before."""
        return bool(self.freeze) or self.layer_decay < 1


class Ema(Record):
    """An exponential moving average of the weights, updated after each step that is taken."""

    decay: float = Field(default=0.999, gt=0, lt=1)
    """Share of the average that is kept at a step; after t steps at most (1 + t) / (10 + t)."""


class EarlyStop(Record):
    """End a training sooner once its training loss stalls: in a tail in which the lr falls linearly."""

    patience: float = Field(default=0.2, gt=0, le=0.5)
    """Share of the planned epochs over which the mean loss must have fallen below that of the share before."""
    threshold: float = Field(default=0.05, ge=0, lt=1)
    """Share of the whole fall of that mean since the beginning that it must fall each time."""
    anneal_fraction: float = Field(default=0.25, gt=0, le=1)
    """Length of the tail as a share of the epochs so far; where that is no sooner than planned, the plan stands."""
    anneal_to: float = Field(default=0.01, ge=0, le=1)
    """Share of the lr before the tail that its last step has."""


class Extension(Record):
    """Further epochs of a training that had reached its end, in which the lr falls linearly."""

    after_epochs: Count
    """Epochs that the training had at its earlier end, over which schedule and loss are spread."""
    lr_from: float = Field(default=0.1, gt=0, le=1)
    """Share of the optimizer's lr that they begin with."""
    lr_to: float = Field(default=0.001, ge=0, le=1)
    """Share of the optimizer's lr that their last step has."""


class Training(Record):
    """Length, precision and seed of the training of every configuration."""

    epochs: Count
    """Epochs; after each one there is a validation and a checkpoint."""
    iterations_per_epoch: Count
    """Steps of the optimizer in an epoch."""
    validation_iterations: Count
    """Batches of held-out patches after each epoch."""
    precision: Precisions = Precisions()
    """Autocast type of training steps."""
    channels_last: OnGpu = OnGpu()
    """Whether weights, and the images that go in, lie with their channels innermost, as weights on a processor always do."""
    compile: Switches = Switches()
    """Whether torch.compile fuses the network's operations; where it cannot, the network runs as it is."""
    gradient_clip_norm: float | None = Field(default=12.0, gt=0)
    """Gradients are scaled down to this norm, those of learnt loss weights by themselves; null: never."""
    ema: Ema | None = None
    """Moving average of the weights, which is what validates, is kept as the best, and predicts; null: the weights themselves."""
    early_stop: EarlyStop | None = None
    """When the training ends sooner than planned; null: never."""
    extension: Extension | None = None
    """What `train --epochs` added to a training that had reached its end, in a fold's own plan; null: nothing."""
    max_hours: float | None = Field(default=None, gt=0)
    """Time for one fold's training without validation; train turns it into a number of iterations before its first step."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides initial weights, patches and augmentation."""
    restart_on_collapse: bool = True
    """Whether a training begins again, once and with another seed, if a label or region is never found in training patches by its half
    (fp32 and fp16 alike; a short training is not judged, and one with `max_hours` only told of it)."""
    fine_tuning: FineTuning | None = None
    """What is frozen or trained more slowly where the training begins with given weights (`train --init`)."""
    distillation: Distillation | None = None
    """How it learns from teachers, which `distill` names; null: from the reference alone."""

    @property
    def planned_epochs(self) -> int:
        """Return the epochs over which schedule and loss are spread: all but those of an extension."""
        return self.epochs if self.extension is None else self.extension.after_epochs

    @model_validator(mode="after")
    def _check_extension(self) -> "Training":
        if self.extension is not None and self.extension.after_epochs >= self.epochs:
            raise ValueError(
                f"extension.after_epochs is {self.extension.after_epochs} and epochs {self.epochs}; an extension needs more epochs than it comes after"
            )
        return self
