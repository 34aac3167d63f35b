"""Learning rates in the course of a training."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tumorseg.engine.stalls import StallWatch
from tumorseg.schema.optimizers import (
    ConstantSchedule,
    CosineSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    PolySchedule,
    ScheduleSpec,
    WarmedUp,
)


class Schedule(Protocol):
    """Decides the learning rate; its state is plain numbers."""

    def lr(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        ...

    def end_epoch(self, train_loss: float) -> None:
        """Look at an epoch's mean training loss; held-out cases shape nothing."""
        ...

    def is_annealing(self, iteration: int) -> bool:
        """Return whether the lr is falling towards the planned end because the end is near."""
        ...

    @property
    def rises_until(self) -> int:
        """Return the first step in which the lr does not rise any more."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what has to be kept."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what was kept."""
        ...


class Unwatching:
    """What schedules have in common that follow from the step alone: no state."""

    def end_epoch(self, train_loss: float) -> None:
        """Do nothing: losses do not matter."""

    def is_annealing(self, iteration: int) -> bool:
        """Return False: there is one part from the beginning to the end."""
        return False

    @property
    def rises_until(self) -> int:
        """Return 0: the lr does not rise."""
        return 0

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up nothing."""


class Poly(Unwatching):
    """nnU-Net's decay."""

    def __init__(self, spec: PolySchedule, base_lr: float, *, epochs: int, iterations_per_epoch: int) -> None:
        """Decay from `base_lr` over the epochs."""
        self._spec, self._base, self._epochs, self._length = spec, base_lr, epochs, iterations_per_epoch

    def lr(self, iteration: int) -> float:
        """Return the learning rate of the step's epoch."""
        progress = (iteration // self._length) / self._epochs
        return float(self._base * (1 - progress) ** self._spec.exponent)


class Plateau:
    """Lower the lr when the training loss stalls; anneal linearly over the last iterations.

    Stalls are those of `StallWatch`, so the lr is lowered at most once a window, a share of the training.
    """

    def __init__(self, spec: PlateauSchedule, base_lr: float, *, epochs: int, iterations_per_epoch: int) -> None:
        """Begin at `base_lr`; the planned end is `epochs * iterations_per_epoch`."""
        self._spec, self._base, self._length = spec, base_lr, iterations_per_epoch
        self._total = epochs * iterations_per_epoch
        self._anneal_from = self._total * (1 - spec.anneal_fraction)
        self._watch = StallWatch(patience=spec.patience, threshold=spec.threshold, epochs=epochs)
        self._scale, self._epochs = 1.0, 0

    def lr(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        if not self.is_annealing(iteration):
            return self._base * self._scale
        # Counted from 1, so that the last step has the planned share itself.
        done = (iteration - self._anneal_from + 1) / (self._total - self._anneal_from)
        return self._base * self._scale * (1 - min(done, 1.0) * (1 - self._spec.anneal_to))

    def end_epoch(self, train_loss: float) -> None:
        """Add an epoch's mean loss to the window; at the window's end lower the lr if the loss has stalled.

        Once the lr is annealing, losses no longer matter: it falls along one line to its planned end.
        """
        self._epochs += 1
        if self.is_annealing(self._epochs * self._length):
            return
        if self._watch.has_stalled(self._epochs, train_loss):
            self._scale = max(self._scale * self._spec.factor, self._spec.floor)

    def is_annealing(self, iteration: int) -> bool:
        """Return whether the lr is annealing."""
        return iteration >= self._anneal_from

    @property
    def rises_until(self) -> int:
        """Return 0: the lr does not rise."""
        return 0

    def state(self) -> dict[str, Any]:
        """Return what was seen so far."""
        return {"scale": self._scale, "epochs": self._epochs, **self._watch.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what was seen."""
        self._scale, self._epochs = state["scale"], state["epochs"]
        self._watch.restore(state)


class Constant(Unwatching):
    """The same lr throughout, after a warm-up if there is one."""

    def __init__(self, spec: ConstantSchedule, base_lr: float, *, epochs: int, iterations_per_epoch: int) -> None:
        """Rise to `base_lr` and stay there."""
        self._spec, self._base = spec, base_lr
        self._warm_up = warm_up_steps(spec, epochs * iterations_per_epoch)

    def lr(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        return self._base * warm_up_share(self._spec, iteration, num_steps=self._warm_up)

    @property
    def rises_until(self) -> int:
        """Return the end of the warm-up."""
        return self._warm_up


class Cosine(Unwatching):
    """Half a cosine from the lr at the end of the warm-up to what is left at the planned end.

    References:
        Loshchilov and Hutter, SGDR, ICLR 2017; the same as torch's LinearLR, then CosineAnnealingLR over the steps that remain.
    """

    def __init__(self, spec: CosineSchedule, base_lr: float, *, epochs: int, iterations_per_epoch: int) -> None:
        """Rise to `base_lr`, and fall over all the steps that remain."""
        self._spec, self._base, self._total = spec, base_lr, epochs * iterations_per_epoch
        self._warm_up = warm_up_steps(spec, self._total)

    def lr(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        if iteration < self._warm_up:
            return self._base * warm_up_share(self._spec, iteration, num_steps=self._warm_up)
        done = (iteration - self._warm_up) / (self._total - self._warm_up)
        return _half_cosine(self._base, self._spec.anneal_to * self._base, min(done, 1.0))

    @property
    def rises_until(self) -> int:
        """Return the end of the warm-up."""
        return self._warm_up


class OneCycle(Unwatching):
    """Half a cosine up, and half a cosine down to far below where it began.

    References:
        Smith and Topin, Super-convergence, 2018; torch's OneCycleLR, whose momentum stays as it is here.
    """

    def __init__(self, spec: OneCycleSchedule, base_lr: float, *, epochs: int, iterations_per_epoch: int) -> None:
        """Rise to `base_lr` at the peak, and fall until the last step."""
        self._peak, self._first = base_lr, base_lr / spec.initial_divisor
        self._last = self._first / spec.final_divisor
        total = epochs * iterations_per_epoch
        # Numbers of steps from 0, of which the first need not be whole, nor even positive in a very short training.
        self._peak_at, self._end = spec.peak_at * total - 1, total - 1

    def lr(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        if iteration < self._peak_at:
            return _half_cosine(self._first, self._peak, iteration / self._peak_at)
        done = (iteration - self._peak_at) / (self._end - self._peak_at)
        return _half_cosine(self._peak, self._last, min(done, 1.0))

    @property
    def rises_until(self) -> int:
        """Return the peak."""
        return max(0, math.ceil(self._peak_at))


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def warm_up_steps(spec: WarmedUp, total: int) -> int:
    """Return the number of steps in which the lr rises."""
    return round(spec.warmup_fraction * total)


def warm_up_share(spec: WarmedUp, iteration: int, *, num_steps: int) -> float:
    """Return the share of the lr that a step of a warm-up has; 1 once it is over."""
    if iteration >= num_steps:
        return 1.0
    return spec.warmup_from + (1 - spec.warmup_from) * iteration / num_steps


BUILDERS: Mapping[type, Callable[..., Schedule]] = {
    PolySchedule: Poly,
    PlateauSchedule: Plateau,
    CosineSchedule: Cosine,
    OneCycleSchedule: OneCycle,
    ConstantSchedule: Constant,
}
"""By the plan's record."""


def build_schedule(spec: ScheduleSpec, base_lr: float, *, epochs: int, iterations_per_epoch: int) -> Schedule:
    """Return the schedule that a plan names."""
    return BUILDERS[type(spec)](spec, base_lr, epochs=epochs, iterations_per_epoch=iterations_per_epoch)
