"""Features whose channels lie innermost in memory."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def memory_format(features: Tensor) -> torch.memory_format:
    """Return the order of images or weights (B, C, H, W), or volumes (B, C, D, H, W), with their channels innermost."""
    return torch.channels_last if features.ndim == 4 else torch.channels_last_3d


def lies_channels_last(features: Tensor) -> bool:
    """Tell whether features of a CPU lie so; never while a compiler or exporter looks on, which knows what it can fuse itself."""
    # GPUs keep to the library that torch chooses for them.
    if features.device.type != "cpu" or torch.compiler.is_compiling() or features.is_contiguous():
        return False
    return features.is_contiguous(memory_format=memory_format(features))


def on_rows(convolution: nn.Module, rows: Tensor) -> Tensor:
    """Return what a convolution of single voxels makes of features (B, *space, C) that lie in this order, as one matrix product."""
    assert isinstance(convolution, nn.Conv2d | nn.Conv3d)  # torch types modules of a module as any
    # Flattened, so that the bias is added within the product.
    found = F.linear(rows.flatten(0, -2), convolution.weight.flatten(1), convolution.bias)
    return found.view(*rows.shape[:-1], -1)
