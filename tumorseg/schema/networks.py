"""Networks that a plan can name."""

from typing import Annotated, Literal

from pydantic import model_validator

from tumorseg.schema.extensions import ByName, External, records_of
from tumorseg.schema.network_base import Axes, Depths, Network, StagedNetwork, UNetTopology, check_blocks
from tumorseg.schema.network_parts import Parts
from tumorseg.schema.networks_mednext import MedNext
from tumorseg.schema.networks_monai import MonaiNetwork

__all__ = [
    "NETWORKS",
    "Axes",
    "KnownNetwork",
    "MedNext",
    "Network",
    "NetworkSpec",
    "OwnUNet",
    "Parts",
    "PlainUNet",
    "ResidualUNet",
    "StagedNetwork",
    "UNetTopology",
]


class OwnUNet(UNetTopology, Parts):
    """Base class of U-Nets that are built here."""


class PlainUNet(OwnUNet):
    """Convolution, normalisation, activation; strided convolutions down, transposed ones up (nnU-Net's own)."""

    name: Literal["plain_unet"] = "plain_unet"
    convs_per_stage: Depths
    """Convolutions of each encoder stage."""

    @model_validator(mode="after")
    def _check_encoder(self) -> "PlainUNet":
        if len(self.convs_per_stage) != self.num_stages:
            raise ValueError(f"convs_per_stage has {len(self.convs_per_stage)} entries for {self.num_stages} stages")
        check_blocks(self.convs_per_stage, self.decoder_convs_per_stage)
        if self.stochastic_depth > 0:
            raise ValueError(
                f"stochastic_depth is {self.stochastic_depth}, but no convolution of a plain_unet can be passed over; give 0, or "
                "another network"
            )
        return self


class ResidualUNet(OwnUNet):
    """The same decoder on an encoder of residual blocks (nnU-Net's ResEnc)."""

    name: Literal["residual_unet"] = "residual_unet"
    blocks_per_stage: Depths
    """Residual blocks of each encoder stage."""

    @model_validator(mode="after")
    def _check_encoder(self) -> "ResidualUNet":
        if len(self.blocks_per_stage) != self.num_stages:
            raise ValueError(f"blocks_per_stage has {len(self.blocks_per_stage)} entries for {self.num_stages} stages")
        check_blocks(self.blocks_per_stage, self.decoder_convs_per_stage)
        return self


KnownNetwork = PlainUNet | ResidualUNet | MedNext | MonaiNetwork
"""Networks that tumorseg builds, itself or through MONAI."""
NetworkSpec = Annotated[KnownNetwork | External, ByName("network")]
NETWORKS: dict[str, type[Network]] = records_of(KnownNetwork)
"""Records of these by name."""
