"""Other people's names for the weights of networks that we have too.

References:
    The modules of MONAI: `SwinUNETR` (and the files that its `load_from` and `filter_swinunetr` take), `SegResNet`, `DynUNet`;
    Li et al., SuPreM, ICLR 2024, whose files hold MONAI's networks; nnU-Net and nnssl as in `tumorseg.networks.nnunet_weights`.
"""

import re
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import NamedTuple

from tumorseg.networks.mednext_weights import TURNED, as_published, own_mednext_name
from tumorseg.networks.nnunet_weights import own_name, straight_name

NOTHING = r"(?!)"
"""A pattern that no name fits."""
THEIR_ENCODER, THEIR_STEM = "encoder.stages", "encoder.stem"
"""Where nnU-Net's residual U-Net has its encoder and its stem."""
PERCEPTRON = "patch_embeddings.1."
"""What makes tokens in the published UNETR."""
Translate = Callable[[str], str | None]
"""From a name there to the one here; None for what there is not here."""


class Adaptation(NamedTuple):
    """Where a network that nnssl pre-trained has the parts of a residual encoder.

    References:
        Wald et al., An OpenMind for 3D medical vision self-supervised learning, 2024: the adaptation plan in its checkpoints.
    """

    key_to_encoder: str
    key_to_stem: str


class Layout(NamedTuple):
    """Somebody's names for the weights of a kind of network."""

    name: str
    """Whose they are."""
    translator: Callable[[Collection[str]], Translate]
    """Makes the translation that suits all names of a file, which say how many stages there are."""
    turned: str = NOTHING
    """Pattern of weights, under our names, that list channels in before channels out there, unlike here."""
    straight: Callable[[str], str] = str
    """The one name of a weight that is listed under several."""
    is_x_first: bool = False
    """Whether axes are those of MONAI's images (X, Y, Z); else they are taken to be the plan's."""


def nnunet(names: Collection[str]) -> Translate:
    """Return what weights of nnU-Net's U-Nets are called in ours."""
    num_stages = 1 + _largest(r"decoder\.(?:stages|transpconvs)\.(\d+)\..*", names)
    return lambda name: own_name(straight_name(name), num_stages)


def nnssl(adaptation: Adaptation) -> Layout:
    """Return the layout of a checkpoint of nnssl, which says where the parts of its encoder are."""

    def translator(names: Collection[str]) -> Translate:
        translate = nnunet([_as_nnunet(name, adaptation) for name in names])
        return lambda name: translate(_as_nnunet(name, adaptation))

    return Layout("nnssl", translator, straight=straight_name)


def _as_nnunet(name: str, adaptation: Adaptation) -> str:
    # A plain encoder has its stem within the encoder: the first rule that fits is the only one.
    for key, theirs in ((adaptation.key_to_encoder, THEIR_ENCODER), (adaptation.key_to_stem, THEIR_STEM)):
        if name.startswith(f"{key}."):
            return theirs + name.removeprefix(key)
    return name


def mednext(names: Collection[str]) -> Translate:
    """Return what weights of the published MedNeXt are called in ours."""
    return partial(own_mednext_name, num_stages=2 + _largest(r"(?:dec_block|up)_(\d+)\..*", names))


def monai_mednext(names: Collection[str]) -> Translate:
    """Return what weights of MONAI's MedNeXt are called in ours."""
    num_stages = 2 + _largest(r"(?:dec_stages|up_blocks)\.(\d+)\..*", names)
    return lambda name: own_mednext_name(as_published(name, num_stages), num_stages=num_stages)


SWIN = (
    (r"^(?:encoder|swin_vit)\.(?=patch_embed\.|layers\d)", ""),
    (r"^(?=patch_embed\.|layers\d)", "swinViT."),
    # The files of disruptive autoencoders (Valanarasu et al. 2023) list each stage once more within itself.
    (r"^(swinViT\.layers\d\.\d)\.\d\.(?=blocks\.|downsample\.)", r"\1."),
    (r"\.mlp\.fc(\d)\.", r".mlp.linear\1."),
)
"""Rewritings, one after the other, of an encoder that was pre-trained alone."""


