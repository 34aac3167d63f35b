"""`unetr`: MONAI's UNETR."""

from typing import Any, cast

from monai.networks.nets.unetr import UNETR
from torch import Tensor, nn

from tumorseg.errors import InputError
from tumorseg.networks.monai.base import Wrapped
from tumorseg.networks.spaces import check_space
from tumorseg.schema.networks_monai import UNETR_TOKEN_EDGE, Unetr

PARTS = (
    *("vit", "encoder1", "encoder2", "encoder3", "encoder4"),
    *("decoder5", "decoder4", "decoder3", "decoder2", "out"),
)
"""Names of MONAI's parts, by which its published weights are called too."""
SKIPS_AFTER = (4, 7, 10)
"""Attention blocks after which tokens become skip connections, from the finest down."""


class UnetrModule(Wrapped):
    """The parts of MONAI's network under its names, without those that no forward pass meets.

    References:
        Hatamizadeh et al., UNETR: transformers for 3D medical image segmentation, WACV 2022.
    """

    def __init__(self, spec: Unetr, network: nn.Module) -> None:
        super().__init__(spec)
        self.patch_size = spec.patch_size
        for name in PARTS:
            self.add_module(name, getattr(network, name))
        for block in cast(Any, network).vit.blocks:
            # Of an attention to other inputs, of which there are none: no gradient would reach their weights.
            block.norm_cross_attn, block.cross_attn = nn.Identity(), nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Map intensities to logits.

        Args:
            images: (B, C, *space), space being the patch whose positions were learned.

        Returns:
            Logits (B, K, *space).

        Raises:
            InputError: the space is another.
        """
        self._check(images)
        parts = cast(dict[str, Any], self._modules)
        vit = parts["vit"]
        tokens = vit.patch_embedding(images)
        beside = [self.run(parts["encoder1"], images)]
        for number, block in enumerate(vit.blocks, 1):
            tokens = self.run(block, tokens)
            if number in SKIPS_AFTER:
                encode = parts[f"encoder{len(beside) + 1}"]
                beside.append(self.run(encode, self._as_features(tokens)))
        features = self._as_features(vit.norm(tokens))
        for number in (5, 4, 3, 2):
            features = self.run(parts[f"decoder{number}"], features, beside.pop())
        return cast(Tensor, parts["out"](features))

    def _check(self, images: Tensor) -> None:
        """Refuse images of another space than the patch.

        Raises:
            InputError: it is another.
        """
        check_space(images, self.divisors)
        space = tuple(images.shape[2:])
        if space != self.patch_size:
            raise InputError(f"a network for patches of {self.patch_size} voxels got an image of {space} voxels")

    def _as_features(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, tokens, hidden) on their grid (B, hidden, *grid)."""
        grid = [edge // UNETR_TOKEN_EDGE for edge in self.patch_size]
        # Not len(tokens), which would fix the number of patches in an exported graph.
        return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *grid).contiguous()


def unetr(spec: Unetr, *, num_channels: int, num_outputs: int) -> UnetrModule:
    """Return MONAI's UNETR with fresh weights.

    Args:
        spec: patch, features and heads.
        num_channels: C, the image's channels.
        num_outputs: K, classes or regions.
    """
    network = UNETR(
        in_channels=num_channels,
        out_channels=num_outputs,
        img_size=spec.patch_size,
        feature_size=spec.features,
        hidden_size=spec.hidden,
        mlp_dim=spec.hidden_between,
        num_heads=spec.heads,
        norm_name="instance",
        spatial_dims=spec.num_axes,
    )
    return UnetrModule(spec, network)
