"""Where a network's weights live, and in which order of memory."""

import torch
from torch import nn

DEEP_DIMENSIONS = 5
"""Dimensions of a 3D convolution's weight."""


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device; on the CPU its weights are put channels last.

    With few channels, as in networks that a CPU can train, convolutions are then about a quarter faster (measured on
    12 features, 40 x 56 x 40, two cores); results differ by rounding only.
    """
    network = network.to(device)
    if device.type != "cpu":
        return network
    is_deep = any(parameter.ndim == DEEP_DIMENSIONS for parameter in network.parameters())
    memory_format = torch.channels_last_3d if is_deep else torch.channels_last
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            module.to(memory_format=memory_format)
    return network
