"""Optimizers and learning rates."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from tumorseg.schema.optimizers import AdamW, OptimizerSpec, PlateauSchedule, PolySchedule, ScheduleSpec


def build_optimizer(spec: OptimizerSpec, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer that a plan names."""
    if isinstance(spec, AdamW):
        return torch.optim.AdamW(parameters, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay)
    # torch refuses Nesterov's step without momentum.
    return torch.optim.SGD(
        parameters,
        lr=spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov and spec.momentum > 0,
        weight_decay=spec.weight_decay,
    )


class OptimizerMemory(NamedTuple):
    """What an optimizer takes besides weights and gradients, in copies of all parameters unless said otherwise."""

    kept: int
    """Kept between steps."""
    counters: int
    """Kept between steps, in single numbers for each parameter."""
    scratch: int
    """Taken during a step, which handles all parameters at once as torch does on a GPU."""


def optimizer_memory(spec: OptimizerSpec) -> OptimizerMemory:
    """Return what the optimizer of `build_optimizer` takes."""
    if isinstance(spec, AdamW):
        # Both moments and the number of steps; the denominators are made anew at each.
        return OptimizerMemory(kept=2, counters=1, scratch=1)
    # Gradients are copied only to add the weight decay to them.
    has_buffer, has_decay = spec.momentum != 0, spec.weight_decay != 0
    return OptimizerMemory(kept=int(has_buffer), counters=0, scratch=int(has_decay))


class Schedule(Protocol):
    """Decides the learning rate; its state is plain numbers."""

    def lr(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        ...

    def end_epoch(self, train_loss: float) -> None:
        """Look at an epoch's mean training loss; held-out cases shape nothing."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what has to be kept."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what was kept."""
        ...


class Poly:
    """nnU-Net's decay; it has no state."""

    def __init__(self, spec: PolySchedule, base_lr: float, *, epochs: int, iterations_per_epoch: int) -> None:
        """Decay from `base_lr` over the epochs."""
        self._spec, self._base, self._epochs, self._length = spec, base_lr, epochs, iterations_per_epoch

    def lr(self, iteration: int) -> float:
        """Return the learning rate of the step's epoch."""
        progress = (iteration // self._length) / self._epochs
        return float(self._base * (1 - progress) ** self._spec.exponent)

    def end_epoch(self, train_loss: float) -> None:
        """Do nothing: losses do not matter."""

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up nothing."""


class Plateau:
    """Lower the lr when the training loss stalls; anneal linearly over the last iterations.

    The mean loss of each window, a share of the training, is held against that of the window before. So one lucky epoch
    asks nothing of those after it, and the lr is lowered at most once a window, however noisy the loss. What counts as a fall
    is measured by the whole fall so far: a loss may be negative or near 0.
    """

    def __init__(self, spec: PlateauSchedule, base_lr: float, *, epochs: int, iterations_per_epoch: int) -> None:
        """Begin at `base_lr`; the planned end is `epochs * iterations_per_epoch`."""
        self._spec, self._base, self._length = spec, base_lr, iterations_per_epoch
        self._total = epochs * iterations_per_epoch
        self._anneal_from = self._total * (1 - spec.anneal_fraction)
        # Rounded up, as fewer epochs are noisier; the small number is for products like 0.1 * 30, just above 3.
        self._window = math.ceil(spec.patience * epochs - 1e-9)
        self._scale, self._epochs, self._sum = 1.0, 0, 0.0
        self._first: float | None = None
        self._last: float | None = None

    def lr(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        if iteration < self._anneal_from:
            return self._base * self._scale
        # Counted from 1, so that the last step has the planned share itself.
        done = (iteration - self._anneal_from + 1) / (self._total - self._anneal_from)
        return self._base * self._scale * (1 - min(done, 1.0) * (1 - self._spec.anneal_to))

    def end_epoch(self, train_loss: float) -> None:
        """Add an epoch's mean loss to the window; at the window's end lower the lr if the loss has stalled.

        Once the lr is annealing, losses no longer matter: it falls along one line to its planned end.
        """
        self._epochs += 1
        if self._epochs * self._length >= self._anneal_from:
            return
        self._sum += train_loss
        if self._epochs % self._window == 0:
            self._end_window(self._sum / self._window)
            self._sum = 0.0

    def _end_window(self, mean: float) -> None:
        if self._first is None or self._last is None:
            self._first = self._last = mean
            return
        # A loss that has risen since the first window has fallen by nothing: then any fall will do.
        so_far = max(0.0, self._first - self._last)
        if not mean < self._last - self._spec.threshold * so_far:
            self._scale = max(self._scale * self._spec.factor, self._spec.floor)
        self._last = mean

    def state(self) -> dict[str, Any]:
        """Return what was seen so far."""
        return {
            "scale": self._scale,
            "epochs": self._epochs,
            "sum": self._sum,
            "first": self._first,
            "last": self._last,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what was seen."""
        self._scale, self._epochs, self._sum = state["scale"], state["epochs"], state["sum"]
        self._first, self._last = state["first"], state["last"]


def build_schedule(spec: ScheduleSpec, base_lr: float, *, epochs: int, iterations_per_epoch: int) -> Schedule:
    """Return the schedule that a plan names."""
    if isinstance(spec, PlateauSchedule):
        return Plateau(spec, base_lr, epochs=epochs, iterations_per_epoch=iterations_per_epoch)
    return Poly(spec, base_lr, epochs=epochs, iterations_per_epoch=iterations_per_epoch)
