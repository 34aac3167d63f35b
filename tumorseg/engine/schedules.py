"""Optimizers and learning rates."""

import math
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn

from tumorseg.schema.optimizers import AdamW, OptimizerSpec, PlateauSchedule, PolySchedule, ScheduleSpec


def build_optimizer(spec: OptimizerSpec, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer that a plan names."""
    if isinstance(spec, AdamW):
        return torch.optim.AdamW(parameters, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov and spec.momentum > 0,
        weight_decay=spec.weight_decay,
    )


class Schedule(Protocol):
    """Decides the learning rate; its state is plain numbers."""

    def lr(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        ...

    def end_epoch(self, train_loss: float, validation_loss: float | None) -> None:
        """Look at an epoch's losses."""
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

    def end_epoch(self, train_loss: float, validation_loss: float | None) -> None:
        """Do nothing: losses do not matter."""

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up nothing."""


class Plateau:
    """Lower the lr when the watched loss stalls; anneal linearly over the last iterations."""

    def __init__(self, spec: PlateauSchedule, base_lr: float, *, epochs: int, iterations_per_epoch: int) -> None:
        """Begin at `base_lr`; the planned end is `epochs * iterations_per_epoch`."""
        self._spec, self._base, self._total, self._length = (
            spec,
            base_lr,
            epochs * iterations_per_epoch,
            iterations_per_epoch,
        )
        self._anneal_from = self._total * (1 - spec.anneal_fraction)
        self._scale, self._best, self._bad_epochs, self._epochs = 1.0, math.inf, 0, 0
        self._running: float | None = None

    def lr(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        if iteration < self._anneal_from:
            return self._base * self._scale
        done = (iteration - self._anneal_from + 1) / (self._total - self._anneal_from)
        return self._base * self._scale * (1 - min(done, 1.0) * (1 - self._spec.anneal_to))

    def end_epoch(self, train_loss: float, validation_loss: float | None) -> None:
        """Watch the validation loss, or the running mean of the training loss where there is none.

        Once the lr is annealing, losses no longer matter: it falls along one line to its planned end.
        """
        self._epochs += 1
        if self._epochs * self._length >= self._anneal_from:
            return
        keep = self._spec.running_mean
        self._running = train_loss if self._running is None else keep * self._running + (1 - keep) * train_loss
        watched = self._running if validation_loss is None else validation_loss
        if watched < self._best - self._spec.threshold * abs(self._best if math.isfinite(self._best) else 0):
            self._best, self._bad_epochs = watched, 0
            return
        self._bad_epochs += 1
        if self._bad_epochs > self._spec.patience:
            self._scale *= self._spec.factor
            self._bad_epochs = 0

    def state(self) -> dict[str, Any]:
        """Return what was seen so far."""
        return {
            "scale": self._scale,
            "best": self._best,
            "bad_epochs": self._bad_epochs,
            "epochs": self._epochs,
            "running": self._running,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what was seen."""
        self._scale, self._best, self._epochs = state["scale"], state["best"], state["epochs"]
        self._bad_epochs, self._running = state["bad_epochs"], state["running"]


def build_schedule(spec: ScheduleSpec, base_lr: float, *, epochs: int, iterations_per_epoch: int) -> Schedule:
    """Return the schedule that a plan names."""
    if isinstance(spec, PlateauSchedule):
        return Plateau(spec, base_lr, epochs=epochs, iterations_per_epoch=iterations_per_epoch)
    return Poly(spec, base_lr, epochs=epochs, iterations_per_epoch=iterations_per_epoch)
