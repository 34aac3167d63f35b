"""Families of networks by name."""

from typing import Any

from tumorseg.errors import PlanError
from tumorseg.planning.families.base import Grid, NetworkFamily, NnunetNames, Sized
from tumorseg.planning.families.mednext import MedNextFamily
from tumorseg.planning.families.monai_dints import DintsFamily
from tumorseg.planning.families.monai_segresnet import SegResNetFamily
from tumorseg.planning.families.monai_transformers import SwinUnetrFamily, UnetrFamily
from tumorseg.planning.families.monai_unets import AttentionUnetFamily, DynUNetFamily
from tumorseg.planning.families.plain_unet import PlainUNetFamily
from tumorseg.planning.families.residual_unet import ResidualUNetFamily
from tumorseg.planning.presets import Preset
from tumorseg.schema.networks import KnownNetwork, NetworkSpec
from tumorseg.schema.plan import Reason

FAMILIES: dict[str, NetworkFamily[Any]] = {
    family.name: family
    for family in (
        PlainUNetFamily(),
        ResidualUNetFamily(),
        MedNextFamily(),
        SwinUnetrFamily(),
        UnetrFamily(),
        SegResNetFamily(),
        DintsFamily(),
        DynUNetFamily(),
        AttentionUnetFamily(),
    )
}


def family_of(name: str) -> NetworkFamily[Any]:
    """Return the family of networks of a name.

    Raises:
        PlanError: no family has it.
    """
    if name not in FAMILIES:
        raise PlanError(f"network {name!r} is unknown to the planner; choose {' or '.join(FAMILIES)}")
    return FAMILIES[name]


def nnunet_names() -> dict[str, NnunetNames]:
    """Return what nnU-Net calls the architectures that it has too, by our name."""
    return {name: family.nnunet for name, family in FAMILIES.items() if family.nnunet is not None}


def converted(network: NetworkSpec, name: str) -> KnownNetwork:
    """Return the network of another family that takes the place of one on the same patch.

    Raises:
        PlanError: the family is unknown, or has nothing to take over from this network.
    """
    found: KnownNetwork = family_of(name).like(network)
    return found


def network_reason(sized: Sized, grid: Grid, preset: Preset) -> Reason:
    """Return why the network of a configuration has its stages."""
    family = family_of(sized.network.name)
    return family.reason(sized, grid, preset, rival=FAMILIES[family.rival])
