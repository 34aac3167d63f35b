"""`swin_unetr`: MONAI's Swin UNETR, in its second version or its first."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tumorseg.networks.monai.base import Wrapped
from tumorseg.networks.spaces import check_space
from tumorseg.schema.networks_monai import TOKEN_EDGE, SwinUnetr

PARTS = (
    *("swinViT", "encoder1", "encoder2", "encoder3", "encoder4", "encoder10"),
    *("decoder5", "decoder4", "decoder3", "decoder2", "decoder1", "out"),
)
"""Names of MONAI's parts, by which its published weights are called too."""


class SwinUnetrModule(Wrapped):
    """The parts of MONAI's network under its names.

    References:
        Hatamizadeh et al., Swin UNETR, BrainLes 2021; He et al., SwinUNETR-V2, MICCAI 2023.
    """

    def __init__(self, spec: SwinUnetr, network: nn.Module) -> None:
        super().__init__(spec)
        self.convolve_first = spec.convolve_first
        for name in PARTS:
            self.add_module(name, getattr(network, name))

    def forward(self, images: Tensor) -> Tensor:
        """Map intensities to logits.

        Args:
            images: (B, C, *space), space being a multiple of 32.

        Returns:
            Logits (B, K, *space).

        Raises:
            InputError: the space is not such a multiple.
        """
        check_space(images, self.divisors)
        parts = cast(dict[str, Any], self._modules)
        tokens = self._encode(parts["swinViT"], images)
        skips = [images, tokens[0], tokens[1], tokens[2]]
        # The fourth stage's tokens are a skip connection as they are.
        beside = [self.run(parts[f"encoder{number}"], skip) for number, skip in enumerate(skips, 1)] + [tokens[3]]
        features = self.run(parts["encoder10"], tokens[4])
        for number in (5, 4, 3, 2, 1):
            features = self.run(parts[f"decoder{number}"], features, beside.pop())
        return cast(Tensor, parts["out"](features))

    def _encode(self, encoder: Any, images: Tensor) -> list[Tensor]:
        """Return the normalised tokens (B, features, *tokens) before the first stage and after each."""
        features = encoder.patch_embed(images)
        tokens = [encoder.proj_out(features, normalize=True)]
        for number in (1, 2, 3, 4):
            if self.convolve_first:
                (convolve,) = getattr(encoder, f"layers{number}c")
                features = self.run(convolve, features.contiguous())
            (attend,) = getattr(encoder, f"layers{number}")
            features = self.run(attend, features.contiguous())
            tokens.append(encoder.proj_out(features, normalize=True))
        return tokens


def swin_unetr(spec: SwinUnetr, *, num_channels: int, num_outputs: int) -> SwinUnetrModule:
    """Return MONAI's Swin UNETR with fresh weights.

    Args:
        spec: features, heads, depths and window.
        num_channels: C, the image's channels.
        num_outputs: K, classes or regions.
    """
    with _RatesByNumpy():
        network = SwinUNETR(
            in_channels=num_channels,
            out_channels=num_outputs,
            patch_size=TOKEN_EDGE,
            depths=spec.depths,
            num_heads=spec.heads,
            window_size=spec.window,
            feature_size=spec.features,
            spatial_dims=spec.num_axes,
            use_v2=spec.convolve_first,
        )
    return SwinUnetrModule(spec, network)


class _RatesByNumpy(TorchFunctionMode):
    """Lets MONAI ask for the chances of stochastic depth where tensors have no values, as while memory is counted."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch."""
        return np.linspace(*args) if func is torch.linspace else func(*args, **(kwargs or {}))
