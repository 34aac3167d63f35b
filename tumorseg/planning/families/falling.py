"""Patches for networks whose divisors do not depend on the patch."""

import math
from collections.abc import Iterator

from tumorseg.errors import PlanError
from tumorseg.planning.families.base import Grid, Sized, initial_patch, too_small
from tumorseg.planning.presets import Preset
from tumorseg.schema.networks import Axes, KnownNetwork, NetworkSpec

LEAST_STEP = 4
"""Voxels by which an axis shrinks at least, so that the search is not held up where a divisor is 1."""


def falling_patches(grid: Grid, preset: Preset, divisors: Axes) -> Iterator[Axes]:
    """Yield patches of multiples of the divisors, from what a search begins with down to one divisor along each axis.

    Each time the axis shrinks that is largest against the median case, as with U-Nets.
    """
    edges = zip(initial_patch(grid, preset), divisors, strict=True)
    patch = [math.ceil(edge / divisor) * divisor for edge, divisor in edges]
    steps = [math.ceil(LEAST_STEP / divisor) * divisor for divisor in divisors]
    while True:
        yield tuple(patch)
        axes = [axis for axis, edge in enumerate(patch) if edge - steps[axis] >= divisors[axis]]
        if not axes:
            return
        largest = max(axes, key=lambda axis: patch[axis] / grid.median_shape[axis])
        patch[largest] -= steps[largest]


def on_falling_patches(network: KnownNetwork, grid: Grid, preset: Preset) -> Iterator[Sized]:
    """Yield one network on all falling patches that it can be trained on.

    Raises:
        PlanError: the median case is too small for any.
    """
    largest = next(falling_patches(grid, preset, network.divisors))
    # A patch that is too small is none that a smaller one would mend.
    if (problem := network.patch_problem(largest)) is not None:
        advice = "plan another --network, a finer grid, or larger images"
        raise too_small(grid, f"a {network.name}: {problem}", advice)
    for patch in falling_patches(grid, preset, network.divisors):
        if network.patch_problem(patch) is None:
            yield Sized(network, patch)


def no_counterpart(name: str, other: NetworkSpec) -> PlanError:
    """Return the error of a family that takes nothing over from another network."""
    return PlanError(
        f"network {other.name} has no stages that {name} could take over, whose patches are others; plan again with "
        f"--network {name}"
    )
