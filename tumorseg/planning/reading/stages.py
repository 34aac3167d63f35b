"""Stages of a network, as they are told and drawn."""

from typing import Literal

from tumorseg.schema.base import Record

Side = Literal["encoder", "decoder"]
IMAGE = -1
"""Stands for the image in the place of a stage."""


class Field(Record):
    """Receptive field of one voxel of a stage."""

    voxels: tuple[int, ...]
    """Edge per axis, in voxels of the patch."""
    mm: tuple[float, ...]
    """The same on the configuration's grid."""


class Work(Record):
    """Operations of one kind that a stage is made of."""

    count: int
    """How many there are."""
    unit: str
    """Word for one of them, such as `convolution`."""
    kernel_size: tuple[int, ...]
    """Of their convolutions, the largest; empty where they have none, or where it is that of what follows."""
    has_smaller: bool = False
    """Whether some of them have a smaller one."""
    num_tokens: int | None = None
    """Among which attention is paid; null for anything else."""


class Flow(Record):
    """Features that go from one stage to another."""

    source: int
    """Index of the stage that makes them; -1 for the image."""
    target: int
    """Index of the stage that is given them."""


class Stage(Record):
    """One stage of the encoder or the decoder, on the plan's grid and in its batches."""

    side: Side
    """The last stage of the encoder is the bottleneck."""
    level: int
    """0 at full resolution."""
    shape: tuple[int, ...]
    """Voxels, or tokens, per axis."""
    features: int
    """Channels."""
    stride: tuple[int, ...]
    """Downsampling on entering an encoder's stage, upsampling on entering a decoder's."""
    work: tuple[Work, ...]
    """What it is made of, in the order in which it is told."""
    parameters: int
    """Weights and biases, those of its segmentation head included."""
    receptive_field: Field | None
    """After all its convolutions; null in the decoder, whose skip connections join several, and where attention is paid."""
    saved_bytes: int
    """Kept for the backward pass of one batch."""

    @property
    def has_attention(self) -> bool:
        """Tell whether tokens pay attention to each other in it."""
        return any(work.num_tokens is not None for work in self.work)
