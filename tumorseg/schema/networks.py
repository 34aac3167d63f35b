"""What a plan can say of a network."""

import math
from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.extensions import EXTERNAL, External, by_name

Axes = tuple[int, ...]
Counts = tuple[Annotated[int, Field(ge=1)], ...]


class UNetTopology(Record):
    """What every U-Net has: stages from full resolution down to the bottleneck."""

    features_per_stage: Counts = Field(min_length=2)
    """Channels of each stage."""
    strides: tuple[Axes, ...]
    """Downsampling per stage and axis (plan's axis order) on entering the stage; the first is 1."""
    kernel_sizes: tuple[Axes, ...]
    """Convolution kernel per stage and axis."""
    decoder_convs_per_stage: Counts
    """Convolutions of each decoder stage, from the bottleneck upwards; one fewer than stages."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the variance in instance normalisation."""
    negative_slope: float = Field(default=0.01, ge=0)
    """Slope of the leaky ReLU below 0."""
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

    @model_validator(mode="after")
    def _check(self) -> "UNetTopology":
        counts = {len(self.strides), len(self.kernel_sizes), len(self.decoder_convs_per_stage) + 1}
        if counts != {self.num_stages}:
            raise ValueError(
                "features_per_stage, strides, kernel_sizes and decoder_convs_per_stage (plus 1) differ in length"
            )
        if {len(axes) for axes in (*self.strides, *self.kernel_sizes)} not in ({2}, {3}):
            raise ValueError("every stride and kernel size needs 2 axes, or every one 3")
        if any(stride < 1 for axes in self.strides for stride in axes) or set(self.strides[0]) != {1}:
            raise ValueError("strides must be at least 1, and those of the first stage 1")
        if any(kernel < 1 or kernel % 2 == 0 for axes in self.kernel_sizes for kernel in axes):
            raise ValueError("kernel sizes must be odd")
        return self


class PlainUNet(UNetTopology):
    """Convolution, instance norm, leaky ReLU; strided convolutions down, transposed ones up (nnU-Net's own)."""

    name: Literal["plain_unet"] = "plain_unet"
    convs_per_stage: Counts
    """Convolutions of each encoder stage."""

    @model_validator(mode="after")
    def _check_encoder(self) -> "PlainUNet":
        if len(self.convs_per_stage) != self.num_stages:
            raise ValueError(f"convs_per_stage has {len(self.convs_per_stage)} entries for {self.num_stages} stages")
        return self


class ResidualUNet(UNetTopology):
    """The same decoder on an encoder of residual blocks (nnU-Net's ResEnc)."""

    name: Literal["residual_unet"] = "residual_unet"
    blocks_per_stage: Counts
    """Residual blocks of each encoder stage."""

    @model_validator(mode="after")
    def _check_encoder(self) -> "ResidualUNet":
        if len(self.blocks_per_stage) != self.num_stages:
            raise ValueError(f"blocks_per_stage has {len(self.blocks_per_stage)} entries for {self.num_stages} stages")
        return self


NetworkSpec = Annotated[
    Annotated[PlainUNet, Tag("plain_unet")]
    | Annotated[ResidualUNet, Tag("residual_unet")]
    | Annotated[External, Tag(EXTERNAL)],
    by_name("network", "plain_unet", "residual_unet"),
]
