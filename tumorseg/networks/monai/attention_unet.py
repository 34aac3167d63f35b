"""`attention_unet`: MONAI's U-Net with attention gates on its skip connections."""

from typing import Any, cast

import torch
from monai.networks.nets.attentionunet import AttentionLayer
from monai.networks.nets.attentionunet import AttentionUnet as MonaiAttentionUnet
from torch import Tensor, nn

from tumorseg.networks.monai.base import Wrapped
from tumorseg.networks.spaces import check_space
from tumorseg.schema.networks_monai import AttentionUnet

_NORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: nn.InstanceNorm2d,
    nn.BatchNorm3d: nn.InstanceNorm3d,
}


class AttentionUnetModule(Wrapped):
    """MONAI's network, its parts under its names.

    References:
        Oktay et al., Attention U-Net: learning where to look for the pancreas, MIDL 2018.
    """

    def __init__(self, spec: AttentionUnet, network: nn.Module) -> None:
        super().__init__(spec)
        self.model = cast(nn.Sequential, network.model)
        _normalise_each_patch(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map intensities to logits.

        Args:
            images: (B, C, *space), space being a multiple of the product of all strides.

        Returns:
            Logits (B, K, *space).

        Raises:
            InputError: the space is not such a multiple.
        """
        check_space(images, self.divisors)
        first, inner, head = self.model
        return cast(Tensor, head(self._climb(inner, self.run(first, images))))

    def _climb(self, layer: Any, features: Tensor) -> Tensor:
        """Return a stage's features from those that the encoder made of it and all stages below."""
        below = layer.submodule
        if isinstance(below, nn.Sequential) and isinstance(below[-1], AttentionLayer):
            lower = self._climb(below[-1], self.run(below[0], features))
        else:
            lower = self.run(below, features)
        lower = self.run(layer.upconv, lower)
        gated = self.run(layer.attention, lower, features)
        return self.run(layer.merge, torch.cat((gated, lower), dim=1))


def attention_unet(spec: AttentionUnet, *, num_channels: int, num_outputs: int) -> AttentionUnetModule:
    """Return MONAI's Attention U-Net with fresh weights.

    Args:
        spec: the topology.
        num_channels: C, the image's channels.
        num_outputs: K, classes or regions.
    """
    network = MonaiAttentionUnet(
        spatial_dims=spec.num_axes,
        in_channels=num_channels,
        out_channels=num_outputs,
        channels=spec.features_per_stage,
        # MONAI's are those between stages.
        strides=cast(Any, spec.strides[1:]),
        kernel_size=spec.kernel_size,
        up_kernel_size=spec.kernel_size,
    )
    return AttentionUnetModule(spec, network)


def _normalise_each_patch(network: nn.Module) -> None:
    """Put instance normalisation in the place of batch normalisation, whose statistics two patches do not give."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if (kind := _NORMS.get(type(child))) is not None:
                setattr(module, name, cast(Any, kind)(cast(Any, child).num_features, affine=True))
