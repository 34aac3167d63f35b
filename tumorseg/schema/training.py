"""The training that a plan asks for: length, precision, seed."""

from typing import Annotated, Literal

from pydantic import Field

from tumorseg.schema.base import Record

Count = Annotated[int, Field(ge=1)]


class Precisions(Record):
    """Type of numbers in which a training step computes its convolutions, by kind of device; weights and sums are fp32."""

    cpu: Literal["fp32", "bf16"] = "fp32"
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
    gradient_clip_norm: float = Field(default=12.0, gt=0)
    """Gradients are scaled down to this norm."""
    max_hours: float | None = Field(default=None, gt=0)
    """Time for one fold's training without validation; train turns it into a number of iterations before its first step."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides initial weights, patches and augmentation."""
