"""What the weights of each network are for, by their names, and whose other names for them are understood."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from tumorseg.networks.transfer.layouts import (
    DYNUNET,
    MEDNEXT,
    MONAI_MEDNEXT,
    NNUNET,
    NOTHING,
    SEGRESNET,
    SWIN_ENCODER,
    UNETR,
    Layout,
)
from tumorseg.networks.transfer.roles import Role

MONAI = "MONAI"
"""Whose names networks have here that are built through MONAI."""


class Kind(NamedTuple):
    """Patterns for names in the state dict of one kind of network."""

    layout: str
    """Whose names they are."""
    inputs: str = NOTHING
    """Convolutions that see the image's channels."""
    heads: str = NOTHING
    """What makes logits of features."""
    upsamplings: str = NOTHING
    """Transposed convolutions whose kernel is their stride."""
    depthwise: str = NOTHING
    """Convolutions channel by channel."""
    fixed: str = NOTHING
    """Weights that no other shape can be made of."""
    encoder: str = r".*"
    """Weights without which the others are of no use."""
    climbing: tuple[str, ...] = ()
    """Parts that are numbered from the bottleneck up, whereas all others are from full resolution down."""
    deepest: str = NOTHING
    """What is called alike in networks of any depth, but lies at the coarsest resolution of its own."""
    never_taken: str = NOTHING
    """What belongs to the network's own window or patch, whatever is given."""
    tells_axes_apart: bool = False
    """Whether parts differ by axis, so that weights for images of another order of axes are no use there."""
    layouts: tuple[Layout, ...] = ()
    """Other names for the same weights."""

    def role_of(self, name: str) -> Role:
        """Return the role of a weight."""
        patterns = {
            Role.INPUT: self.inputs,
            Role.HEAD: self.heads,
            Role.UPSAMPLING: self.upsamplings,
            Role.DEPTHWISE: self.depthwise,
            Role.FIXED: self.fixed,
        }
        return next((role for role, pattern in patterns.items() if re.fullmatch(pattern, name)), Role.OTHER)

    def is_of_encoder(self, name: str) -> bool:
        """Return whether a weight belongs to what the others depend on."""
        return re.fullmatch(self.encoder, name) is not None

    def takes(self, name: str) -> bool:
        """Return whether a weight may be taken from another network at all."""
        return re.fullmatch(self.never_taken, name) is None

    def num_climbing(self, names: Iterable[str]) -> int:
        """Return how many stages lead up from the bottleneck in a network with weights of these names."""
        numbers = [-1]
        for name in names:
            part, *rest = name.split(".")
            if part in self.climbing and rest[0].isdecimal():
                numbers.append(int(rest[0]))
        return max(numbers) + 1

    def shifted(self, name: str, shift: int) -> str:
        """Return what a weight is called in a network that climbs `shift` stages more; stages are met from the shallow end.

        A weight that is not there gets a name that there is not.
        """
        part, *rest = name.split(".")
        if part not in self.climbing:
            return name
        return ".".join([part, str(int(rest[0]) + shift), *rest[1:]])


STAGED = Kind(
    "tumorseg",
    # The residual encoder's stem, or the plain one's first convolution.
    inputs=r"stem\.0\.weight|stages\.0\.0\.0\.weight",
    heads=r"heads\..*",
    upsamplings=r"upsamplings\..*",
    encoder=r"(?:stem|stages)\..*",
    climbing=("upsamplings", "gates", "decoder"),
    layouts=(NNUNET,),
)
UNETR_BLOCK = r"encoder1\.layer\.conv[13]\.conv\.weight"
"""Convolutions of the block that sees the image, in both UNETRs."""
KINDS = {
    "plain_unet": STAGED,
    "residual_unet": STAGED,
    "mednext": Kind(
        "tumorseg",
        inputs=r"stem\.weight",
        heads=r"heads\..*",
        depthwise=r".*\.spatial\.weight",
        encoder=r"(?:stem|stages)\..*",
        climbing=("upsamplings", "gates", "decoder"),
        layouts=(MEDNEXT, MONAI_MEDNEXT),
    ),
    "swin_unetr": Kind(
        MONAI,
        inputs=rf"swinViT\.patch_embed\.proj\.weight|{UNETR_BLOCK}",
        heads=r"out\..*",
        fixed=r".*\.(?:transp_conv\.conv\.weight|relative_position_\w+)",
        encoder=r"swinViT\..*weight",
        never_taken=r".*\.relative_position_index",
        layouts=(SWIN_ENCODER,),
    ),
    "unetr": Kind(
        MONAI,
        inputs=rf"vit\.patch_embedding\.patch_embeddings\.weight|{UNETR_BLOCK}",
        heads=r"out\..*",
        fixed=r".*\.(?:transp_conv\.conv\.weight|position_embeddings)",
        encoder=r"vit\..*weight",
        layouts=(UNETR,),
    ),
    "segresnet": Kind(
        MONAI,
        inputs=r"encoder\.conv_init\.weight",
        heads=r"up_layers\.\d+\.head\..*",
        fixed=r".*\.(?:deconv|downsample)\.weight",
        encoder=r"encoder\..*weight",
        climbing=("up_layers",),
        layouts=(SEGRESNET,),
    ),
    "dints": Kind(
        MONAI,
        inputs=r"stem_down\.\d\.mod\.1\.weight",
        heads=r"stem_finals\.1\..*",
        encoder=r"(?:stem_down|dints_space)\..*weight",
        tells_axes_apart=True,
    ),
    "dynunet": Kind(
        MONAI,
        inputs=r"input_block\.conv[13]\.conv\.weight",
        heads=r"(?:output_block|deep_supervision_heads\.\d+)\..*",
        upsamplings=r"upsamples\.\d+\.transp_conv\..*",
        encoder=r"(?:input_block|downsamples|bottleneck)\..*weight",
        climbing=("upsamples",),
        deepest=r"bottleneck\..*",
        layouts=(DYNUNET,),
    ),
    "attention_unet": Kind(
        MONAI,
        inputs=r"model\.0\.conv\.0\.conv\.weight",
        heads=r"model\.2\..*",
        fixed=r".*\.upconv\.up\.conv\.weight",
        encoder=r"model\.(?:0|1\..*submodule(?:\.0)?)\.conv\..*weight",
    ),
}
"""By the name of the network."""
FOREIGN = Kind("unknown")
"""Networks of other packages, whose weights match by name and shape alone."""


def kind_of(network: str) -> Kind:
    """Return what is known of the weights of a network of a name."""
    return KINDS.get(network, FOREIGN)
