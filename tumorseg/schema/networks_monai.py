"""Networks that are built through MONAI."""

import math
from itertools import chain
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tumorseg.schema.network_base import (
    MOST_FEATURES,
    MOST_STAGES,
    Axes,
    Counts,
    Depths,
    Features,
    Network,
    UNetTopology,
    check_blocks,
    check_kernel,
    check_strides,
)

TOKEN_EDGE = 2
"""Voxels along each edge of one token of a Swin UNETR, before tokens are merged."""
UNETR_TOKEN_EDGE = 16
"""Voxels along each edge of one token of a UNETR."""
NUM_DEPTHS = 4
"""Resolutions between which features pass in DiNTS, from half of the image's down."""
MOST_DOUBLED = MOST_FEATURES // 2**4
"""Channels at full resolution of a network that doubles them four times."""
MOST_TOKENS = 16**3
"""Of a window: published ones have some hundred. Each block keeps a number for every pair of them."""
MOST_PATCH_EDGE = 2**16
"""Voxels along an edge of a patch each of whose tokens has a learned position."""
FourCounts = Annotated[Counts, Field(min_length=4, max_length=4)]
FourDepths = Annotated[Depths, Field(min_length=4, max_length=4)]


class SwinUnetr(Network):
    """An encoder of attention within windows, each stage behind a residual convolution block (Swin UNETR, version 2)."""

    name: Literal["swin_unetr"] = "swin_unetr"
    features: int = Field(default=48, ge=12, le=MOST_DOUBLED, multiple_of=12)
    """Channels at full resolution and of the first tokens; each later stage has twice as many as the one before."""
    depths: FourDepths = (2, 2, 2, 2)
    """Attention blocks of each stage."""
    heads: FourCounts = (3, 6, 12, 24)
    """Attention heads of each stage."""
    window: Axes
    """Tokens along each axis of the window within which attention is paid; a token has 2 voxels at first."""
    convolve_first: bool = True
    """Whether each stage begins with a residual convolution block (version 2); weights that are published have none."""

    @property
    def num_axes(self) -> int:
        """Return 2 or 3."""
        return len(self.window)

    @property
    def divisors(self) -> tuple[int, ...]:
        """Return 32: tokens of 2 voxels are merged four times."""
        return (TOKEN_EDGE**5,) * self.num_axes

    @property
    def num_supervised(self) -> int:
        """Return 1."""
        return 1

    def patch_problem(self, patch_size: tuple[int, ...]) -> str | None:
        """Return why the network cannot be trained on patches of so many voxels; None if it can."""
        if (problem := super().patch_problem(patch_size)) is not None:
            return problem
        tokens = [edge // TOKEN_EDGE for edge in patch_size]
        if any(edge > most for edge, most in zip(self.window, tokens, strict=True)):
            return (
                f"a window of {list(self.window)} tokens is larger than patch_size {list(patch_size)}, which has {tokens}; "
                "plan a window of at most that"
            )
        return _bottleneck_problem(patch_size, self.divisors)

    @model_validator(mode="after")
    def _check(self) -> "SwinUnetr":
        if self.num_axes not in (2, 3) or min(self.window) < 1:
            raise ValueError("window needs 2 or 3 axes of at least 1 token each")
        if (tokens := math.prod(self.window)) > MOST_TOKENS:
            raise ValueError(f"a window of {list(self.window)} has {tokens} tokens, expected {MOST_TOKENS} at most")
        check_blocks(self.depths)
        for stage, heads in enumerate(self.heads):
            if self.features * 2**stage % heads:
                raise ValueError(f"heads {list(self.heads)} do not divide {self.features} features, doubled each stage")
        return self


class Unetr(Network):
    """A vision transformer as encoder, whose learned positions fix the patch (UNETR)."""

    name: Literal["unetr"] = "unetr"
    patch_size: Axes
    """Voxels along each axis of the one patch that the network takes."""
    features: int = Field(default=16, ge=1, le=MOST_DOUBLED)
    """Channels at full resolution; twice as many at each coarser one."""
    hidden: int = Field(default=768, ge=1, le=MOST_FEATURES)
    """Channels of a token."""
    hidden_between: int = Field(default=3072, ge=1, le=MOST_FEATURES)
    """Channels between the two layers that follow attention."""
    heads: int = Field(default=12, ge=1)
    """Attention heads."""

    @property
    def num_axes(self) -> int:
        """Return 2 or 3."""
        return len(self.patch_size)

    @property
    def divisors(self) -> tuple[int, ...]:
        """Return 16, the edge of a token."""
        return (UNETR_TOKEN_EDGE,) * self.num_axes

    @property
    def num_supervised(self) -> int:
        """Return 1."""
        return 1

    def patch_problem(self, patch_size: tuple[int, ...]) -> str | None:
        """Return why the network cannot be trained on patches of so many voxels; None if it can."""
        if tuple(patch_size) != self.patch_size:
            return (
                f"the network has learned positions for patches of {list(self.patch_size)} voxels, patch_size is "
                f"{list(patch_size)}; plan both alike"
            )
        return super().patch_problem(patch_size)

    @model_validator(mode="after")
    def _check(self) -> "Unetr":
        if self.num_axes not in (2, 3) or any(edge < 1 or edge % UNETR_TOKEN_EDGE for edge in self.patch_size):
            raise ValueError(f"patch_size needs 2 or 3 axes, multiples of {UNETR_TOKEN_EDGE}")
        if max(self.patch_size) > MOST_PATCH_EDGE:
            raise ValueError(f"patch_size {list(self.patch_size)} must be {MOST_PATCH_EDGE} at most along each axis")
        if self.hidden % self.heads:
            raise ValueError(f"{self.heads} heads do not divide {self.hidden} hidden channels")
        return self


class SegResNet(Network):
    """Residual blocks that normalise first, an encoder that is deeper than its decoder (SegResNet of MONAI's Auto3DSeg)."""

    name: Literal["segresnet"] = "segresnet"
    features: int = Field(default=32, ge=1, le=MOST_FEATURES)
    """Channels at full resolution; twice as many at each coarser one."""
    blocks_per_stage: Depths = Field(default=(1, 2, 2, 4), min_length=2, max_length=MOST_STAGES)
    """Residual blocks of each stage of the encoder."""
    decoder_blocks_per_stage: Depths = (1, 1, 1)
    """Residual blocks of each stage of the decoder, from the bottleneck upwards; one fewer than stages."""
    halved_first: tuple[Annotated[int, Field(ge=0, le=MOST_STAGES)], ...]
    """Per axis, how often it is halved, and convolved, before the coarsest axis is; 0 for the coarsest."""
    deep_supervision: bool = True
    """Whether each decoder stage has a segmentation head that is trained too."""

    @property
    def num_axes(self) -> int:
        """Return 2 or 3."""
        return len(self.halved_first)

    @property
    def strides(self) -> tuple[Axes, ...]:
        """Return the downsampling per stage and axis on entering the stage; the first is 1."""
        alone = max(self.halved_first)
        strides = [(1,) * self.num_axes]
        for step in range(len(self.blocks_per_stage) - 1):
            strides.append(tuple(2 if step >= alone or step < own else 1 for own in self.halved_first))
        return tuple(strides)

    @property
    def divisors(self) -> tuple[int, ...]:
        """Return what each edge of a patch must be a multiple of."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))

    @property
    def num_supervised(self) -> int:
        """Return the number of segmentation heads: one a decoder stage, or the last alone."""
        return len(self.decoder_blocks_per_stage) if self.deep_supervision else 1

    def patch_problem(self, patch_size: tuple[int, ...]) -> str | None:
        """Return why the network cannot be trained on patches of so many voxels; None if it can."""
        return super().patch_problem(patch_size) or _bottleneck_problem(patch_size, self.divisors)

    @model_validator(mode="after")
    def _check(self) -> "SegResNet":
        if len(self.decoder_blocks_per_stage) != len(self.blocks_per_stage) - 1:
            raise ValueError("decoder_blocks_per_stage needs one entry fewer than blocks_per_stage")
        if self.num_axes not in (2, 3) or min(self.halved_first) != 0:
            raise ValueError("halved_first needs 2 or 3 axes, and 0 for the coarsest")
        coarsest = self.features * 2 ** (len(self.blocks_per_stage) - 1)
        if coarsest > MOST_FEATURES:
            raise ValueError(
                f"{self.features} features, doubled each stage, are {coarsest} at the bottleneck, expected {MOST_FEATURES} at most"
            )
        check_blocks(self.blocks_per_stage, self.decoder_blocks_per_stage)
        return self


class DynUNet(UNetTopology):
    """MONAI's U-Net after nnU-Net's: convolutions without bias, plain or residual ones in the encoder."""

    name: Literal["dynunet"] = "dynunet"
    residual: bool = False
    """Whether a stage of the encoder is one residual block of two convolutions, rather than two convolutions."""

    @model_validator(mode="after")
    def _check_dynunet(self) -> "DynUNet":
        if self.num_stages < 3:
            raise ValueError("dynunet needs 3 stages at least")
        if set(self.decoder_convs_per_stage) != {2}:
            raise ValueError("each decoder stage of dynunet has 2 convolutions")
        # MONAI pads by half of what a kernel reaches beyond its stride.
        reaches = zip(chain.from_iterable(self.kernel_sizes), chain.from_iterable(self.strides), strict=True)
        if any(stride > size + 1 for size, stride in reaches):
            raise ValueError("a stride of dynunet is at most its kernel plus 1")
        # The same, of the kernel of one voxel on the shortcut around a block.
        if self.residual and max(chain.from_iterable(self.strides)) > 2:
            raise ValueError("a stride of a residual dynunet is 2 at most; plan residual=false, or smaller strides")
        return self


class AttentionUnet(Network):
    """A U-Net whose skip connections pass gates, which the features from below open (Attention U-Net).

    Its norms take statistics of each patch, unlike the published ones: batches here are of two patches.
    """

    name: Literal["attention_unet"] = "attention_unet"
    features_per_stage: Features = Field(min_length=2, max_length=MOST_STAGES)
    """Channels of each stage."""
    strides: tuple[Axes, ...]
    """Downsampling per stage and axis (plan's axis order) on entering the stage; the first is 1."""
    kernel_size: Axes
    """Convolution kernel per axis, of all stages."""

    @property
    def num_axes(self) -> int:
        """Return 2 or 3."""
        return len(self.kernel_size)

    @property
    def divisors(self) -> tuple[int, ...]:
        """Return what each edge of a patch must be a multiple of."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))

    @property
    def num_supervised(self) -> int:
        """Return 1."""
        return 1

    def patch_problem(self, patch_size: tuple[int, ...]) -> str | None:
        """Return why the network cannot be trained on patches of so many voxels; None if it can."""
        return super().patch_problem(patch_size) or _bottleneck_problem(patch_size, self.divisors)

    @model_validator(mode="after")
    def _check(self) -> "AttentionUnet":
        if len(self.strides) != len(self.features_per_stage):
            raise ValueError("features_per_stage and strides differ in length")
        if self.num_axes not in (2, 3) or {len(stride) for stride in self.strides} != {self.num_axes}:
            raise ValueError("kernel_size and every stride need 2 axes, or all 3")
        check_strides(self.strides)
        check_kernel(self.kernel_size)
        # Gates have half the features of their stage.
        if min(self.features_per_stage[:-1]) < 2:
            raise ValueError("every stage above the bottleneck needs 2 features at least")
        return self


class Dints(Network):
    """The network that DiNTS's search found on the Medical Decathlon's pancreas: 12 layers of cells on four resolutions."""

    name: Literal["dints"] = "dints"
    features: int = Field(default=32, ge=2, le=MOST_DOUBLED, multiple_of=2)
    """Channels at full resolution; twice as many at each coarser one."""

    @property
    def num_axes(self) -> int:
        """Return 3: cells for planes were never searched."""
        return 3

    @property
    def divisors(self) -> tuple[int, ...]:
        """Return 16: the coarsest resolution is the image's, halved four times."""
        return (2**NUM_DEPTHS,) * self.num_axes

    @property
    def num_supervised(self) -> int:
        """Return 1."""
        return 1

    def patch_problem(self, patch_size: tuple[int, ...]) -> str | None:
        """Return why the network cannot be trained on patches of so many voxels; None if it can."""
        return super().patch_problem(patch_size) or _bottleneck_problem(patch_size, self.divisors)


def _bottleneck_problem(patch_size: tuple[int, ...], divisors: tuple[int, ...]) -> str | None:
    # Instance normalisation of a single voxel has no variance to divide by.
    if tuple(patch_size) == divisors:
        return f"patch_size {list(patch_size)} leaves one voxel at the bottleneck, which cannot be normalised"
    return None


MonaiNetwork = SwinUnetr | Unetr | SegResNet | Dints | DynUNet | AttentionUnet
"""All of them."""
