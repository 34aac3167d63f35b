"""What the rest of a plan asks of every network, and the stages that U-Nets share."""

import math
from abc import abstractmethod
from itertools import chain
from typing import Annotated

from pydantic import Field, model_validator

from tumorseg.schema.base import Record

Axes = tuple[int, ...]
# Far beyond every network that was ever trained. Within them 64 bits count each tensor of weights, so that whatever has a valid
# plan can be outlined, in seconds.
MOST_KERNEL_EDGE = 99
"""Beyond which a kernel is a mistake, and its weights more than memory; also of a stride, which a kernel of its edges undoes."""
MOST_STAGES = 32
"""Of a network: halved so often, no patch has a voxel left."""
MOST_BLOCKS = 1000
"""Of all stages together: more are a mistake, and take minutes to be outlined."""
MOST_FEATURES = 2**16
"""Channels of anything in a network."""
MOST_SLOPE = 1.0
"""Of a leaky ReLU below 0: with a steeper one it is none."""
Counts = tuple[Annotated[int, Field(ge=1)], ...]
Features = tuple[Annotated[int, Field(ge=1, le=MOST_FEATURES)], ...]
"""Channels of each stage."""
Depths = tuple[Annotated[int, Field(ge=1, le=MOST_BLOCKS)], ...]
"""Blocks or convolutions of each stage."""


def check_kernel(*sizes: Axes) -> None:
    """Refuse kernels without a middle voxel, which half a kernel of padding needs to keep the size, and kernels beyond reason.

    Raises:
        ValueError: one is.
    """
    if any(edge < 1 or edge % 2 == 0 for edge in chain.from_iterable(sizes)):
        raise ValueError("kernel sizes must be odd")
    if max(chain.from_iterable(sizes)) > MOST_KERNEL_EDGE:
        raise ValueError(f"kernel sizes must be {MOST_KERNEL_EDGE} at most")


def check_strides(strides: tuple[Axes, ...]) -> None:
    """Refuse strides of stages between which features cannot pass down and up again.

    Raises:
        ValueError: they are such.
    """
    edges = list(chain.from_iterable(strides))
    # No decoder stage climbs beyond the first stage, whose resolution is that of the logits.
    if min(edges) < 1 or set(strides[0]) != {1}:
        raise ValueError("strides must be at least 1, and those of the first stage 1")
    if max(edges) > MOST_KERNEL_EDGE:
        raise ValueError(f"strides must be {MOST_KERNEL_EDGE} at most")


def check_blocks(*depths: tuple[int, ...]) -> None:
    """Refuse more blocks in all stages together than a network can have.

    Args:
        depths: blocks or convolutions of each stage of the encoder, then of the decoder.

    Raises:
        ValueError: there are more.
    """
    if (found := sum(chain.from_iterable(depths))) > MOST_BLOCKS:
        raise ValueError(f"all stages together have {found} blocks or convolutions, expected {MOST_BLOCKS} at most")


class Network(Record):
    """Base class: what the rest of a plan asks of every network."""

    @property
    @abstractmethod
    def num_axes(self) -> int:
        """Return 2 or 3."""

    @property
    @abstractmethod
    def divisors(self) -> tuple[int, ...]:
        """Return what each edge of a patch must be a multiple of."""

    @property
    @abstractmethod
    def num_supervised(self) -> int:
        """Return the number of resolutions whose logits are trained."""

    def patch_problem(self, patch_size: tuple[int, ...]) -> str | None:
        """Return why the network cannot be trained on patches of so many voxels; None if it can."""
        if self.num_axes != len(patch_size):
            return f"the network has {self.num_axes} axes, patch_size {len(patch_size)}"
        divisors = list(self.divisors)
        if any(size % divisor for size, divisor in zip(patch_size, divisors, strict=True)):
            return f"patch_size {list(patch_size)} must be multiples of {divisors}, the product of the strides"
        return None


class StagedNetwork(Network):
    """Base class of networks of stages, from full resolution down to the bottleneck and back."""

    features_per_stage: Features = Field(min_length=2, max_length=MOST_STAGES)
    """Channels of each stage."""
    strides: tuple[Axes, ...]
    """Downsampling per stage and axis (plan's axis order) on entering the stage; the first is 1."""
    kernel_sizes: tuple[Axes, ...]
    """Convolution kernel per stage and axis."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the variance by which features are normalised."""
    deep_supervision: bool = True
    """Whether each decoder stage has a segmentation head that is trained too."""

    @property
    def num_stages(self) -> int:
        """Return the number of resolutions."""
        return len(self.features_per_stage)

    @property
    def num_axes(self) -> int:
        """Return 2 or 3."""
        return len(self.strides[0])

    @property
    def divisors(self) -> tuple[int, ...]:
        """Return what each edge of a patch must be a multiple of."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))

    def patch_problem(self, patch_size: tuple[int, ...]) -> str | None:
        """Return why the network cannot be trained on patches of so many voxels; None if it can."""
        # Instance normalisation of a single voxel has no variance to divide by.
        if tuple(patch_size) == self.divisors:
            return f"patch_size {list(patch_size)} leaves one voxel at the bottleneck, which cannot be normalised"
        return super().patch_problem(patch_size)

    @model_validator(mode="after")
    def _check_stages(self) -> "StagedNetwork":
        if {len(self.strides), len(self.kernel_sizes)} != {self.num_stages}:
            raise ValueError("features_per_stage, strides and kernel_sizes differ in length")
        numbers_of_axes = {len(axes) for axes in (*self.strides, *self.kernel_sizes)}
        if numbers_of_axes not in ({2}, {3}):
            raise ValueError("every stride and kernel size needs 2 axes, or every one 3")
        check_strides(self.strides)
        check_kernel(*self.kernel_sizes)
        return self


class UNetTopology(StagedNetwork):
    """Base class of U-Nets."""

    decoder_convs_per_stage: Depths
    """Convolutions of each decoder stage, from the bottleneck upwards; one fewer than stages."""
    negative_slope: float = Field(default=0.01, ge=0, le=MOST_SLOPE)
    """Slope of the leaky ReLU below 0."""

    @property
    def num_supervised(self) -> int:
        """Return the number of segmentation heads: one a decoder stage, or the last alone."""
        return self.num_stages - 1 if self.deep_supervision else 1

    @model_validator(mode="after")
    def _check_decoder(self) -> "UNetTopology":
        if len(self.decoder_convs_per_stage) + 1 != self.num_stages:
            raise ValueError("features_per_stage and decoder_convs_per_stage (plus 1) differ in length")
        return self
