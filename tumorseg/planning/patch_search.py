"""The largest patch, and then the largest batch, that a memory budget allows.

References:
    nnU-Net's `ExperimentPlanner.get_plans_for_configuration` and its ResEnc planners.
"""

import math
from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.planning.memory import elements_budget, feature_map_elements
from tumorseg.planning.presets import Preset
from tumorseg.planning.topology import MIN_EDGE, Topology, choose_topology
from tumorseg.schema.networks import PlainUNet, ResidualUNet

MIN_BATCH_SIZE = 2
BLOCKS_PER_STAGE = (1, 3, 4, 6)
"""Residual blocks of the first stages; the last number goes on."""


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


class Found(NamedTuple):
    """What the search settled on."""

    network: PlainUNet | ResidualUNet
    patch_size: tuple[int, ...]
    batch_size: int
    elements: int
    """Feature-map elements of one patch."""
    initial_patch_size: tuple[int, ...]
    """Where the search began."""
    batch_by_memory: int
    """Batch size that the budget alone would allow."""
    batch_by_dataset: int
    """Batch size at which a batch would hold the most of the dataset that the preset allows."""


def search_patch(grid: Grid, preset: Preset, vram_gb: float) -> Found:
    """Shrink the patch along the axis that is largest against the median case until the budget holds.

    Args:
        grid: voxel grid and median case.
        preset: network family and memory reference.
        vram_gb: budget in GB (2^30 bytes).

    Raises:
        PlanError: no patch is small enough.
    """
    budget = elements_budget(preset.memory, len(grid.spacing_mm), vram_gb)
    initial = initial_patch(grid, preset)
    topology = choose_topology(grid.spacing_mm, initial)
    if topology.num_stages < 2:
        raise PlanError(
            f"the median case of {[round(size) for size in grid.median_shape]} voxels is too small for a U-Net, which needs "
            f"{2 * MIN_EDGE} voxels in two axes of like spacing, or {3 * MIN_EDGE} in one; plan a finer grid, or larger images"
        )
    while not _fits(found := _elements(topology, grid, preset), budget, grid, preset):
        topology = _shrink(topology, grid, preset, vram_gb)
    by_memory, by_dataset, batch_size = _choose_batch(budget / found, topology.patch_size, grid, preset)
    network = build_topology(topology, preset)
    return Found(network, topology.patch_size, batch_size, found, tuple(map(int, initial)), by_memory, by_dataset)


def initial_patch(grid: Grid, preset: Preset) -> tuple[float, ...]:
    """Return a patch of equal edges in mm and the preset's volume, clipped to the median case."""
    num_axes = len(grid.spacing_mm)
    edge = preset.initial_edge_2d if num_axes == 2 else preset.initial_edge_3d
    product = 1.0
    for spacing in grid.spacing_mm:
        product /= spacing
    scale = (edge**num_axes / product) ** (1 / num_axes)
    edges = (round(scale / spacing) for spacing in grid.spacing_mm)
    return tuple(min(size, median) for size, median in zip(edges, grid.median_shape, strict=True))


def _elements(topology: Topology, grid: Grid, preset: Preset) -> int:
    return feature_map_elements(build_topology(topology, preset), topology.patch_size, grid.num_outputs)


def _fits(elements: int, budget: float, grid: Grid, preset: Preset) -> bool:
    """Compare as nnU-Net does: its plain planner at batch size 2, its ResEnc planners at the reference's."""
    if preset.network == "residual_unet":
        return elements <= budget
    return elements / _reference_batch(grid, preset) * 2 <= budget


def _reference_batch(grid: Grid, preset: Preset) -> int:
    return preset.memory.batch_2d if len(grid.spacing_mm) == 2 else preset.memory.batch_3d


def _shrink(topology: Topology, grid: Grid, preset: Preset, vram_gb: float) -> Topology:
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
    raise PlanError(
        f"a budget of {vram_gb:g} GB is too small for any patch of preset {preset.name} "
        f"(smallest tried: {list(patch)}); give a larger --vram or a preset with fewer features"
    )


def _choose_batch(ratio: float, patch_size: tuple[int, ...], grid: Grid, preset: Preset) -> tuple[int, int, int]:
    """Return the batch size that memory allows, the one that the size of the dataset allows, and the one to use."""
    by_memory = ratio * _reference_batch(grid, preset)
    by_memory = round(by_memory) if preset.rounds_batch else math.floor(by_memory)
    voxels = 1.0
    for size in patch_size:
        voxels *= size
    by_dataset = round(grid.dataset_voxels * preset.max_dataset_covered / voxels)
    limits = [by_memory, by_dataset, *([preset.max_batch_size] if preset.max_batch_size else [])]
    return by_memory, by_dataset, max(min(limits), MIN_BATCH_SIZE)


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
