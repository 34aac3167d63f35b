"""Optimisation: optimizer, learning rates, length, gradient scaler and clipping, with all their state."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.engine.ending import Length, Tail
from tumorseg.engine.optimizers import build_optimizer
from tumorseg.engine.parameter_groups import Freezing, parameter_groups
from tumorseg.engine.schedules import Schedule, build_schedule
from tumorseg.losses.weighting import Weighting
from tumorseg.schema.plan import Configuration
from tumorseg.schema.training import FineTuning, Training


class Group(NamedTuple):
    """Parameters of one group of the optimizer beside the network's, which come first."""

    parameters: list[nn.Parameter]
    options: dict[str, float]
    """What differs from the optimizer's options: `lr`, which no schedule moves, and `weight_decay`."""


def groups_of(weighting: Weighting) -> list[Group]:
    """Return the group of a loss's learnt weights, if it has any."""
    parameters = list(weighting.parameters())
    if not parameters:
        return []
    assert weighting.lr is not None  # a weighting that learns says how fast
    return [Group(parameters, {"lr": weighting.lr, "weight_decay": 0.0})]


class Optimisation:
    """Optimizer, learning rates, length, gradient scaler and clipping of one training."""

    def __init__(
        self,
        configuration: Configuration,
        training: Training,
        network: nn.Module,
        groups: list[Group],
        scaler: torch.amp.GradScaler,
    ) -> None:
        """Begin a training of a network, whose parameters are the first groups, and of further groups."""
        spec = configuration.optimizer
        own = parameter_groups(network, spec, training.fine_tuning)
        self.optimizer = build_optimizer(spec, own)
        self._scales = [group.lr_scale for group in own]
        for group in groups:
            self.optimizer.add_param_group({"params": group.parameters, **group.options})
        self.schedule: Schedule = build_schedule(
            configuration.schedule,
            spec.lr,
            epochs=training.planned_epochs,
            iterations_per_epoch=training.iterations_per_epoch,
        )
        num_planned = training.planned_epochs * training.iterations_per_epoch
        self._warm_up = _warm_up(training.fine_tuning, num_planned)
        self._freezing = Freezing(network, training.fine_tuning, num_planned)
        # Until then a loss that hardly falls says nothing: steps are small, or parts of the network stand still.
        settled_at = max(self.schedule.rises_until, self._warm_up, self._freezing.ends_at)
        self.length = Length(training, spec.lr, settled_at=settled_at)
        self.scaler = scaler
        # By themselves: what a loss's own weights learn must not change how far the network moves.
        self._clipped = [list(network.parameters()), *(group.parameters for group in groups)]
        self._clip = training.gradient_clip_norm

    def add_group(self, parameters: list[nn.Parameter]) -> None:
        """Train further parameters, before the first step, at the lr of the plan's beginning, which no schedule moves."""
        self.optimizer.add_param_group({"params": parameters, "weight_decay": 0.0})
        self._clipped.append(parameters)

    def lr(self, iteration: int) -> float:
        """Return the network's learning rate of a step."""
        if (tail := self.length.tail_at(iteration)) is not None:
            return tail.lr(iteration)
        # From a share of its own on, so that even the first step moves something.
        return self.schedule.lr(iteration) * min((iteration + 1) / (self._warm_up + 1), 1.0)

    def begin_step(self, iteration: int) -> None:
        """Set the network's learning rates for a step, and forget the gradients of the one before."""
        self._freezing.apply(iteration)
        lr = self.lr(iteration)
        # Not strict: groups that are not the network's come last, and keep their own.
        for group, scale in zip(self.optimizer.param_groups, self._scales, strict=False):
            group["lr"] = lr * scale
        self.optimizer.zero_grad(set_to_none=True)

    def end_epoch(self, iteration: int, train_loss: float) -> Tail | None:
        """Let lr and length follow from an epoch's mean training loss; held-out cases shape nothing.

        Args:
            iteration: steps so far.
            train_loss: the epoch's.

        Returns:
            The tail with which the training begins to end sooner than planned, if it does.
        """
        # Once the lr falls to the planned end, or to a sooner one, losses no longer matter.
        is_ending = self.length.tail_at(iteration) is not None or self.schedule.is_annealing(iteration)
        tail = None if is_ending else self.length.end_epoch(iteration, train_loss, lr=self.lr(iteration - 1))
        self.schedule.end_epoch(train_loss)
        return tail

    def backward(self, total: Tensor) -> None:
        """Add the gradient of a loss, scaled against underflow."""
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]  # torch leaves it without types

    def gradient_norms(self) -> list[Tensor]:
        """Unscale the gradients and clip them; return scalars on the device that are finite if all gradients are.

        The first is the norm of the network's gradient before it was clipped, the others those of a loss's learnt weights.
        """
        self.scaler.unscale_(self.optimizer)
        return [self._norm_once_clipped(parameters) for parameters in self._clipped]

    def _norm_once_clipped(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        if self._clip is not None:
            return nn.utils.clip_grad_norm_(parameters, self._clip)
        return nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])

    def end_step(self, *, is_taken: bool) -> None:
        """Move the weights if the step is to be taken; a gradient scaler follows the gradients in either case."""
        if is_taken:
            # Not `scaler.step`, which would wait for the device again to learn what is known: all gradients are finite.
            self.optimizer.step()
        self.scaler.update()

    def state(self) -> dict[str, Any]:
        """Return everything that changes while training: tensors and plain values only."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "schedule": self.schedule.state(),
            "length": self.length.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty after steps without a scaler, on the CPU or in another precision
            self.scaler.load_state_dict(state["scaler"])
        self.schedule.restore(state["schedule"])
        self.length.restore(state["length"])


def _warm_up(fine_tuning: FineTuning | None, num_planned: int) -> int:
    """Return the steps in which the lr rises because the weights were given."""
    return 0 if fine_tuning is None else math.ceil(fine_tuning.warmup_fraction * num_planned - 1e-9)