def swin_encoder(names: Collection[str]) -> Translate:
    """Return what weights of a Swin transformer that was pre-trained without labels are called in MONAI's Swin UNETR."""
    return _swin_name


def _swin_name(name: str) -> str | None:
    for pattern, replacement in SWIN:
        name = re.sub(pattern, replacement, name)
    return name if name.startswith("swinViT.") else None


def segresnet(names: Collection[str]) -> Translate:
    """Return what weights of MONAI's older SegResNet, as SuPreM trained it, are called in that of its Auto3DSeg.

    Upsamplings are others: a convolution and an interpolation there, a transposed convolution here.
    """
    last = _largest(r"up_layers\.(\d+)\..*", names)
    return lambda name: _segresnet_name(name, last)


def _segresnet_name(name: str, last: int) -> str | None:
    if match := re.fullmatch(r"convInit\.conv\.(.+)", name):
        return f"encoder.conv_init.{match[1]}"
    if match := re.fullmatch(r"conv_final\.2\.conv\.(.+)", name):
        return f"up_layers.{last}.head.{match[1]}"
    if match := re.fullmatch(r"down_layers\.(\d+)\.0\.conv\.(.+)", name):
        return f"encoder.layers.{int(match[1]) - 1}.downsample.{match[2]}"
    if match := re.fullmatch(r"(down|up)_layers\.(\d+)\.(\d+)\.(conv\d|norm\d)\.(?:conv\.)?(.+)", name):
        # On the way down the first of a stage is the downsampling.
        place = int(match[3]) - (match[1] == "down")
        stage = "encoder.layers" if match[1] == "down" else "up_layers"
        return f"{stage}.{match[2]}.blocks.{place}.{match[4]}.{match[5]}"
    return None


def dynunet(names: Collection[str]) -> Translate:
    """Return the short names of weights that MONAI's DynUNet lists a second time, within the tree of its skip connections."""
    deepest = max((name.count("next_layer.") for name in names if name.startswith("skip_layers.")), default=0)
    return lambda name: _dynunet_name(name, deepest)


def _dynunet_name(name: str, deepest: int) -> str | None:
    match = re.fullmatch(r"skip_layers\.((?:next_layer\.)*)(?:(downsample|upsample|super_head)\.)?(.+)", name)
    if match is None:
        return name
    level, part = match[1].count("next_layer."), match[2]
    owners = {
        None: "bottleneck",
        "downsample": f"downsamples.{level - 1}" if level else "input_block",
        "upsample": f"upsamples.{deepest - 1 - level}",
        "super_head": f"deep_supervision_heads.{level - 1}",
    }
    return f"{owners[part]}.{match[3]}"


def perceptron(names: Collection[str]) -> Translate:
    """Return what weights of a UNETR are called that makes tokens by a matrix, as the published one does, rather than a convolution."""
    if not any(PERCEPTRON in name for name in names):
        return lambda name: None
    return lambda name: name.replace(PERCEPTRON, "patch_embeddings.")


def _largest(pattern: str, names: Iterable[str]) -> int:
    """Return the largest number that a pattern finds; -1 if it finds none."""
    matches = (re.fullmatch(pattern, name) for name in names)
    return max((int(match[1]) for match in matches if match), default=-1)


NNUNET = Layout("nnU-Net", nnunet, straight=straight_name)
MEDNEXT = Layout("MedNeXt", mednext, TURNED)
MONAI_MEDNEXT = Layout("MONAI's MedNeXt", monai_mednext, TURNED, is_x_first=True)
SWIN_ENCODER = Layout("MONAI's pre-trained Swin transformer", swin_encoder, is_x_first=True)
SEGRESNET = Layout("MONAI's SegResNet", segresnet, is_x_first=True)
DYNUNET = Layout("MONAI", dynunet, is_x_first=True)
UNETR = Layout("MONAI's UNETR with a perceptron", perceptron, is_x_first=True)
