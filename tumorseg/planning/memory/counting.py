"""The memory of a configuration, counted on its own network and loss without computing anything.

A training step and an inference tile run on tensors that have a shape and a type but no voxels, while every allocation
and release is followed.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tumorseg.engine.averaging import NetworkForward
from tumorseg.engine.sliding_window import predict_slabs, tiling_of
from tumorseg.errors import PlanError
from tumorseg.planning.memory.allocations import AllocationTracker
from tumorseg.planning.memory.budgets import part_size
from tumorseg.planning.memory.cuda_autocast import CudaRules
from tumorseg.planning.memory.fakes import FakeMode
from tumorseg.planning.memory.rehearsal import Rehearsal, Setting, StepCount
from tumorseg.schema.base import content_hash
from tumorseg.schema.losses import SurfaceDiceLoss
from tumorseg.schema.plan import Configuration, MemoryCount

MOST_REHEARSALS = 6
"""Networks that are kept for the next count."""


class MemoryCounter:
    """Counts memory; networks and results are kept, so that a search asks for the same ones at no cost."""

    def __init__(self) -> None:
        self._rehearsals: dict[str, Rehearsal] = {}
        self._steps: dict[str, StepCount] = {}
        self._inferences: dict[str, int] = {}

    def count(self, configuration: Configuration, setting: Setting, *, num_gpus: int = 1) -> MemoryCount:
        """Count the memory of a training step and of the inference of a median case.

        Args:
            configuration: network, patch, batch, loss and optimizer.
            setting: channels, targets, precision.
            num_gpus: GPUs among which a batch is divided.

        Returns:
            Bytes on one GPU as torch's CUDA allocator hands them out, without CUDA's context and unused blocks.

        Raises:
            PlanError: a network or loss of another package is not installed in the plan's version.
        """
        # Two keys, as inference does not depend on the batch, nor a step on where tiles are added up.
        try:
            return self._counted(configuration, setting, num_gpus, FakeMode)
        except PlanError:
            raise
        except Exception:
            # Light fakes lack what compilers and odd code need; torch's own take seconds, and say what is really wrong.
            return self._counted(configuration, setting, num_gpus, _torchs_fakes)

    def _counted(
        self, configuration: Configuration, setting: Setting, num_gpus: int, make: Callable[[], TorchDispatchMode]
    ) -> MemoryCount:
        step = content_hash([_about_step(configuration), repr(setting), num_gpus])
        inference = content_hash([_about_inference(configuration), repr(setting)])
        if step not in self._steps:
            rehearsal = self._rehearsal(configuration, setting, make)
            self._steps[step] = rehearsal.train(configuration, part_size(configuration, num_gpus))
        if inference not in self._inferences:
            rehearsal = self._rehearsal(configuration, setting, make)
            self._inferences[inference] = _count_inference(rehearsal, configuration, setting)
        return MemoryCount(**self._steps[step]._asdict(), inference_bytes=self._inferences[inference])

    def _rehearsal(
        self, configuration: Configuration, setting: Setting, make: Callable[[], TorchDispatchMode]
    ) -> Rehearsal:
        key = content_hash([_about_parts(configuration), repr(setting), repr(make)])
        found = self._rehearsals.pop(key, None) or Rehearsal(configuration, setting, make())
        self._rehearsals[key] = found  # the latest one last
        if len(self._rehearsals) > MOST_REHEARSALS:
            del self._rehearsals[next(iter(self._rehearsals))]
        return found


def _torchs_fakes() -> TorchDispatchMode:
    from torch._subclasses.fake_tensor import FakeTensorMode  # loads torch's compiler

    return FakeTensorMode()


def _about_parts(configuration: Configuration) -> list[object]:
    parts = (configuration.network, configuration.loss, configuration.optimizer)
    # Of all losses only this one allocates by the voxels' size.
    has_tolerance = any(isinstance(one, SurfaceDiceLoss) for one in configuration.loss.components)
    return [*(part.model_dump(mode="json") for part in parts), configuration.spacing_mm if has_tolerance else None]


def _about_step(configuration: Configuration) -> list[object]:
    batch = (configuration.batch_size, configuration.gradient_accumulation, configuration.activation_checkpointing)
    return [*_about_parts(configuration), configuration.patch_size, *batch]


def _about_inference(configuration: Configuration) -> list[object]:
    parts = (configuration.network, configuration.inference)
    sizes = [configuration.patch_size, configuration.median_shape]
    return [*(part.model_dump(mode="json") for part in parts), *sizes]


def _count_inference(rehearsal: Rehearsal, configuration: Configuration, setting: Setting) -> int:
    """Return the most that is allocated at once while a median case is segmented."""
    tiling = tiling_of(configuration)
    # Each further mirrored view only takes the place of the one before.
    axes = configuration.inference.mirroring_axes[:1] if configuration.inference.mirroring else ()
    networks = [rehearsal.network.eval()]
    forward = NetworkForward(networks, axes, configuration.num_axes, rehearsal.autocast, torch.device("cpu"))
    with rehearsal.mode, AllocationTracker() as tracker, CudaRules():
        forward(torch.empty(1, setting.num_channels, *tiling.patch_size))
    tile: int = rehearsal.parameters_bytes + tracker.peak_bytes
    if configuration.inference.accumulate_on == "cpu":
        return tile
    return tile + _count_accumulators(configuration, setting.targets.num_outputs)


def _count_accumulators(configuration: Configuration, num_outputs: int) -> int:
    """Return the memory of sums over the tiles of a median case.

    Two rows of one tile each, whose logits cost nothing, are followed; all that is kept grows with the plane.
    """
    tiling = tiling_of(configuration)
    depth, *plane = tiling.patch_size
    with FakeMode(), AllocationTracker() as tracker:
        logits = torch.empty(1, num_outputs, *tiling.patch_size)
        # Half a tile more makes one further row at the usual overlap.
        image = torch.empty(0, depth + max(1, depth // 2), *plane)
        kept: Tensor | None = None
        for slab in predict_slabs(image, lambda _: logits, tiling, num_outputs=num_outputs):
            # As restoration does, which interpolates across the seam of two slabs.
            kept = slab.logits if kept is None else torch.cat((kept[:, -1:], slab.logits), dim=1)
    # A case that is smaller than a tile is padded to one.
    shares = zip(configuration.median_shape[-2:], plane, strict=True)
    return math.ceil(float(tracker.peak_bytes) * math.prod(max(size / edge, 1.0) for size, edge in shares))
