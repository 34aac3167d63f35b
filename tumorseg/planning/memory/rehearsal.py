"""A training step without voxels: network and loss as the learner puts them together, on fake tensors."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tumorseg.engine.execution import PRECISIONS
from tumorseg.engine.optimizers import optimizer_memory
from tumorseg.losses.registry import build_loss
from tumorseg.networks.registry import build_network, prepare_network
from tumorseg.planning.memory.allocations import AllocationTracker, in_blocks
from tumorseg.planning.memory.cuda_autocast import CudaRules
from tumorseg.planning.memory.fakes import storage_of
from tumorseg.schema.plan import Configuration
from tumorseg.schema.targets import Targets, num_inputs


class Setting(NamedTuple):
    """Channels, targets and precision of a training."""

    num_channels: int
    """C, input channels of the network."""
    targets: Targets
    """What it predicts."""
    precision: str
    """`fp32`, `fp16` or `bf16`."""
    has_average: bool = False
    """Whether a moving average of the weights is kept beside them."""


def setting_of(setting: Setting, configuration: Configuration) -> Setting:
    """Return a setting with the channels that a configuration's network takes: in a cascade, one per label as well."""
    return setting._replace(num_channels=num_inputs(configuration, setting.targets))


class StepCount(NamedTuple):
    """Memory of a training step; what each field means is said at `MemoryCount`."""

    parameters_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    workspace_bytes: int
    peak_bytes: int


class _Batch(NamedTuple):
    """All parts of a batch: images (B, C, *patch) and class indices (B, *patch)."""

    images: Tensor
    segmentations: Tensor


