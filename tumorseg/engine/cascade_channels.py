"""The previous segmentation of a cascade as input channels, made right before the network sees them."""

import torch
from torch import Tensor


def with_previous(images: Tensor, previous: Tensor, num_labels: int) -> Tensor:
    """Return images with one more channel for each foreground label: 1 where the previous segmentation has it, else 0.

    Args:
        images: (B, C, *space).
        previous: (B, *space) class indices, 0 being the background.
        num_labels: foreground labels; class index 1 becomes the first further channel.
    """
    labels = torch.arange(1, num_labels + 1, device=previous.device).reshape(-1, *(1 for _ in previous.shape[1:]))
    return torch.cat((images, (previous.unsqueeze(1) == labels).to(images)), dim=1)
