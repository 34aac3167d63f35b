"""Networks as one forward: logits averaged over mirrored views and over the networks of several folds."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain, combinations

import torch
from torch import Tensor, nn

from tumorseg.engine.cascade_channels import with_previous


@dataclass(frozen=True)
class NetworkForward:
    """A `Forward` of networks, which brings tiles to their device and sees to their precision."""

    networks: Sequence[nn.Module]
    """On one device, in eval mode."""
    mirroring_axes: tuple[int, ...]
    """Axes of the networks' space; empty for the plain view only."""
    num_axes: int
    """Axes of the networks' space, 2 or 3; networks of two axes see the slices of a tile as a batch."""
    autocast: AbstractContextManager[None] | torch.autocast
    """Context of forward passes."""
    device: torch.device
    """Where the networks are."""
    keeps_on_device: bool = True
    """Whether logits stay there, or come back to the CPU batch by batch."""
    num_previous: int = 0
    """Foreground labels that a cascade is shown. The last channel of its tiles holds their class indices: whole images
    with a channel for each would take memory that grows with classes times the volume."""

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the mean logits over all views and networks.

        Args:
            tiles: (B, C, Z, Y, X), on any device.

        Returns:
            (B, K, Z, Y, X), float32, without gradients.
        """
        tiles = tiles.to(self.device)
        if self.num_previous:
            tiles = with_previous(tiles[:, :-1], tiles[:, -1], self.num_previous)
        # (B, C, Z, Y, X) to (B * Z, C, Y, X): each slice is an image of its own.
        batch = tiles.transpose(1, 2).flatten(0, 1) if self.num_axes == 2 else tiles
        with torch.inference_mode(), self.autocast:
            logits = self._mean_over_views(batch)
        logits = logits if self.keeps_on_device else logits.cpu()
        if self.num_axes == 2:
            logits = logits.reshape(len(tiles), -1, *logits.shape[1:]).transpose(1, 2)
        return logits

    def _mean_over_views(self, batch: Tensor) -> Tensor:
        axis_sets = list(_subsets(self.mirroring_axes))
        total: Tensor | None = None
        for axes in axis_sets:
            dims = [2 + axis for axis in axes]
            flipped = torch.flip(batch, dims) if dims else batch
            for network in self.networks:
                # Added up in float32: in half precision the sum of many views would lose digits.
                logits = network(flipped).float()
                logits = torch.flip(logits, dims) if dims else logits
                total = logits if total is None else total + logits
        assert total is not None
        return total / (len(axis_sets) * len(self.networks))


def _subsets(axes: Sequence[int]) -> chain[tuple[int, ...]]:
    # From the empty set, which is the plain view, to that of all axes.
    return chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1))