class Rehearsal:
    """A network with its loss, ready to run steps of any patch and batch."""

    def __init__(self, configuration: Configuration, setting: Setting, mode: TorchDispatchMode) -> None:
        """Build everything from a configuration, whose patch and batch do not matter, in a mode that makes fake tensors."""
        self._setting = setting
        self.mode = mode
        prepare_network(configuration.network)
        with self.mode, AllocationTracker() as tracker:
            self.network = build_network(
                configuration.network, num_channels=setting.num_channels, num_outputs=setting.targets.num_outputs
            )
            self.parameters_bytes = tracker.live_bytes
            self._loss = build_loss(configuration.loss, setting.targets, configuration.spacing_mm)
            tables_bytes = tracker.live_bytes - self.parameters_bytes
        held = optimizer_memory(configuration.optimizer)
        # Each weight and each counter is a tensor of its own, and takes whole blocks.
        sizes = [in_blocks(storage_of(parameter).nbytes()) for parameter in self.network.parameters()]
        self.optimizer_bytes = tables_bytes + held.kept * sum(sizes) + held.counters * in_blocks(1) * len(sizes)
        if setting.has_average:
            # Updated in place, so that a step takes no more.
            self.optimizer_bytes += self.parameters_bytes
        # Gradients are still there when the optimizer steps.
        self._step_bytes = (1 + held.scratch) * sum(sizes)

    def train(self, configuration: Configuration, part_size: int) -> StepCount:
        """Count a training step.

        Args:
            configuration: patch, and whether activations are checkpointed.
            part_size: patches that go through the network at once.
        """
        static = self.parameters_bytes + self.optimizer_bytes
        with self.mode, AllocationTracker() as tracker, CudaRules():
            batch = self._batch(configuration, part_size)
            held = self._hold_gradients(batch, part_size)
            loss_peak = tracker.peak_bytes
            tracker.restart()
            activations_bytes = self._forward_and_backward(batch, part_size, held)
            del batch, held
            # Parameters without influence, such as a head whose output has no weight, have none.
            gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
            gradients_bytes = sum(storage_of(gradient).nbytes() for gradient in gradients)
            # Parts after the first meet the gradients of those before.
            earlier = gradients_bytes if configuration.gradient_accumulation > 1 else 0
        self.network.zero_grad(set_to_none=True)
        # The peak is one of three moments: the loss of all parts, the passes of a part, or the optimizer's step.
        return StepCount(
            parameters_bytes=self.parameters_bytes,
            gradients_bytes=gradients_bytes,
            optimizer_bytes=self.optimizer_bytes,
            activations_bytes=activations_bytes,
            workspace_bytes=tracker.workspace_bytes,
            peak_bytes=static + max(loss_peak, earlier + tracker.peak_bytes, self._step_bytes),
        )

    def autocast(self) -> torch.autocast | nullcontext[None]:
        """Return the context of forward passes."""
        precision = self._setting.precision
        return nullcontext() if precision == "fp32" else torch.autocast("cpu", dtype=PRECISIONS[precision])

    def _batch(self, configuration: Configuration, part_size: int) -> _Batch:
        """Return the patches of all parts, and set the network to train as the configuration says."""
        self.network.train()
        if configuration.activation_checkpointing or hasattr(self.network, "activation_checkpointing"):
            self.network.activation_checkpointing = cast(Any, configuration.activation_checkpointing)
        size, patch = part_size * configuration.gradient_accumulation, configuration.patch_size
        images = torch.empty(size, self._setting.num_channels, *patch)
        return _Batch(images, torch.empty(size, *patch, dtype=torch.int64))

    def _hold_gradients(self, batch: _Batch, part_size: int) -> list[Tensor | None]:
        """Return the gradients of all logits, which lie beside the activations of each part; none for a single part."""
        size = len(batch.images)
        if size == part_size:
            return []
        with torch.no_grad(), self.autocast():
            outputs, weights = self._loss.pair(self.network(batch.images[:part_size]))
        logits = [output.new_empty(size, *output.shape[1:]).requires_grad_() for output in outputs]
        del outputs
        _run_backward([self._value(logits, weights, batch.segmentations)])
        return [level.grad for level in logits]

    def _forward_and_backward(self, batch: _Batch, part_size: int, held: list[Tensor | None]) -> int:
        """Run a part forward and backward: from its loss, or from the gradients of its logits that are held.

        Returns:
            Bytes that the forward pass of network and loss keeps for the backward pass.
        """
        saved = _SavedTensors(self.network.parameters())
        gradients: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(saved.add, lambda tensor: tensor):
            with self.autocast():
                outputs, weights = self._loss.pair(self.network(batch.images[:part_size]))
            if held:
                roots, kept = _reached(outputs, held)
                gradients = [saved.add(gradient)[:part_size] for gradient in kept]
            else:
                roots = [self._value(outputs, weights, batch.segmentations)]
        del outputs
        _run_backward(roots, gradients)
        return saved.num_bytes

    def _value(self, outputs: Sequence[Tensor], weights: Sequence[float], segmentations: Tensor) -> Tensor:
        has_ignored = self._setting.targets.ignore_value is not None
        return self._loss.value(outputs, weights, segmentations, has_ignored=has_ignored).total


def _reached(outputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the outputs that have a gradient, and their gradients; one whose weight is 0 has none."""
    roots, found = [], []
    for output, gradient in zip(outputs, gradients, strict=True):
        if gradient is not None:
            roots.append(output)
            found.append(gradient)
    return roots, found


def _run_backward(roots: Sequence[Tensor], gradients: Sequence[Tensor] = ()) -> None:
    """Run autograd's engine itself: `backward()` would switch `CudaRules` off for recomputed stages."""
    given = tuple(gradients) or tuple(torch.ones_like(root) for root in roots)
    engine = torch.autograd.Variable._execution_engine
    engine.run_backward(tuple(roots), given, False, False, (), allow_unreachable=True, accumulate_grad=True)


class _SavedTensors:
    """Adds up what autograd saves, each storage once, parameters left out."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.num_bytes = 0
        self._seen = {storage_of(parameter)._cdata for parameter in parameters}

    def add(self, tensor: Tensor) -> Tensor:
        """Note a tensor that is kept."""
        storage = storage_of(tensor)
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self.num_bytes += storage.nbytes()
        return tensor
