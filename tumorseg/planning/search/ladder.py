"""Widths and patches that a machine can train in time, from steps timed on it."""

import math
from collections.abc import Callable
from typing import NamedTuple

from tumorseg.errors import PlanError, TrainingError
from tumorseg.planning.choices.circumstances import SHARE_OF_STEPS
from tumorseg.planning.families.base import Grid
from tumorseg.planning.presets import Preset
from tumorseg.planning.search.patch import Candidate
from tumorseg.planning.search.relief import Relief
from tumorseg.schema.base import record_hash
from tumorseg.schema.plan import Configuration

FEW_STEPS, MANY_STEPS = 500, 3000
"""Steps that a training within --max-hours should have at least, up to the size of `fast_prototyping` and above it: in 5,800 steps, a network
of 16 features came to what one of 32 did in 1,850, which took as long (docs/decisions/061-presets-by-evidence.md)."""


class Rung(NamedTuple):
    """A size to begin the search with."""

    features: int
    """At full resolution."""
    edge: int
    """Of the 3D patch."""
    least_steps: int = FEW_STEPS
    """Steps that the hours must leave, for this size to be worth it."""


RUNGS = (
    Rung(8, 32),
    Rung(8, 48),
    Rung(16, 48),
    Rung(16, 64),
    Rung(16, 96, MANY_STEPS),
    Rung(32, 96, MANY_STEPS),
    Rung(32, 128, MANY_STEPS),
)
"""From the least to nnU-Net's own. Vectors of a processor hold 8 or 16 numbers: on two cores in bf16, 12 features took longer than 16, and 24 twice as long."""
MOST_3D, MOST_2D = 10, 16
"""A stage has so many times the features at full resolution at most: 320 and 512 at 32, as in nnU-Net."""
EDGE_2D = 4
"""A 2D patch begins with so many times the edge of a 3D one."""
MOST_S, USUAL_S = 10.0, 1.0
"""Most time that a step may take, and what it may take where no hours are given."""
SLACK = 2.0
"""A rung that takes so many times what a step may take ends the climb. One just above may not: a wider network can be the faster one."""
BATCH_SIZE = 2
"""Patches in a batch: a larger one saves no time on a CPU, and of one, which learns as much of small images in as many patches, ACDC learnt less."""


class Trial(NamedTuple):
    """How a rung is tried."""

    plan: Callable[[Preset], Configuration]
    """Returns the configuration of a preset."""
    fits: Callable[[Configuration], bool]
    """Returns whether its memory is within the budget."""
    seconds: Callable[[Configuration], float]
    """Returns the time of a training step on this machine."""


class Paced(NamedTuple):
    """A preset for this machine, and the time that was measured."""

    preset: Preset
    step_s: float


class AnyFits:
    """The rule that rungs are searched by: what a size comes to with any memory. Whether it fits is asked of the whole configuration."""

    reliefs: tuple[Relief, ...] = (Relief(),)
    num_gpus = 1
    vram_gb = math.inf

    def fits(self, candidate: Candidate, grid: Grid, *, is_rough: bool) -> bool:
        """Return True."""
        return True

    def largest_batch(self, candidate: Candidate, grid: Grid, most: int) -> int:
        """Return the smallest batch."""
        return BATCH_SIZE

    def needed_gb(self, candidate: Candidate, grid: Grid, *, is_rough: bool) -> float:
        """Return 0: nobody asks."""
        return 0.0


def grown(preset: Preset) -> Preset:
    """Return a preset that the ladder may climb to its end with, where hours decide how far."""
    features, edge, _ = RUNGS[-1]
    widest = {
        "base_features": max(features, preset.base_features),
        "max_features_3d": max(MOST_3D * features, preset.max_features_3d),
        "max_features_2d": max(MOST_2D * features, preset.max_features_2d),
        "initial_edge_3d": max(edge, preset.initial_edge_3d),
        "initial_edge_2d": max(EDGE_2D * edge, preset.initial_edge_2d),
    }
    return preset.changed(**widest)


def target_seconds(max_hours: float | None, least_steps: int) -> float:
    """Return the time that a step may take, so that a training of some hours has so many of them at least."""
    if max_hours is None:
        return USUAL_S
    return min(MOST_S, max_hours * 3600 * SHARE_OF_STEPS / least_steps)


def choose_pace(preset: Preset, trial: Trial, max_hours: float | None) -> Paced:
    """Climb from the narrowest network on the smallest patch, and take the last rung on which a step stays within its time.

    Rungs whose patch is too small for the network are passed over. The climb ends at the first that does not fit the memory, by count or by
    trial.

    Args:
        preset: whose features and patch are not passed.
        trial: plans the configuration of a rung, and times it.
        max_hours: that the training may take.

    Raises:
        PlanError: no rung can be planned.
        TrainingError: not even the lowest can be trained here.
    """
    best: Paced | None = None
    refused: PlanError | None = None
    timed: dict[str, float] = {}
    for rung in RUNGS:
        paced, target_s = _limited(preset, rung), target_seconds(max_hours, rung.least_steps)
        try:
            configuration = trial.plan(paced)
        except PlanError as error:
            refused = refused or error
        else:
            # The lowest rung is taken whatever it costs: slow is better than no plan, and the search for a patch keeps the budget.
            if best is not None and not trial.fits(configuration):
                break
            # Of small images a larger patch is the same one.
            key = record_hash(configuration)
            if key not in timed:
                timed[key] = _timed(configuration, trial, is_needed=best is None)
            step_s = timed[key]
            if best is None or step_s <= target_s:
                best = Paced(paced, step_s)
            elif step_s > SLACK * target_s:
                break
        # Higher rungs would all be cut down to the preset, and be timed again for nothing.
        if rung.features >= preset.base_features and rung.edge >= preset.initial_edge_3d:
            break
    if best is None:
        assert refused is not None  # no rung leads past the preset's own, and the first is tried always
        raise refused
    return best


def _timed(configuration: Configuration, trial: Trial, *, is_needed: bool) -> float:
    """Return the time of a step; endless where memory runs out, as others may hold what the budget counts on, and a lower rung is there."""
    try:
        return trial.seconds(configuration)
    except TrainingError:
        if is_needed:
            raise
        return math.inf


def _limited(preset: Preset, rung: Rung) -> Preset:
    features, edge, _ = rung
    update = {
        "base_features": min(features, preset.base_features),
        "max_features_3d": min(MOST_3D * features, preset.max_features_3d),
        "max_features_2d": min(MOST_2D * features, preset.max_features_2d),
        "initial_edge_3d": min(edge, preset.initial_edge_3d),
        "initial_edge_2d": min(EDGE_2D * edge, preset.initial_edge_2d),
        "max_batch_size": BATCH_SIZE,
    }
    return preset.changed(**update)
