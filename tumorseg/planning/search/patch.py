"""The largest patch, and then the largest batch, that a memory budget allows, and why they are no larger.

References:
    nnU-Net's `ExperimentPlanner.get_plans_for_configuration` and its ResEnc planners.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Literal, NamedTuple, Protocol

from tumorseg.errors import PlanError
from tumorseg.planning.families.base import Grid, Sized, initial_edge, initial_patch
from tumorseg.planning.families.registry import family_of
from tumorseg.planning.presets import Preset
from tumorseg.planning.search.relief import Relief
from tumorseg.schema.networks import KnownNetwork
from tumorseg.schema.plan import Reason

MIN_BATCH_SIZE = 2
WORTHWHILE_2D = 1 / 256
"""Share of the area with which the search begins, below which other ways to save memory come before a smaller patch:
128 x 128 pixels for presets that begin with nnU-Net's."""
Limits = Literal["preset", "CPU", "GPU"]
"""What limits patch and batch apart from memory."""


class Candidate(NamedTuple):
    """Network, patch and batch that a memory rule judges."""

    network: KnownNetwork
    patch_size: tuple[int, ...]
    batch_size: int
    relief: Relief


class MemoryRule(Protocol):
    """Knows what fits a budget."""

    @property
    def reliefs(self) -> tuple[Relief, ...]:
        """Return what may be done, in this order."""
        ...

    @property
    def vram_gb(self) -> float:
        """Return the budget in GB."""
        ...

    @property
    def num_gpus(self) -> int:
        """Return the GPUs among which a batch is divided."""
        ...

    def fits(self, candidate: Candidate, grid: Grid, *, is_rough: bool) -> bool:
        """Return whether a candidate fits; roughly, if that is enough for now."""
        ...

    def largest_batch(self, candidate: Candidate, grid: Grid, most: int) -> int:
        """Return the largest batch that memory allows; no larger one than `most` need be looked at."""
        ...

    def needed_gb(self, candidate: Candidate, grid: Grid, *, is_rough: bool) -> float:
        """Return the budget that a candidate needs, in GB; roughly, if that is enough."""
        ...


class Found(NamedTuple):
    """Result of the search."""

    candidate: Candidate
    initial_patch_size: tuple[int, ...]
    """Where the search began."""
    batch_by_memory: int
    """Batch size that the budget allows, as far as it was looked at."""
    batch_by_dataset: int
    """Batch size at which a batch would hold the most of the dataset that the preset allows."""
    larger: Candidate | None
    """The last patch that did not fit."""


class _Fitted(NamedTuple):
    candidate: Candidate
    larger: Candidate | None


def search(grid: Grid, preset: Preset, rule: MemoryRule) -> Found:
    """Shrink the patch until the budget holds, each time along the axis that is largest; then fill the batch.

    Which axis is largest is judged against the median case.

    Args:
        grid: voxel grid and median case.
        preset: network family.
        rule: the budget.

    Raises:
        PlanError: no patch is small enough.
    """
    candidate, larger = _find_patch(grid, preset, rule, is_rough=False)
    voxels = math.prod(candidate.patch_size)
    # Rounded as in nnU-Net, which may come to 0: the smallest batch is planned all the same.
    by_dataset = round(grid.dataset_voxels * preset.max_dataset_covered / voxels)
    most = min(by_dataset, preset.max_batch_size or by_dataset)
    by_memory = rule.largest_batch(candidate, grid, most)
    batch_size = max(min(by_memory, most), candidate.batch_size)
    initial = tuple(map(int, initial_patch(grid, preset)))
    return Found(candidate._replace(batch_size=batch_size), initial, by_memory, by_dataset, larger)


def search_patch(grid: Grid, preset: Preset, rule: MemoryRule) -> tuple[int, ...]:
    """Return about the patch that `search` would find, faster.

    Raises:
        PlanError: no patch is small enough.
    """
    return _find_patch(grid, preset, rule, is_rough=True).candidate.patch_size


def _find_patch(grid: Grid, preset: Preset, rule: MemoryRule, *, is_rough: bool) -> _Fitted:
    larger: Candidate | None = None
    # From what costs nothing to what costs most; each begins again with the largest patch.
    for relief in rule.reliefs:
        if preset.max_batch_size and 1 < relief.gradient_accumulation > preset.max_batch_size // rule.num_gpus:
            continue  # there are not as many patches
        candidates = (_candidate(sized, preset, rule, relief) for sized in _sizes(grid, preset, relief))
        fits = partial(rule.fits, grid=grid, is_rough=is_rough)
        if family_of(preset.network).grows_straight:
            fitted, larger = _one_by_one(candidates, fits)
        else:
            # No bound rules out what has not been counted.
            fitted, larger = _by_estimate(candidates, fits, partial(_seems_to_fit, rule, grid))
        if fitted is not None:
            return _Fitted(fitted, larger)
    assert larger is not None  # a family yields one network at least, and the first relief is open to every preset
    needed_gb = rule.needed_gb(larger, grid, is_rough=False)
    raise PlanError(
        f"a budget of {rule.vram_gb:.3g} GB is too small for any patch of preset {preset.name}: the smallest, "
        f"{list(larger.patch_size)}, needs {needed_gb:.2f} GB; give a --vram of that at least, or a preset with fewer "
        "features"
    )


