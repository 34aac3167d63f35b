"""Weights of components that follow the course of a training."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tumorseg.schema.weighting import (
    AdaptiveWeighting,
    DynamicAverageWeighting,
    FixedWeighting,
    LossWeighting,
    UncertaintyWeighting,
)

EPS = 1e-8
MOST_LOG_VARIANCE = 4.0
"""Factors that are learnt stay between 1/55 and 55: of a loss of 0 the log-variance would fall for ever."""
MOST_RATIO = 2.0
"""A component that rose further than twice counts as if it had doubled: one that was 0 before would take all the weight."""


class Weighting(nn.Module):
    """Multiplies the components' own weights; this one leaves them as they are."""

    lr: float | None = None
    """Learning rate of the parameters, if there are any."""

    def __init__(self, spec: FixedWeighting, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)

    def forward(self, own: Sequence[float]) -> tuple[Tensor | None, Tensor | float]:
        """Return the factor of each component (n), or None for 1 each, and what is added to the loss.

        Args:
            own: the components' own weights now.
        """
        return None, 0.0

    def observe(self, values: Mapping[str, Tensor]) -> None:
        """Look at the detached values of a step's components, by name."""

    def end_epoch(self) -> None:
        """Note that an epoch is over."""


class Uncertainty(Weighting):
    """Factors exp(-s) of log-variances s that are learnt within bounds; the sum of s is added, so that s seeks log(loss).

    References:
        Kendall et al., Multi-task learning using uncertainty to weigh losses, CVPR 2018.
    """

    def __init__(self, spec: UncertaintyWeighting, names: Sequence[str]) -> None:
        super().__init__(FixedWeighting(), names)
        self.lr = spec.lr
        self.log_variances = nn.Parameter(torch.zeros(len(self.names)))

    def forward(self, own: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Return the factors, and the sum of the log-variances of components that have a weight now."""
        # A blocking copy would wait for the device.
        counts = torch.tensor([float(weight > 0) for weight in own]).to(self.log_variances.device, non_blocking=True)
        return torch.exp(-self.log_variances), (self.log_variances * counts).sum()

    def observe(self, values: Mapping[str, Tensor]) -> None:
        """Bring back what the step has taken beyond the bounds."""
        with torch.no_grad():
            self.log_variances.clamp_(-MOST_LOG_VARIANCE, MOST_LOG_VARIANCE)


class DynamicAverage(Weighting):
    """Factors from how far each component fell between the last two epochs: a softmax, on average 1.

    References:
        Liu et al., End-to-end multi-task learning with attention, CVPR 2019.
    """

    sums: Tensor
    count: Tensor
    means: Tensor
    epochs: Tensor

    def __init__(self, spec: DynamicAverageWeighting, names: Sequence[str]) -> None:
        super().__init__(FixedWeighting(), names)
        self.temperature = spec.temperature
        # Counts are tensors too: part of the state, and read without waiting for the device.
        self.register_buffer("sums", torch.zeros(len(self.names)))
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("means", torch.ones(2, len(self.names)))  # before last, and last
        self.register_buffer("epochs", torch.zeros(()))

    def forward(self, own: Sequence[float]) -> tuple[Tensor | None, float]:
        """Return the factors; 1 each in the first two epochs."""
        ratios = _ratio(self.means[1], self.means[0])
        factors = torch.softmax(ratios / self.temperature, 0) * len(self.names)
        return torch.where(self.epochs < 2, 1.0, factors), 0.0

    def observe(self, values: Mapping[str, Tensor]) -> None:
        """Add a step to the epoch's means."""
        self.sums += _stack(values, self.names, self.sums)
        self.count += 1

    def end_epoch(self) -> None:
        """Take over the epoch's means."""
        # An epoch without a finite loss has a mean of 0 rather than NaN.
        self.means = torch.stack((self.means[1], self.sums / self.count.clamp(min=1)))
        self.sums = torch.zeros_like(self.sums)
        self.count = torch.zeros_like(self.count)
        self.epochs = self.epochs + 1


class Adaptive(Weighting):
    """Factors from each component's running mean against a longer one: a softmax of their ratios, on average 1.

    A component that has fallen lately has a ratio under 1 and loses weight to those that have not.
    """

    short: Tensor
    long: Tensor
    steps: Tensor

    def __init__(self, spec: AdaptiveWeighting, names: Sequence[str]) -> None:
        super().__init__(FixedWeighting(), names)
        self.spec = spec
        self.register_buffer("short", torch.zeros(len(self.names)))
        self.register_buffer("long", torch.zeros(len(self.names)))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, own: Sequence[float]) -> tuple[Tensor, float]:
        """Return the factors; 1 each before the first step."""
        spec = self.spec
        # Both means begin at 0 and are divided by what they have taken in so far, as Adam's moments are.
        short = self.short / (1 - spec.memory**self.steps).clamp(min=EPS)
        long = self.long / (1 - spec.long_memory**self.steps).clamp(min=EPS)
        ratios = _ratio(short, long)
        free = torch.softmax(ratios / spec.temperature, 0) * len(self.names)
        factors = spec.least + (1 - spec.least) * free
        return torch.where(self.steps == 0, 1.0, factors), 0.0

    def observe(self, values: Mapping[str, Tensor]) -> None:
        """Take a step into the running means."""
        found = _stack(values, self.names, self.short)
        self.short = torch.lerp(found, self.short, self.spec.memory)
        self.long = torch.lerp(found, self.long, self.spec.long_memory)
        self.steps = self.steps + 1


def _ratio(now: Tensor, before: Tensor) -> Tensor:
    """Return now over before, both from 0 on, within bounds."""
    return ((now + EPS) / (before + EPS).clamp(min=EPS)).clamp(0, MOST_RATIO)


def _stack(values: Mapping[str, Tensor], names: Sequence[str], like: Tensor) -> Tensor:
    return torch.stack([values[name] for name in names]).to(like)


BUILDERS: dict[str, Any] = {
    "fixed": Weighting,
    "uncertainty": Uncertainty,
    "dynamic_average": DynamicAverage,
    "adaptive": Adaptive,
}


def build_weighting(spec: LossWeighting, names: Sequence[str]) -> Weighting:
    """Return what a plan says of the weights of components of these names."""
    found: Weighting = BUILDERS[spec.name](spec, names)
    return found
