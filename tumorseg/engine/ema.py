"""A moving average of a network's weights, which is validated and predicts in its stead."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tumorseg.schema.training import Ema

YOUTH = 10
"""At its first updates, number t from 0, an average keeps (1 + t) / (YOUTH + t) of itself at most."""


class MovingAverage:
    """A copy of a network whose weights follow those that are trained.

    References:
        Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992; the decay of the first updates is that of
        TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, network: nn.Module, spec: Ema) -> None:
        """Begin with the weights that a network has now."""
        self._trained, self._spec = network, spec
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        """The average."""
        self._updates = 0

    def begin_again(self) -> None:
        """Take the trained weights as they are: they were replaced."""
        self.network.load_state_dict(self._trained.state_dict())
        self._updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Follow a step that was taken."""
        # A young average forgets fast, so that the initial weights leave no trace in a short training.
        decay = min(self._spec.decay, (1 + self._updates) / (YOUTH + self._updates))
        averaged: list[Tensor] = list(self.network.parameters())
        trained: list[Tensor] = list(self._trained.parameters())
        torch._foreach_lerp_(averaged, trained, 1 - decay)
        for kept, seen in zip(self.network.buffers(), self._trained.buffers(), strict=True):
            # Running statistics belong to the weights that they were made with; constants stay as they are.
            if kept.is_floating_point():
                kept.lerp_(seen, 1 - decay)
            else:
                kept.copy_(seen)
        self._updates += 1

    def state(self) -> dict[str, Any]:
        """Return what is kept beside the average itself: the trained weights, and the number of updates."""
        return {"trained": self._trained.state_dict(), "updates": self._updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what was kept; trained weights and average are loaded by whoever holds both."""
        self._updates = state["updates"]
