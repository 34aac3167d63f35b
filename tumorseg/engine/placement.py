"""Where a network's weights live, and in which order of memory."""

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device; on the CPU the weights of convolutions are put channels last.

    With few channels, as in networks that a CPU can train, convolutions are then about a quarter faster (measured on
    12 features, 40 x 56 x 40, two cores); results differ by rounding only.
    """
    network = network.to(device)
    if device.type == "cpu":
        for module in network.modules():
            if isinstance(module, CONVOLUTIONS):
                order = torch.channels_last_3d if module.weight.ndim == 5 else torch.channels_last
                module.weight.data = module.weight.data.contiguous(memory_format=order)
    return network
