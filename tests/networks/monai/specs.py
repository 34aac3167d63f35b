"""A small network through MONAI for each row of its contract suite, with a patch."""

from typing import NamedTuple

import pytest

from tumorseg.schema.networks import Network
from tumorseg.schema.networks_monai import AttentionUnet, Dints, DynUNet, SegResNet, SwinUnetr, Unetr

FLAT = ((1, 1, 1), (1, 2, 2), (2, 2, 2))
"""Strides of stages on anisotropic voxels."""
CUBES = ((1, 1, 1), (2, 2, 2), (2, 2, 2))
SQUARES = ((1, 1), (2, 2), (2, 2))
WIDTHS = (4, 6, 6)


class Row(NamedTuple):
    """A network, and a patch that it takes."""

    spec: Network
    patch: tuple[int, ...]
    differs: str = ""
    """Why evaluation gives other logits than training; empty where it gives the same."""


def _swin(window, **fields):
    return SwinUnetr(features=12, window=window, depths=(2, 1, 1, 1), **fields)


def _unetr(patch):
    return Unetr(patch_size=patch, features=4, hidden=24, hidden_between=32, heads=2)


def _segresnet(halved_first, **fields):
    blocks = {"blocks_per_stage": (1, 1, 2), "decoder_blocks_per_stage": (1, 1)}
    return SegResNet(features=8, halved_first=halved_first, **blocks, **fields)


def _dynunet(strides, kernels, **fields):
    convs = {"decoder_convs_per_stage": (2, 2)}
    return DynUNet(features_per_stage=WIDTHS, strides=strides, kernel_sizes=kernels, **convs, **fields)


def _attention(strides, kernel):
    return AttentionUnet(features_per_stage=WIDTHS, strides=strides, kernel_size=kernel)


ROWS = {
    "swin_unetr": Row(_swin((4, 7, 7)), (32, 32, 64)),
    "swin_unetr first version": Row(_swin((7, 7), convolve_first=False), (32, 64)),
    "swin_unetr first version 3d": Row(_swin((2, 7, 7), convolve_first=False), (32, 64, 32)),
    "swin_unetr 2d": Row(_swin((7, 7)), (64, 32)),
    "swin_unetr anisotropic": Row(_swin((2, 7, 7)), (32, 64, 32)),
    "swin_unetr 2d anisotropic": Row(_swin((3, 7)), (32, 64)),
    "unetr anisotropic": Row(_unetr((16, 48, 32)), (16, 48, 32)),
    "unetr 2d anisotropic": Row(_unetr((16, 48)), (16, 48)),
    "unetr": Row(_unetr((16, 32, 16)), (16, 32, 16)),
    "unetr 2d": Row(_unetr((48, 32)), (48, 32)),
    "segresnet": Row(_segresnet((0, 0, 0)), (8, 8, 16)),
    "segresnet anisotropic": Row(_segresnet((0, 1, 1)), (4, 8, 12)),
    "segresnet shallow": Row(_segresnet((0, 0, 0), deep_supervision=False), (8, 8, 8)),
    "segresnet 2d anisotropic": Row(_segresnet((0, 1)), (4, 16)),
    "segresnet 2d": Row(_segresnet((0, 0)), (16, 8)),
    "dints": Row(Dints(features=2), (32, 16, 16)),
    "dints anisotropic": Row(Dints(features=4), (16, 32, 32)),
    "dynunet": Row(_dynunet(CUBES, ((3, 3, 3),) * 3), (8, 8, 16)),
    "dynunet anisotropic": Row(_dynunet(FLAT, ((1, 3, 3), (3, 3, 3), (3, 3, 3)), residual=True), (4, 16, 8)),
    "dynunet shallow": Row(_dynunet(CUBES, ((3, 3, 3),) * 3, deep_supervision=False), (8, 8, 8)),
    "dynunet 2d anisotropic": Row(_dynunet(((1, 1), (1, 2), (2, 2)), ((1, 3), (3, 3), (3, 3))), (6, 16)),
    "dynunet 2d": Row(_dynunet(SQUARES, ((3, 3),) * 3), (16, 24)),
    "attention_unet": Row(_attention(CUBES, (3, 3, 3)), (8, 8, 16)),
    "attention_unet anisotropic": Row(_attention(FLAT, (1, 3, 3)), (6, 16, 8)),
    "attention_unet 2d anisotropic": Row(_attention(((1, 1), (1, 2), (2, 2)), (3, 3)), (6, 16)),
    "attention_unet 2d": Row(_attention(SQUARES, (3, 3)), (16, 24)),
}

IN_CI = ("swin_unetr 2d", "unetr", "segresnet anisotropic", "dints", "dynunet anisotropic", "attention_unet")
"""One row a network; the others are `long`."""
COUNTED_IN_CI = tuple(name for name in IN_CI if name != "dints")
"""Its hundred cells take torch's own fakes, which others are compared with, a minute."""
PARAMETERS = [
    pytest.param(row, id=name, marks=() if name in COUNTED_IN_CI else (pytest.mark.long,)) for name, row in ROWS.items()
]
