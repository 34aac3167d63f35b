"""What a loaded model computes with: engine, precision, batches sized by memory, and what is done when that runs out."""

import logging
import math
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import NamedTuple

import torch
from torch import nn

from tumorseg.engine.averaging import Pass
from tumorseg.engine.execution import PRECISIONS
from tumorseg.engine.precision import inference_dtype
from tumorseg.engine.sliding_window import tiling_of
from tumorseg.schema.base import Record
from tumorseg.schema.plan import Configuration, InferenceEngine, InferencePrecision, Plan
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.inference.engines import EngineJob, chosen_engine, start_engine

logger = logging.getLogger(__name__)

VOXELS_PER_PASS = 200_000
"""Voxels of the patches that a processor takes in one pass: two of 40 x 56 x 40 are done sooner together than one by one, while
larger patches gain nothing and take their memory twice."""
MOST_PATCHES = 16
"""Patches in one pass of a GPU, however much memory it has."""


class RuntimeOptions(Record):
    """What is asked for instead of what the plan says."""

    engine: InferenceEngine | None = None
    """As the plan says if None."""
    precision: InferencePrecision | None = None
    """Likewise."""
    cache: Path | None = None
    """Folder for converted networks; None to keep them in memory only."""


AS_PLANNED = RuntimeOptions()


@dataclass
class Runtime:
    """Engine of one model, shared by all cases."""

    engine: str
    """`torch`, `compile` or `openvino`."""
    dtype: torch.dtype
    """Of convolutions."""
    passes: tuple[Pass, ...]
    """One per fold."""
    patches_per_pass: int
    """Tiles times mirrored views in a batch."""
    sums_on_cpu: bool
    """Whether the logits of tiles are added up in main memory."""
    is_exact: bool = False
    """Whether nothing but float32 was asked for, in sums either."""
    background: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, "network"))
    """The thread of the network."""
    turn: Lock = field(default_factory=Lock)
    """Held by the case that the network looks at."""
    stopped: Event = field(default_factory=Event)
    """Set to let cases that have begun fail at their next pass."""
    _is_told: bool = False

    @property
    def precision(self) -> str:
        """Return the name of the type: `fp32`, `bf16` or `fp16`."""
        return next(name for name, dtype in PRECISIONS.items() if dtype is self.dtype)

    def beside(self, other: "Runtime") -> "Runtime":
        """Return this with another one's thread and turn, so that of the two networks one computes at a time."""
        return replace(self, background=other.background, turn=other.turn, stopped=other.stopped)

    def relieve(self) -> bool:
        """Take less memory from now on; return whether that was possible. To be called by the case whose turn it is."""
        if self.patches_per_pass == 1 and self.sums_on_cpu:
            return False
        if not self._is_told:
            logger.warning(
                "the GPU's memory ran out: tiles go through the network in smaller batches from now on and, if need be, are added up "
                "in main memory, which takes longer"
            )
        self._is_told = True
        if self.patches_per_pass > 1:
            self.patches_per_pass = max(1, self.patches_per_pass // 4)
        else:
            self.sums_on_cpu = True
        return True


class Networks(NamedTuple):
    """Networks of a model on their device."""

    modules: Sequence[nn.Module]
    device: torch.device
    weight_hashes: tuple[str, ...]
    """Of their checkpoints."""


def make_runtime(plan: Plan, configuration: Configuration, networks: Networks, options: RuntimeOptions) -> Runtime:
    """Return what a model computes with.

    Args:
        plan: the model's.
        configuration: the one that predicts.
        networks: in eval mode.
        options: what is asked for.

    Raises:
        InputError: the engine is not installed, or does not know the device or the network.
    """
    spec, device = configuration.inference, networks.device
    requested = options.precision or spec.precision
    dtype = inference_dtype(device, requested, plan.training.precision.cuda)
    shape = (num_inputs(configuration, targets_of(plan.dataset)), *configuration.patch_size)
    engine = options.engine or spec.engine
    chosen = chosen_engine(engine, device, keeps_graphs=options.cache is not None)
    job = EngineJob(chosen, device, dtype, shape, networks.weight_hashes, options.cache)
    started = start_engine(networks.modules, job, is_required=engine != "auto")
    return Runtime(
        started.engine,
        dtype,
        started.passes,
        _patches_per_pass(plan, configuration, device),
        sums_on_cpu=spec.accumulate_on == "cpu",
        is_exact=requested == "fp32",
    )


def _patches_per_pass(plan: Plan, configuration: Configuration, device: torch.device) -> int:
    tiling = tiling_of(configuration)
    if device.type == "cuda":
        # A forward pass takes less than a training step on as many patches, which was counted to fit the planned memory.
        free, _ = torch.cuda.mem_get_info(device)
        fitting = int(configuration.batch_size * free / plan.budget.vram_bytes)
        # A training's patch is a plane, a tile a stack of them.
        per_tile = tiling.patch_size[0] if tiling.is_planar else 1
        return max(1, min(MOST_PATCHES, fitting // per_tile))
    return max(1, VOXELS_PER_PASS // math.prod(tiling.patch_size))