def _sizes(grid: Grid, preset: Preset, relief: Relief) -> Iterator[Sized]:
    """Yield networks from the largest patch down, as long as patches are worthwhile if the relief wants them so."""
    for number, sized in enumerate(family_of(preset.network).networks(grid, preset)):
        # The first patch is tried whatever its size.
        if number and relief.keeps_patch and not _is_worthwhile(sized.patch_size, grid, preset):
            return
        yield sized


def _one_by_one(
    candidates: Iterable[Candidate], fits: Callable[[Candidate], bool]
) -> tuple[Candidate | None, Candidate | None]:
    """Return the first candidate that fits, None if none does, and the last one before it."""
    larger = None
    for candidate in candidates:
        if fits(candidate):
            return candidate, larger
        larger = candidate
    return None, larger


def _by_estimate(
    candidates: Iterable[Candidate], fits: Callable[[Candidate], bool], seems_to_fit: Callable[[Candidate], bool]
) -> tuple[Candidate | None, Candidate | None]:
    """Return the same, of candidates each of which needs less memory than the one before."""
    known = list(candidates)
    if fits(known[0]):
        return known[0], None
    low, high = 0, len(known)
    while high - low > 1:
        # Once the estimate has none left between, the neighbour of what fits is looked at, to be sure.
        tried = next((number for number in range(low + 1, high) if seems_to_fit(known[number])), high - 1)
        low, high = (low, tried) if fits(known[tried]) else (tried, high)
    return (known[high] if high < len(known) else None), known[low]


def _seems_to_fit(rule: MemoryRule, grid: Grid, candidate: Candidate) -> bool:
    return rule.needed_gb(candidate, grid, is_rough=True) <= rule.vram_gb


def _candidate(sized: Sized, preset: Preset, rule: MemoryRule, relief: Relief) -> Candidate:
    """Return a network with the smallest batch: two patches for each GPU, or as many as the preset allows."""
    # In parts, one patch for each part will do: the batch is still one of two at least.
    batch_size = MIN_BATCH_SIZE * rule.num_gpus if relief.gradient_accumulation == 1 else MIN_BATCH_SIZE
    batch_size = min(batch_size, preset.max_batch_size or batch_size)
    batch_size = max(batch_size, rule.num_gpus * relief.gradient_accumulation)
    return Candidate(sized.network, sized.patch_size, batch_size, relief)


def _is_worthwhile(patch_size: tuple[int, ...], grid: Grid, preset: Preset) -> bool:
    num_axes = len(grid.spacing_mm)
    share = WORTHWHILE_2D if num_axes == 2 else preset.worthwhile_3d
    # Of small cases all is worthwhile that shows a whole one.
    least = min(initial_edge(grid, preset) ** num_axes * share, math.prod(grid.median_shape))
    return bool(math.prod(patch_size) >= least)


def search_reasons(
    found: Found, grid: Grid, preset: Preset, rule: MemoryRule, limits: Limits = "preset"
) -> dict[str, Reason]:
    """Return the reasons of patch and batch, by field of the configuration; arguments are those of `search`."""
    return {
        "patch_size": _patch_reason(found, grid, rule, limits),
        "batch_size": _batch_reason(found, grid, preset, rule, limits),
    }


def _patch_reason(found: Found, grid: Grid, rule: MemoryRule, limits: Limits) -> Reason:
    network, patch = found.candidate.network, found.candidate.patch_size
    if found.larger is None:
        alternative = f"none larger: this one holds a median case, or the volume that the {limits} begins with"
    else:
        needed = rule.needed_gb(found.larger, grid, is_rough=True)
        edges = " x ".join(map(str, found.larger.patch_size))
        alternative = f"{edges} voxels, which would need about {needed:.2f} GB"
    return Reason(
        rule=f"begin with the {limits}'s volume shaped like a median case; shrink what is largest until the budget "
        "holds",
        inputs={
            "initial": list(found.initial_patch_size),
            "median_shape": list(grid.median_shape),
            "feature_map_elements": family_of(network.name).feature_maps(network, patch, grid.num_outputs),
        },
        alternative=alternative,
    )


def _batch_reason(found: Found, grid: Grid, preset: Preset, rule: MemoryRule, limits: Limits) -> Reason:
    unit = rule.num_gpus * found.candidate.relief.gradient_accumulation
    larger = found.candidate._replace(batch_size=found.candidate.batch_size + unit)
    needed = rule.needed_gb(larger, grid, is_rough=True)
    return Reason(
        rule=f"what memory, the size of the dataset ({preset.max_dataset_covered:.0%} of its voxels in a batch) and "
        f"the {limits} allow, at least {MIN_BATCH_SIZE}",
        inputs={
            "batch_by_memory": found.batch_by_memory,
            "batch_by_dataset": found.batch_by_dataset,
            f"batch_by_{limits.lower()}": preset.max_batch_size,
            "num_gpus": rule.num_gpus,
        },
        alternative=f"{larger.batch_size} patches, which would need about {needed:.2f} GB",
    )
