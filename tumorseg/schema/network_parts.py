"""Parts of a network that its topology leaves open."""

import math
from typing import Literal

from pydantic import Field, model_validator

from tumorseg.schema.base import Record

Norm = Literal["instance", "group", "batch", "layer"]
ActivationName = Literal["leaky_relu", "relu", "gelu", "silu"]
Attention = Literal["none", "squeeze_excitation", "cbam"]
NORM_GROUPS = 8
ATTENTION_REDUCTION = 16
LEAST_ATTENTION_FEATURES = 8
"""With one or two, of which none may respond to any image, a weighting would often stay what it is."""
CBAM_KERNEL = 7
"""Voxels per axis from which `cbam` weights a voxel, as published."""


class Parts(Record):
    """Base class of networks whose normalisation, activation, attention and regularisation are fields of the plan."""

    norm: Norm = "instance"
    """Over what features are normalised: space (`instance`), space and groups of channels (`group`), space and the patches of a batch
    that lie on one GPU at once (`batch`), or the channels of each voxel (`layer`)."""
    norm_groups: int = Field(default=NORM_GROUPS, ge=1)
    """Groups of group normalisation; features that it does not divide are put into as many as their greatest common divisor."""
    activation: ActivationName = "leaky_relu"
    """What comes after a normalisation."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance with which each channel of a block's result is set to 0 for a patch while training."""
    stochastic_depth: float = Field(default=0.0, ge=0, lt=1)
    """Chance with which the last block is passed over for a patch while training; it rises linearly from block to block."""
    attention: Attention = "none"
    """How channels and, with `cbam`, voxels are weighted: after the convolutions of a stage, between the two of a residual block, at the
    end of a MedNeXt block."""
    attention_reduction: int = Field(default=ATTENTION_REDUCTION, ge=1)
    """How many times fewer features than channels such a weighting is made from; 8 are used at least, or as many as there are channels."""
    attention_gates: bool = False
    """Whether the decoder weights the voxels of each skip connection by what it has seen below."""

    def attention_features(self, channels: int) -> int:
        """Return the features from which a block weights so many channels."""
        least = min(channels, LEAST_ATTENTION_FEATURES)
        return max(math.ceil(channels / self.attention_reduction), least)

    def gate_features(self, channels: int) -> int:
        """Return the features from which a gate weights the voxels of so many channels: half of them."""
        return math.ceil(channels / 2)

    @model_validator(mode="after")
    def _check_effects(self) -> "Parts":
        if self.norm != "group" and self.norm_groups != NORM_GROUPS:
            raise ValueError(f"norm_groups is {self.norm_groups}, but norm is {self.norm}; give norm=group with it")
        if self.attention == "none" and self.attention_reduction != ATTENTION_REDUCTION:
            raise ValueError(
                f"attention_reduction is {self.attention_reduction}, but attention is none; give attention with it"
            )
        return self
