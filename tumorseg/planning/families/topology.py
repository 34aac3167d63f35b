"""Strides and kernels from a patch and its spacing.

References:
    nnU-Net's `get_pool_and_conv_props` (Isensee et al., Nature Methods 2021, supplementary note 2).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from tumorseg.types import Spacing

MIN_EDGE = 4
"""Least voxels per axis at the bottleneck."""
MAX_ANISOTROPY = 2.0
"""Axes whose spacing is below this many times the finest are pooled, and convolved, together."""


class Topology(NamedTuple):
    """The shape of a U-Net."""

    strides: tuple[tuple[int, ...], ...]
    """Per stage and axis; the first is 1."""
    kernel_sizes: tuple[tuple[int, ...], ...]
    """Per stage and axis."""
    patch_size: tuple[int, ...]
    """The patch asked for, padded to multiples of the divisors."""

    @property
    def num_stages(self) -> int:
        """Return the number of resolutions."""
        return len(self.strides)

    @property
    def divisors(self) -> tuple[int, ...]:
        """Return what each edge of the patch must be a multiple of."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))


def choose_topology(spacing_mm: Spacing, patch_size: Sequence[float], min_edge: int = MIN_EDGE) -> Topology:
    """Halve the finest axes until the patch is small; convolve across an axis once it is not much coarser.

    Args:
        spacing_mm: per axis.
        patch_size: voxels per axis that are asked for.
        min_edge: least voxels per axis at the bottleneck.
    """
    axes = range(len(spacing_mm))
    spacing, size = list(spacing_mm), list(patch_size)
    kernel = [1] * len(spacing)
    strides, kernels = [tuple(1 for _ in axes)], []
    while pooled := _axes_to_pool(spacing, size, min_edge):
        # Once an axis is convolved it stays so, however the spacings of further stages compare.
        kernel = [3 if kernel[axis] == 3 or spacing[axis] / min(spacing) < MAX_ANISOTROPY else 1 for axis in axes]
        for axis in pooled:
            spacing[axis] *= 2
            size[axis] = math.ceil(size[axis] / 2)
        strides.append(tuple(2 if axis in pooled else 1 for axis in axes))
        kernels.append(tuple(kernel))
    # The bottleneck is convolved along all axes, whatever their spacings, as in nnU-Net.
    kernels.append(tuple(3 for _ in axes))
    divisors = [math.prod(axis) for axis in zip(*strides, strict=True)]
    padded = tuple(math.ceil(edge / divisor) * divisor for edge, divisor in zip(patch_size, divisors, strict=True))
    return Topology(tuple(strides), tuple(kernels), padded)


def shrunk(topology: Topology, spacing_mm: Spacing, median_shape: Sequence[float]) -> Topology | None:
    """Return the topology on the next smaller patch, or None if there is none.

    Args:
        topology: that of the patch so far.
        spacing_mm: per axis.
        median_shape: median voxels of a case; the axis that is largest against it shrinks.
    """
    patch = topology.patch_size
    order = sorted(range(len(patch)), key=lambda axis: patch[axis] / median_shape[axis])
    # Reversed, rather than sorted in reverse: of axes that are equally large, nnU-Net shrinks the last one.
    for axis in reversed(order):
        smaller = list(patch)
        smaller[axis] -= topology.divisors[axis]
        if smaller[axis] <= 0:
            continue
        # The smaller patch may be pooled less often, so that its own divisor is the step.
        step = choose_topology(spacing_mm, smaller).divisors[axis]
        # An axis along which cases are thinner than the least edge may go below it.
        if patch[axis] - step < min(MIN_EDGE, median_shape[axis]):
            continue
        smaller[axis] = patch[axis] - step
        found = choose_topology(spacing_mm, smaller)
        if found.num_stages > 1:
            return found
    return None


def _axes_to_pool(spacing: list[float], size: list[float], min_edge: int) -> list[int]:
    """Return the axes that are large enough and nearly as fine as the finest of those."""
    # Half of it still has the least edge.
    large = [axis for axis, edge in enumerate(size) if edge >= 2 * min_edge]
    if not large:
        return []
    finest = min(spacing[axis] for axis in large)
    chosen = [axis for axis in large if spacing[axis] / finest < MAX_ANISOTROPY]
    # nnU-Net's exception: a single axis is pooled only if half as much again is left.
    if len(chosen) == 1 and size[chosen[0]] < 3 * min_edge:
        return []
    return chosen
