"""A configuration brought within a budget by what a device really needs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.planning.memory.budgets import CONTEXT_BYTES
from tumorseg.schema.extensions import External
from tumorseg.schema.plan import Configuration
from tumorseg.schema.quantities import GB

Measure = Callable[[Configuration], int | None]
"""Returns the peak of reserved bytes of two training steps and an inference tile; None if they do not fit."""


class Verified(NamedTuple):
    """A configuration that fits, and what it reserved."""

    configuration: Configuration
    measured_bytes: int


def fit_to_device(configuration: Configuration, measure: Measure, *, vram_bytes: int, num_gpus: int) -> Verified:
    """Return the configuration, its batch and then its patch bisected until the budget holds.

    Args:
        configuration: as planned.
        measure: runs it on the device.
        vram_bytes: budget; CUDA's context is taken off, as reserved bytes do not hold it.
        num_gpus: GPUs among which a batch is divided.

    Raises:
        PlanError: not even the smallest batch and patch of this network fit.
    """
    limit = vram_bytes - CONTEXT_BYTES
    unit = num_gpus * configuration.gradient_accumulation
    # Two patches at least, and as many for each part on each GPU. The planned batch need be no multiple of these.
    sizes = range(max(unit, 2), configuration.batch_size + 1, unit)
    smaller = [configuration.changed(batch_size=size) for size in sizes if size < configuration.batch_size]
    if found := _largest([*smaller, configuration], measure, limit):
        return found
    least = smaller[0] if smaller else configuration
    patches = [least.changed(patch_size=patch) for patch in smaller_patches(least)]
    # They come from large to small; for bisection each has to need more than the one before.
    if found := _largest(patches[::-1], measure, limit):
        return found
    smallest = patches[-1] if patches else least
    raise PlanError(
        f"not even a patch of {list(smallest.patch_size)} voxels fits the budget of {vram_bytes / GB:.1f} GB on this "
        "device; plan with a smaller --vram, which plans another network"
    )


def smaller_patches(configuration: Configuration) -> list[tuple[int, ...]]:
    """Return the patches below a configuration's that its network takes, each smaller than the one before."""
    network, patch = configuration.network, list(configuration.patch_size)
    if isinstance(network, External):
        return []
    divisors = network.divisors
    found: list[tuple[int, ...]] = []
    while True:
        axes = [axis for axis in range(len(patch)) if patch[axis] > divisors[axis]]
        if not axes:
            return found
        # As in the search: the axis that is largest against the median case.
        axis = max(axes, key=lambda axis: patch[axis] / configuration.median_shape[axis])
        patch[axis] -= divisors[axis]
        if network.patch_problem(tuple(patch)) is not None:
            return found  # such as one voxel at the bottleneck
        found.append(tuple(patch))


def _largest(ascending: Sequence[Configuration], measure: Measure, limit: int) -> Verified | None:
    """Return the last of some configurations, each needing more than the one before, that fits."""
    low, high, best = 0, len(ascending), None
    # The last one first: mostly the prediction holds, and one measurement is enough.
    tried = high - 1
    while low < high:
        measured = measure(ascending[tried])
        if measured is not None and measured <= limit:
            best, low = Verified(ascending[tried], measured), tried + 1
        else:
            high = tried
        tried = (low + high) // 2
    return best
