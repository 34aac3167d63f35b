"""The largest patch, and then the largest batch, that a memory budget allows.

References:
    nnU-Net's `ExperimentPlanner.get_plans_for_configuration` and its ResEnc planners.
"""

import math
from typing import NamedTuple, Protocol

from tumorseg.errors import PlanError
from tumorseg.planning.presets import Preset
from tumorseg.planning.search.topology import MIN_EDGE, Topology, choose_topology
from tumorseg.schema.networks import PlainUNet, ResidualUNet

MIN_BATCH_SIZE = 2
BLOCKS_PER_STAGE = (1, 3, 4, 6)
"""Residual blocks of the first stages; the last number goes on."""
WORTHWHILE_2D, WORTHWHILE_3D = 1 / 256, 1 / 64
"""Share of the volume with which the search begins, below which other ways to save memory come before a smaller patch:
128 x 128 and 64 x 64 x 64 voxels for presets that begin with nnU-Net's."""


class Grid(NamedTuple):
    """What the search looks at: a voxel grid and what lies on it, in the plan's axis order."""

    spacing_mm: tuple[float, ...]
    """Per axis."""
    median_shape: tuple[float, ...]
    """Median voxels of a case per axis."""
    dataset_voxels: float
    """Voxels of all cases together."""
    num_outputs: int
    """Classes with background, as nnU-Net counts them."""


class Relief(NamedTuple):
    """What is done, beside a smaller patch, to keep a budget."""

    activation_checkpointing: bool = False
    gradient_accumulation: int = 1
    keeps_patch: bool = True
    """Whether the patch stays worthwhile."""


class Candidate(NamedTuple):
    """What a memory rule judges."""

    network: PlainUNet | ResidualUNet
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
    """What the search settled on."""

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
    """Shrink the patch along the axis that is largest against the median case until the budget holds; then fill the batch.

    Args:
        grid: voxel grid and median case.
        preset: network family.
        rule: the budget.

    Raises:
        PlanError: no patch is small enough.
    """
    candidate, larger = _find_patch(grid, preset, rule, is_rough=False)
    voxels = math.prod(candidate.patch_size)
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
    initial = choose_topology(grid.spacing_mm, initial_patch(grid, preset))
    if initial.num_stages < 2:
        raise PlanError(
            f"the median case of {[round(size) for size in grid.median_shape]} voxels is too small for a U-Net, which needs "
            f"{2 * MIN_EDGE} voxels in two axes of like spacing, or {3 * MIN_EDGE} in one; plan a finer grid, or larger images"
        )
    for relief in rule.reliefs:
        if preset.max_batch_size and 1 < relief.gradient_accumulation > preset.max_batch_size // rule.num_gpus:
            continue  # there are not as many patches
        topology: Topology | None = initial
        larger: Candidate | None = None
        while topology is not None:
            candidate = _candidate(topology, preset, rule, relief)
            if rule.fits(candidate, grid, is_rough=is_rough):
                return _Fitted(candidate, larger)
            larger, topology = candidate, _shrink(topology, grid)
            if topology is not None and relief.keeps_patch and not _is_worthwhile(topology, grid, preset):
                topology = None
    assert larger is not None
    raise PlanError(
        f"a budget of {rule.vram_gb:.3g} GB is too small for any patch of preset {preset.name}: the smallest, "
        f"{list(larger.patch_size)}, needs "
        f"{rule.needed_gb(larger, grid, is_rough=False):.2f} GB; give a --vram of that at least, or a preset with fewer features"
    )


def _candidate(topology: Topology, preset: Preset, rule: MemoryRule, relief: Relief) -> Candidate:
    """Return a topology with the smallest batch: two patches for each GPU, or as many as the preset allows."""
    batch_size = MIN_BATCH_SIZE * rule.num_gpus if relief.gradient_accumulation == 1 else MIN_BATCH_SIZE
    batch_size = min(batch_size, preset.max_batch_size or batch_size)
    batch_size = max(batch_size, rule.num_gpus * relief.gradient_accumulation)
    return Candidate(build_topology(topology, preset), topology.patch_size, batch_size, relief)


def initial_patch(grid: Grid, preset: Preset) -> tuple[float, ...]:
    """Return a patch of equal edges in mm and the preset's volume, clipped to the median case."""
    num_axes = len(grid.spacing_mm)
    product = 1.0
    for spacing in grid.spacing_mm:
        product /= spacing
    scale = (_initial_edge(grid, preset) ** num_axes / product) ** (1 / num_axes)
    edges = (round(scale / spacing) for spacing in grid.spacing_mm)
    return tuple(min(size, median) for size, median in zip(edges, grid.median_shape, strict=True))


def _initial_edge(grid: Grid, preset: Preset) -> int:
    return preset.initial_edge_2d if len(grid.spacing_mm) == 2 else preset.initial_edge_3d


def _is_worthwhile(topology: Topology, grid: Grid, preset: Preset) -> bool:
    num_axes = len(grid.spacing_mm)
    share = WORTHWHILE_2D if num_axes == 2 else WORTHWHILE_3D
    least = min(_initial_edge(grid, preset) ** num_axes * share, math.prod(grid.median_shape))
    return bool(math.prod(topology.patch_size) >= least)


def _shrink(topology: Topology, grid: Grid) -> Topology | None:
    """Return the next smaller patch, or None if there is none."""
    patch = topology.patch_size
    order = sorted(range(len(patch)), key=lambda axis: patch[axis] / grid.median_shape[axis])
    for axis in reversed(order):
        smaller = list(patch)
        smaller[axis] -= topology.divisors[axis]
        if smaller[axis] <= 0:
            continue
        step = choose_topology(grid.spacing_mm, smaller).divisors[axis]
        if patch[axis] - step >= min(MIN_EDGE, grid.median_shape[axis]):
            smaller[axis] = patch[axis] - step
            shrunk = choose_topology(grid.spacing_mm, smaller)
            if shrunk.num_stages > 1:
                return shrunk
    return None


def build_topology(topology: Topology, preset: Preset) -> PlainUNet | ResidualUNet:
    """Return the preset's network on a topology."""
    stages = topology.num_stages
    most = preset.max_features_2d if len(topology.patch_size) == 2 else preset.max_features_3d
    features = tuple(min(preset.base_features * 2**stage, most) for stage in range(stages))
    if preset.network == "plain_unet":
        return PlainUNet(
            features_per_stage=features,
            strides=topology.strides,
            kernel_sizes=topology.kernel_sizes,
            convs_per_stage=(2,) * stages,
            decoder_convs_per_stage=(2,) * (stages - 1),
        )
    return ResidualUNet(
        features_per_stage=features,
        strides=topology.strides,
        kernel_sizes=topology.kernel_sizes,
        blocks_per_stage=tuple(BLOCKS_PER_STAGE[min(stage, len(BLOCKS_PER_STAGE) - 1)] for stage in range(stages)),
        decoder_convs_per_stage=(1,) * (stages - 1),
    )
