"""Logits averaged over mirrored views and over the networks of several folds."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import chain, combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.engine.sliding_window import Forward


class Views(NamedTuple):
    """What is averaged."""

    networks: Sequence[nn.Module]
    """On one device, in eval mode."""
    mirroring_axes: tuple[int, ...]
    """Axes of the network's space; empty for the plain view only."""
    num_axes: int
    """Axes of the network's space, 2 or 3."""
    autocast: AbstractContextManager[None] | torch.autocast
    """Context of forward passes."""
    device: torch.device
    """Where the networks are."""
    keeps_on_device: bool = True
    """Whether logits stay there, or come back to the CPU tile by tile."""


def averaged_forward(views: Views) -> Forward:
    """Return a function from a tile (C, Z, Y, X) to the mean logits (K, Z, Y, X) over all views.

    A network of two axes sees the tile's slices as a batch.
    """

    def forward(tile: Tensor) -> Tensor:
        tile = tile.to(views.device)
        batch = tile.transpose(0, 1) if views.num_axes == 2 else tile[None]
        with torch.inference_mode(), views.autocast:
            logits = _mean_over_views(batch, views)
        logits = logits if views.keeps_on_device else logits.cpu()
        return logits.transpose(0, 1) if views.num_axes == 2 else logits[0]

    return forward


def _mean_over_views(batch: Tensor, views: Views) -> Tensor:
    axis_sets = list(_subsets(views.mirroring_axes))
    total: Tensor | None = None
    for axes in axis_sets:
        dims = [2 + axis for axis in axes]
        flipped = torch.flip(batch, dims) if dims else batch
        for network in views.networks:
            logits = network(flipped).float()
            logits = torch.flip(logits, dims) if dims else logits
            total = logits if total is None else total + logits
    assert total is not None
    return total / (len(axis_sets) * len(views.networks))


def _subsets(axes: Sequence[int]) -> chain[tuple[int, ...]]:
    return chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1))
