"""What weights of the published MedNeXt are called here.

References:
    The modules of nnunet_mednext: `MedNeXt` of its first version; those of MONAI; Roy et al., MedNeXt, MICCAI 2023.
"""

import re

PARTS = {
    "conv1": "spatial",
    "norm": "norm",
    "conv2": "expand",
    "conv3": "compress",
    "res_conv": "shortcut",
}
"""Layers of a block there, and what they are called here."""
RESPONSE = {"grn_gamma": "response.scale", "grn_beta": "response.shift"}
"""Tensors of a global response normalisation, which is no layer of its own there."""
LAYER = r"(?:conv[123]|norm|res_conv)\.(?:weight|bias)|grn_(?:gamma|beta)"
TURNED = r"heads\.\d+\.weight|upsamplings\.\d+\.shortcut\.weight"
"""Transposed convolutions of single voxels there, which list channels in before channels out; under our names."""
MONAI_NAMES = (
    (r"^enc_stages\.(\d+)\.", r"enc_block_\1."),
    (r"^down_blocks\.(\d+)\.", r"down_\1."),
    (r"\.global_resp_(gamma|beta)$", r".grn_\1"),
)
"""Rewritings from MONAI's names to the published ones where both count alike."""
MONAI_COUNTS = {"up_blocks": "up", "dec_stages": "dec_block", "out_blocks": "out"}
"""Parts that are numbered from the bottleneck up in MONAI, by resolution in the published network."""


def own_mednext_name(name: str, *, num_stages: int) -> str | None:
    """Return what a weight of the published MedNeXt is called in ours; None for one that takes no part in what it computes.

    Args:
        name: in their state dict, without wrappers.
        num_stages: resolutions of their network.
    """
    bottleneck = num_stages - 1
    if match := re.fullmatch(rf"(?:enc_block_(\d+)|bottleneck)\.(\d+)\.({LAYER})", name):
        stage = bottleneck if match[1] is None else int(match[1])
        # The way down is the first block of a stage here.
        return f"stages.{stage}.{int(match[2]) + (stage > 0)}.{_own_layer(match[3])}"
    if match := re.fullmatch(rf"down_(\d+)\.({LAYER})", name):
        return f"stages.{int(match[1]) + 1}.0.{_own_layer(match[2])}"
    # The decoder is numbered from the bottleneck up here, by resolution there.
    if match := re.fullmatch(rf"dec_block_(\d+)\.(\d+)\.({LAYER})", name):
        return f"decoder.{bottleneck - 1 - int(match[1])}.{match[2]}.{_own_layer(match[3])}"
    if match := re.fullmatch(rf"up_(\d+)\.({LAYER})", name):
        return f"upsamplings.{bottleneck - 1 - int(match[1])}.{_own_layer(match[2])}"
    if match := re.fullmatch(r"out_(\d+)\.conv_out\.(weight|bias)", name):
        return f"heads.{match[1]}.{match[2]}"
    return name if re.fullmatch(r"stem\.(weight|bias)", name) else None


def as_published(name: str, num_stages: int) -> str:
    """Return what a weight of MONAI's MedNeXt is called in the published one.

    Args:
        name: in MONAI's state dict, without wrappers.
        num_stages: resolutions of the network.
    """
    for pattern, replacement in MONAI_NAMES:
        name = re.sub(pattern, replacement, name)
    if match := re.fullmatch(r"(up_blocks|dec_stages|out_blocks)\.(\d+)\.(.+)", name):
        # Heads there are one more: the bottleneck's, which comes first.
        last = num_stages - 1 if match[1] == "out_blocks" else num_stages - 2
        return f"{MONAI_COUNTS[match[1]]}_{last - int(match[2])}.{match[3]}"
    return name


def _own_layer(layer: str) -> str:
    if layer in RESPONSE:
        return RESPONSE[layer]
    part, kind = layer.split(".")
    return f"{PARTS[part]}.{kind}"
