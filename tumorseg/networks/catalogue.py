"""Catalogue of networks, as data: `networks list` shows it."""

from typing import Any, NamedTuple

from pydantic_core import PydanticUndefined

from tumorseg.schema.networks import NETWORKS, Network


class About(NamedTuple):
    """What a network's record does not say."""

    axes: str
    """How many it has."""
    divisors: str
    """What the edges of a patch must be multiples of."""
    source: str
    """Where it was published."""
    sized_by: tuple[str, ...]
    """Fields that make it larger or smaller."""


STRIDES = "the product of the strides"
ABOUT = {
    "plain_unet": About(
        "2 or 3",
        STRIDES,
        "Isensee et al., nnU-Net, Nature Methods 2021",
        ("features_per_stage", "convs_per_stage", "decoder_convs_per_stage"),
    ),
    "residual_unet": About(
        "2 or 3",
        STRIDES,
        "Isensee et al., nnU-Net revisited, MICCAI 2024",
        ("features_per_stage", "blocks_per_stage", "decoder_convs_per_stage"),
    ),
    "mednext": About(
        "2 or 3",
        STRIDES,
        "Roy et al., MedNeXt, MICCAI 2023",
        ("features_per_stage", "blocks_per_stage", "expansion_per_stage", "kernel_sizes"),
    ),
    "swin_unetr": About(
        "2 or 3",
        "32",
        "Hatamizadeh et al., Swin UNETR, BrainLes 2021; He et al., SwinUNETR-V2, MICCAI 2023",
        ("features", "depths", "heads", "window"),
    ),
    "unetr": About(
        "2 or 3",
        "16; every patch has a network of its own",
        "Hatamizadeh et al., UNETR, WACV 2022",
        ("features", "hidden", "heads"),
    ),
    "segresnet": About(
        "2 or 3",
        STRIDES,
        "Myronenko, BrainLes 2018; in its form of MONAI's Auto3DSeg",
        ("features", "blocks_per_stage"),
    ),
    "dints": About(
        "3",
        "16",
        "He et al., DiNTS, CVPR 2021",
        ("features",),
    ),
    "dynunet": About(
        "2 or 3",
        STRIDES,
        "Futrega et al., Optimized U-Net for brain tumor segmentation, BrainLes 2021",
        ("features_per_stage", "residual"),
    ),
    "attention_unet": About(
        "2 or 3",
        STRIDES,
        "Oktay et al., Attention U-Net, MIDL 2018",
        ("features_per_stage",),
    ),
}
"""By name."""


def list_networks() -> list[dict[str, Any]]:
    """Return name, summary, axes, divisors, source and fields of each network that a plan can name."""
    return [
        {"name": name, "summary": _summary(record), **ABOUT[name]._asdict(), "fields": _fields(record)}
        for name, record in NETWORKS.items()
    ]


def _summary(record: type[Network]) -> str:
    """Return what a network is: the first paragraph of its record's words."""
    return " ".join((record.__doc__ or "").split("\n\n")[0].split())


def _fields(record: type[Network]) -> dict[str, dict[str, Any]]:
    fields = {}
    for name, info in record.model_fields.items():
        if name != "name":
            default = None if info.default is PydanticUndefined else info.default
            fields[name] = {"default": default, "meaning": " ".join((info.description or "").split())}
    return fields
