"""Networks that weight their own channels, voxels and skip connections."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tumorseg.networks.layers import CONVOLUTIONS, Spec
from tumorseg.schema.network_parts import CBAM_KERNEL


class SqueezeExcitation(nn.Module):
    """Channels weighted by their means over the patch.

    References:
        Hu et al., Squeeze-and-excitation networks, CVPR 2018.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, *space) to others of the same shape."""
        means = features.mean(tuple(range(2, features.ndim)))
        return features * _spread(self.excite(F.relu(self.squeeze(means))).sigmoid(), features)


class Cbam(nn.Module):
    """Channels weighted by their means and maxima over the patch, then voxels by those over the channels around them.

    References:
        Woo et al., CBAM: convolutional block attention module, ECCV 2018.
    """

    def __init__(self, channels: int, hidden: int, num_axes: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.place = CONVOLUTIONS[num_axes](2, 1, CBAM_KERNEL, padding=CBAM_KERNEL // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, *space) to others of the same shape."""
        axes = tuple(range(2, features.ndim))
        seen = torch.stack((features.mean(axes), features.amax(axes)))
        of_means, of_maxima = self.excite(F.relu(self.squeeze(seen)))
        # Not `sum`, whose result autocast would have in float32, and so all that is weighted by it.
        weights = (of_means + of_maxima).sigmoid()
        weighted = features * _spread(weights, features)
        shown = torch.cat((weighted.mean(1, keepdim=True), weighted.amax(1, keepdim=True)), dim=1)
        return weighted * cast(Tensor, self.place(shown)).sigmoid()


class AttentionGate(nn.Module):
    """Voxels of a skip connection weighted by what it shows and by what the decoder has seen below.

    References:
        Oktay et al., Attention U-Net, MIDL 2018. There the gate works at the resolution of the stage below, here at that of the
        skip connection, on features that are raised already.
    """

    def __init__(self, channels: int, hidden: int, num_axes: int) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[num_axes]
        self.of_skip = convolution(channels, hidden, 1, bias=False)
        self.of_raised = convolution(channels, hidden, 1)
        self.weight = convolution(hidden, 1, 1)

    def forward(self, skip: Tensor, raised: Tensor) -> Tensor:
        """Map a skip connection and the raised features (B, C, *space) to the weighted skip connection."""
        both = F.relu(self.of_skip(skip) + self.of_raised(raised))
        return skip * cast(Tensor, self.weight(both)).sigmoid()


def attention_of(spec: Spec, channels: int) -> nn.Module | None:
    """Return the attention of a block with so many channels; None if it has none."""
    if spec.attention == "squeeze_excitation":
        return SqueezeExcitation(channels, spec.attention_features(channels))
    if spec.attention == "cbam":
        return Cbam(channels, spec.attention_features(channels), spec.num_axes)
    return None


def gates_of(spec: Spec) -> nn.ModuleList:
    """Return the gates of a decoder's stages, from the bottleneck up; none if the plan has none."""
    if not spec.attention_gates:
        return nn.ModuleList()
    widths = reversed(spec.features_per_stage[:-1])
    return nn.ModuleList(AttentionGate(width, spec.gate_features(width), spec.num_axes) for width in widths)


def _spread(weights: Tensor, features: Tensor) -> Tensor:
    """Return weights (B, C) as (B, C, 1, …)."""
    return weights.view(*weights.shape, *(1 for _ in features.shape[2:]))
