"""Optimisation: optimizer, learning rates, gradient scaler and clipping, with all their state."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.engine.schedules import Schedule, build_optimizer, build_schedule
from tumorseg.losses.weighting import Weighting
from tumorseg.schema.plan import Configuration
from tumorseg.schema.training import Training


class Group(NamedTuple):
    """Parameters of one group of the optimizer beside the network's, which comes first."""

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
    """Optimizer, learning rates, gradient scaler and clipping of one training."""

    def __init__(
        self,
        configuration: Configuration,
        training: Training,
        network: nn.Module,
        groups: list[Group],
        scaler: torch.amp.GradScaler,
    ) -> None:
        """Begin a training of a network, whose parameters are the first group, and of further groups."""
        self.optimizer = build_optimizer(configuration.optimizer, network.parameters())
        self._others: list[nn.Parameter] = []
        for group in groups:
            self.optimizer.add_param_group({"params": group.parameters, **group.options})
            self._others += group.parameters
        self.schedule: Schedule = build_schedule(
            configuration.schedule,
            configuration.optimizer.lr,
            epochs=training.epochs,
            iterations_per_epoch=training.iterations_per_epoch,
        )
        self.scaler = scaler
        self._network = network
        self._clip = training.gradient_clip_norm

    def begin_step(self, iteration: int) -> None:
        """Set the network's learning rate for a step, and forget the gradients of the one before."""
        self.optimizer.param_groups[0]["lr"] = self.schedule.lr(iteration)
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, total: Tensor) -> None:
        """Add the gradient of a loss, scaled against underflow."""
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]  # torch leaves it without types

    def gradient_norms(self) -> list[Tensor]:
        """Unscale the gradients and clip the network's; return scalars on the device that are finite if all gradients are.

        The first is the norm of the network's gradient before it was clipped.
        """
        self.scaler.unscale_(self.optimizer)
        # By itself: what a loss's own weights learn must not change how far the network moves.
        norm = torch.nn.utils.clip_grad_norm_(self._network.parameters(), self._clip)
        others = [parameter.grad.norm() for parameter in self._others if parameter.grad is not None]
        return [norm, *others]

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
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty after steps without a scaler, on the CPU or in another precision
            self.scaler.load_state_dict(state["scaler"])
        self.schedule.restore(state["schedule"])
