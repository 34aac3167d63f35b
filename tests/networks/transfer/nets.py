"""U-Nets of a few features, all of whose weights differ from 0 and 1."""

import torch

from tumorseg.networks.registry import build_network
from tumorseg.schema.networks import PlainUNet, ResidualUNet

FEATURES = (4, 6, 8, 8)


def spec_of(kind="residual_unet", *, stages=3, blocks=2, features=FEATURES, kernel=(3, 3), stride=(2, 2)):
    """Return the topology of a small U-Net for two axes."""
    counts = "blocks_per_stage" if kind == "residual_unet" else "convs_per_stage"
    return (ResidualUNet if kind == "residual_unet" else PlainUNet)(
        features_per_stage=features[:stages],
        strides=((1, 1), *[stride] * (stages - 1)),
        kernel_sizes=(kernel,) * stages,
        decoder_convs_per_stage=(1,) * (stages - 1),
        **{counts: (blocks,) * stages},
    )


def net(seed=0, *, channels=1, outputs=2, **topology):
    """Return a network whose weights are drawn."""
    network = build_network(spec_of(**topology), num_channels=channels, num_outputs=outputs)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network
