"""Optimizers that a plan names, and what they take of memory."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch

from tumorseg.engine.parameter_groups import ParameterGroup
from tumorseg.schema.optimizers import AdamW, DecoupledAdam, OptimizerSpec, RAdam, Sgd

Groups = list[dict[str, Any]]


def build_optimizer(spec: OptimizerSpec, groups: Iterable[ParameterGroup]) -> torch.optim.Optimizer:
    """Return the optimizer that a plan names.

    Args:
        spec: the plan's.
        groups: of the network's parameters; where a group's weight decay is the plan's, it is not said again.
    """
    described: Groups = []
    for group in groups:
        own = {} if group.weight_decay == spec.weight_decay else {"weight_decay": group.weight_decay}
        described.append({"params": group.parameters, **own})
    return BUILDERS[type(spec)](spec, described)


def _sgd(spec: Sgd, groups: Groups) -> torch.optim.Optimizer:
    # torch refuses Nesterov's step without momentum.
    nesterov = spec.nesterov and spec.momentum > 0
    return torch.optim.SGD(
        groups, lr=spec.lr, momentum=spec.momentum, nesterov=nesterov, weight_decay=spec.weight_decay
    )


def _adamw(spec: AdamW, groups: Groups) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, **_adams_options(spec))


def _radam(spec: RAdam, groups: Groups) -> torch.optim.Optimizer:
    return torch.optim.RAdam(groups, decoupled_weight_decay=True, **_adams_options(spec))


def _adams_options(spec: DecoupledAdam) -> dict[str, Any]:
    return {"lr": spec.lr, "betas": spec.betas, "eps": spec.eps, "weight_decay": spec.weight_decay}


BUILDERS: Mapping[type, Callable[[Any, Groups], torch.optim.Optimizer]] = {Sgd: _sgd, AdamW: _adamw, RAdam: _radam}
"""By the plan's record."""


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
    if isinstance(spec, DecoupledAdam):
        # Both moments and the number of steps; the denominators are made anew at each.
        return OptimizerMemory(kept=2, counters=1, scratch=1)
    # Gradients are copied only to add the weight decay to them.
    has_buffer, has_decay = spec.momentum != 0, spec.weight_decay != 0
    return OptimizerMemory(kept=int(has_buffer), counters=0, scratch=int(has_decay))
