"""The record of MedNeXt."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tumorseg.schema.network_base import MOST_SLOPE, Depths, StagedNetwork, check_blocks
from tumorseg.schema.network_parts import ActivationName, Parts

MOST_EXPANSION = 100
"""Published ones are 8 at most; beyond this it is a mistake."""
Expansions = tuple[Annotated[int, Field(ge=1, le=MOST_EXPANSION)], ...]


class MedNext(StagedNetwork, Parts):
    """ConvNeXt blocks in the shape of a U-Net: depthwise convolutions between which features are expanded and compressed.

    References:
        Roy et al., MedNeXt: transformer-driven scaling of ConvNets for medical image segmentation, MICCAI 2023.
    """

    name: Literal["mednext"] = "mednext"
    blocks_per_stage: Depths
    """Blocks of each stage: the encoder's from full resolution down, the bottleneck's, then the decoder's up again."""
    expansion_per_stage: Expansions
    """How many times its features a block of each of these stages widens them; also of the block that leads into the stage."""
    global_response_norm: bool = False
    """Whether expanded features compete for their strength over the whole patch (as in MedNeXt's second version)."""
    activation: ActivationName = "gelu"
    """What expanded features go through."""
    negative_slope: float = Field(default=0.01, ge=0, le=MOST_SLOPE)
    """Slope of the leaky ReLU below 0."""

    @property
    def num_supervised(self) -> int:
        """Return the number of segmentation heads: one a resolution, the bottleneck's included, or the last alone."""
        return self.num_stages if self.deep_supervision else 1

    @model_validator(mode="after")
    def _check_blocks(self) -> "MedNext":
        expected = 2 * self.num_stages - 1
        if {len(self.blocks_per_stage), len(self.expansion_per_stage)} != {expected}:
            raise ValueError(
                f"blocks_per_stage and expansion_per_stage need {expected} entries for {self.num_stages} stages: those of the "
                "encoder, of the bottleneck and of the decoder"
            )
        check_blocks(self.blocks_per_stage)
        return self
