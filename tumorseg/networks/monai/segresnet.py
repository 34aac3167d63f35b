"""`segresnet`: the SegResNet of MONAI's Auto3DSeg."""

from typing import Any, cast

from monai.networks.nets.segresnet_ds import SegResNetDS
from torch import Tensor, nn

from tumorseg.networks.monai.base import Wrapped
from tumorseg.networks.spaces import check_space
from tumorseg.schema.networks_monai import SegResNet


class SegResNetModule(Wrapped):
    """The parts of MONAI's network under its names.

    References:
        Myronenko, 3D MRI brain tumor segmentation using autoencoder regularization, BrainLes 2018.
    """

    def __init__(self, spec: SegResNet, network: nn.Module) -> None:
        super().__init__(spec)
        self.deep_supervision, self.num_supervised = spec.deep_supervision, spec.num_supervised
        self.encoder = cast(nn.Module, network.encoder)
        self.up_layers = cast(nn.ModuleList, network.up_layers)

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Map intensities to logits.

        Args:
            images: (B, C, *space), space being a multiple of the divisors.

        Returns:
            Logits (B, K, *space). While training with deep supervision a list of one such tensor for each stage of the
            decoder, from full resolution down.

        Raises:
            InputError: the space is not such a multiple.
        """
        check_space(images, self.divisors)
        skips = self._encode(images)
        features = skips.pop()
        logits: list[Tensor] = []
        for number, level in enumerate(cast(list[Any], self.up_layers)):
            # In place, as MONAI does: the upsampled features are needed no more.
            features = level["upsample"](features).add_(skips.pop())
            features = self.run(level["blocks"], features)
            left = len(self.up_layers) - number
            is_supervised = self.training and left <= self.num_supervised
            if is_supervised or left == 1:
                logits.insert(0, level["head"](features))
        return logits if self.training and self.deep_supervision else logits[0]

    def _encode(self, images: Tensor) -> list[Tensor]:
        encoder = cast(Any, self.encoder)
        features = encoder.conv_init(images)
        skips = []
        for level in encoder.layers:
            features = self.run(level["blocks"], features)
            skips.append(features)
            features = level["downsample"](features)
        return skips


def segresnet(spec: SegResNet, *, num_channels: int, num_outputs: int) -> SegResNetModule:
    """Return MONAI's SegResNet with fresh weights.

    Args:
        spec: features, blocks and order of halvings.
        num_channels: C, the image's channels.
        num_outputs: K, classes or regions.
    """
    alone = max(spec.halved_first)
    network = SegResNetDS(
        spatial_dims=spec.num_axes,
        init_filters=spec.features,
        in_channels=num_channels,
        out_channels=num_outputs,
        norm="instance",
        blocks_down=spec.blocks_per_stage,
        blocks_up=spec.decoder_blocks_per_stage,
        dsdepth=spec.num_supervised,
        # Of these, MONAI takes the logarithm of what each is finer than the coarsest.
        resolution=tuple(2.0 ** (alone - own) for own in spec.halved_first),
    )
    return SegResNetModule(spec, network)
