"""`dynunet`: MONAI's U-Net after nnU-Net's."""

from typing import cast

from monai.networks.nets.dynunet import DynUNet as MonaiDynUNet
from torch import Tensor, nn

from tumorseg.networks.monai.base import Wrapped
from tumorseg.networks.spaces import check_space
from tumorseg.schema.networks_monai import DynUNet


class DynUNetModule(Wrapped):
    """The parts of MONAI's network under its names; logits of coarser resolutions stay at these.

    References:
        Futrega et al., Optimized U-Net for brain tumor segmentation, BrainLes 2021.
    """

    def __init__(self, spec: DynUNet, network: nn.Module) -> None:
        super().__init__(spec)
        self.deep_supervision = spec.deep_supervision
        # MONAI's forward pass would enlarge all logits to full resolution, and hold the last ones.
        self.input_block = cast(nn.Module, network.input_block)
        self.downsamples = cast(nn.ModuleList, network.downsamples)
        self.bottleneck = cast(nn.Module, network.bottleneck)
        self.upsamples = cast(nn.ModuleList, network.upsamples)
        self.output_block = cast(nn.Module, network.output_block)
        if spec.deep_supervision:
            self.deep_supervision_heads = cast(nn.ModuleList, network.deep_supervision_heads)

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Map intensities to logits.

        Args:
            images: (B, C, *space), space being a multiple of the product of all strides.

        Returns:
            Logits (B, K, *space). While training with deep supervision a list of num_stages - 1 such tensors, from
            full resolution down.

        Raises:
            InputError: the space is not such a multiple.
        """
        check_space(images, self.divisors)
        features = images
        skips = []
        for stage in (self.input_block, *self.downsamples):
            features = self.run(stage, features)
            skips.append(features)
        features = self.run(self.bottleneck, features)
        decoded = []
        for climb in self.upsamples:
            features = self.run(climb, features, skips.pop())
            decoded.append(features)
        logits = cast(Tensor, self.output_block(features))
        if not (self.training and self.deep_supervision):
            return logits
        # Heads begin one resolution below the full one, the decoder ends there.
        coarser = zip(self.deep_supervision_heads, reversed(decoded[:-1]), strict=True)
        return [logits, *(head(decoded_features) for head, decoded_features in coarser)]


def dynunet(spec: DynUNet, *, num_channels: int, num_outputs: int) -> DynUNetModule:
    """Return MONAI's U-Net with fresh weights.

    Args:
        spec: the topology.
        num_channels: C, the image's channels.
        num_outputs: K, classes or regions.
    """
    network = MonaiDynUNet(
        spatial_dims=spec.num_axes,
        in_channels=num_channels,
        out_channels=num_outputs,
        kernel_size=spec.kernel_sizes,
        strides=spec.strides,
        upsample_kernel_size=spec.strides[1:],
        filters=spec.features_per_stage,
        norm_name=("instance", {"affine": True, "eps": spec.norm_eps}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": spec.negative_slope}),
        deep_supervision=spec.deep_supervision,
        # Full resolution has a head of its own.
        deep_supr_num=spec.num_stages - 2,
        res_block=spec.residual,
    )
    return DynUNetModule(spec, network)
