"""Hints: the features of which a student makes its logits are drawn to those of a teacher.

References:
    Romero et al., FitNets: hints for thin deep nets, ICLR 2015.
"""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tumorseg.errors import PlanError

CONVOLUTIONS = {4: nn.Conv2d, 5: nn.Conv3d}
"""By the number of axes of what goes in."""
TERM = "hints"
"""Name of the term in logs."""


class Tap:
    """Takes the features that a network's last layer turns into logits, each time it runs."""

    def __init__(self, network: nn.Module, probe: Tensor, *, whose: str) -> None:
        """Find that layer.

        Args:
            network: in whichever mode, which it keeps.
            probe: (1, C, *patch) to run it on.
            whose: it is, in words.

        Raises:
            PlanError: no layer has the full resolution's logits as its output and features of that resolution as its input.
        """
        self._taken: Tensor | None = None
        head = _head_of(network, probe)
        if head is None:
            raise PlanError(
                f"hints need networks whose logits come from one last layer at full resolution, which the {whose}'s do not; leave out --hints"
            )
        # By a weak reference: a network may outlive what taps it, and must not keep it and its features.
        taken = weakref.WeakMethod(self._take)

        def take(_head: nn.Module, inputs: tuple[Any, ...]) -> None:
            if (method := taken()) is not None:
                method(inputs[0])

        weakref.finalize(self, head.register_forward_pre_hook(take).remove)
        _run(network, probe)
        self.num_channels = self.features().shape[1]

    def _take(self, features: Tensor) -> None:
        self._taken = features

    def forget(self) -> None:
        """Let go of the features of a run that nobody has asked for, and of the graph behind them."""
        self._taken = None

    def features(self) -> Tensor:
        """Return the features (B, C, *patch) of the latest run, once."""
        taken, self._taken = self._taken, None
        assert taken is not None  # the network has just run
        return taken


def _head_of(network: nn.Module, probe: Tensor) -> nn.Module | None:
    """Return the layer whose output a network's logits are."""
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
            seen.append((module, inputs[0], output))

    layers = [module for module in network.modules() if not list(module.children())]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    logits = _run(network, probe)
    for hook in hooks:
        hook.remove()
    for module, features, output in reversed(seen):
        # Its weights tell it from what only passes logits on.
        if output is logits and features.shape[2:] == probe.shape[2:] and list(module.parameters()):
            return module
    return None


def _run(network: nn.Module, probe: Tensor) -> Any:
    """Run a network as in prediction, and leave it in the mode in which it was."""
    was_training = network.training
    with torch.no_grad():
        found = network.eval()(probe)
    network.train(was_training)
    return found


class Hints:
    """What draws a student's last features to a teacher's; the way between both is learnt with them, and is no part of the student."""

    def __init__(self, student: nn.Module, teacher: nn.Module, probes: Sequence[Tensor], *, seed: int) -> None:
        """Find the features of both.

        Args:
            student: in training.
            teacher: that gives hints.
            probes: (1, C, *patch) for each of them, on their device.
            seed: of the training, from which the way's first weights follow.

        Raises:
            PlanError: one of them has no last layer.
        """
        self._student = Tap(student, probes[0], whose="student")
        self._teacher = Tap(teacher, probes[1], whose="teacher")
        kind = CONVOLUTIONS[probes[0].ndim]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            way = kind(self._student.num_channels, self._teacher.num_channels, kernel_size=1, bias=False)
        self.way = way.to(probes[0].device)

    def forget(self) -> None:
        """Let go of the features of runs that came to no end, or that were no steps."""
        self._student.forget()
        self._teacher.forget()

    def student_features(self) -> Tensor:
        """Return the student's features (B, C, *patch) of its latest run."""
        return self._student.features()

    def teacher_features(self) -> Tensor:
        """Return the teacher's features (B, C', *patch) of its latest run."""
        return self._teacher.features()

    def loss(self, features: Tensor, wanted: Tensor) -> Tensor:
        """Return the mean squared distance, from 0 to 4, of features that are normalised case by case and channel by channel.

        Args:
            features: (B, C, *patch) of the student.
            wanted: (B, C', *patch) of the teacher.
        """
        return F.mse_loss(F.instance_norm(self.way(features.float())), F.instance_norm(wanted.float()))
