"""Voxel grids in the world: orientation, spacing, and the way back.

An affine maps (x, y, z, 1), the reverse of array order, to RAS+ millimetres. Canonical arrays are (Z, Y, X) with X to the
right, Y to the front, Z to the head; bringing an array there permutes and flips axes and never resamples.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.types import Affine, Box, Shape

CANONICAL = (0, 1, 2)
"""The axis order (Z, Y, X)."""
EDGE_DECIMALS = 6
"""Of mm, to which edges are rounded."""


class Orientation(NamedTuple):
    """Permutation and flips that bring a stored array (Z, Y, X) into another axis order."""

    axes: tuple[int, ...]
    """Stored axis that becomes each new axis."""
    flips: tuple[bool, ...]
    """Whether each new axis runs against the stored one."""


AS_STORED = Orientation((0, 1, 2), (False, False, False))


def orientation_of(affine: Affine, transpose: Sequence[int] = CANONICAL) -> Orientation:
    """Return how an image of this affine is brought to canonical order, its axes then permuted by `transpose`.

    Each voxel axis goes to the world axis that it is closest to, all three together (oblique affines included).

    Args:
        affine: (4, 4), voxels (x, y, z) to RAS+ mm.
        transpose: which canonical axis (0 Z, 1 Y, 2 X) comes first, second and third.

    Raises:
        InputError: the affine is singular or not finite.
    """
    directions = _directions(affine)
    # All three at once: one by one, two axes of an oblique image may be closest to the same.
    closest = max(
        permutations(range(3)), key=lambda columns: sum(abs(directions[row, columns[row]]) for row in range(3))
    )
    # Arrays have their axes as z, y, x, affines as x, y, z: 2 minus the one is the other.
    axes = [2 - closest[2 - axis] for axis in range(3)]
    flips = [bool(directions[2 - axis, closest[2 - axis]] < 0) for axis in range(3)]
    return Orientation(tuple(axes[axis] for axis in transpose), tuple(flips[axis] for axis in transpose))


def _directions(affine: Affine) -> Affine:
    """Return the rotation (3, 3) closest to the affine, columns being voxel axes x, y, z."""
    matrix = np.asarray(affine, dtype=np.float64)[:3, :3]
    lengths = np.linalg.norm(matrix, axis=0)
    if (
        not np.isfinite(affine).all()
        or (lengths == 0).any()
        or abs(np.linalg.det(matrix / np.where(lengths, lengths, 1))) < 1e-6
    ):
        raise InputError(
            f"affine {np.asarray(affine).tolist()} is singular; expected three independent axes; mend the header"
        )
    # The polar decomposition: shear and lengths go, the rotation stays.
    left, _, right = np.linalg.svd(matrix / lengths)
    return np.asarray(left @ right, dtype=np.float64)


class AxisOrder(NamedTuple):
    """The axis order of a plan, whatever way a file stores its axes."""

    transpose: Sequence[int] = CANONICAL
    """Which axis comes first, second and third."""
    is_as_stored: bool = False
    """Whether these are axes as stored, which is nnU-Net's way; else canonical ones (0 Z, 1 Y, 2 X)."""

    def orientation(self, affine: Affine) -> Orientation:
        """Return how an image of this affine is brought to the order.

        Raises:
            InputError: the affine is singular or not finite.
        """
        if self.is_as_stored:
            return Orientation(tuple(self.transpose), (False,) * len(self.transpose))
        return orientation_of(affine, self.transpose)


def spacing_of(affine: Affine, orientation: Orientation = AS_STORED) -> tuple[float, float, float]:
    """Return the voxel edges in mm along the array axes (Z, Y, X), or along those of an orientation.

    Edges are rounded to 1e-6 mm, below what any header means, so that equal scanners give equal spacings.
    """
    lengths = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    edges = [round(float(lengths[2 - axis]), EDGE_DECIMALS) for axis in orientation.axes]
    return (edges[0], edges[1], edges[2])


def is_edge(length_mm: float) -> bool:
    """Tell whether a voxel can have an edge of this length: one of which rounding, as in `spacing_of`, leaves something."""
    return round(length_mm, EDGE_DECIMALS) > 0


def orient(array: NDArray[Any], orientation: Orientation) -> NDArray[Any]:
    """Return a view of an array (..., Z, Y, X) in an orientation's axis order."""
    lead = array.ndim - 3
    moved = array.transpose(*range(lead), *(lead + axis for axis in orientation.axes))
    view: NDArray[Any] = moved[_mirrored(orientation)]
    return view


def restore_orientation(array: NDArray[Any], orientation: Orientation) -> NDArray[Any]:
    """Return a view of an oriented array (..., A, B, C) in stored order: the inverse of `orient`."""
    lead = array.ndim - 3
    unflipped: NDArray[Any] = array[_mirrored(orientation)]
    inverse = np.argsort(orientation.axes)
    return unflipped.transpose(*range(lead), *(lead + int(axis) for axis in inverse))


def between(old: Orientation, new: Orientation) -> Orientation:
    """Return the permutation and flips that bring an array that is oriented one way into another orientation."""
    axes = [old.axes.index(stored) for stored in new.axes]
    flips = [old.flips[axis] != flip for axis, flip in zip(axes, new.flips, strict=True)]
    return Orientation(tuple(axes), tuple(flips))


def oriented_box(box: Box, shape: Shape, orientation: Orientation) -> Box:
    """Return the box that a box in an array becomes where the array is brought into an orientation.

    Args:
        box: first voxel and one past the last of each axis.
        shape: voxels of the array.
        orientation: as `orient` takes it.
    """
    turned = []
    for axis, flip in zip(orientation.axes, orientation.flips, strict=True):
        lower, upper = box[axis]
        turned.append((shape[axis] - upper, shape[axis] - lower) if flip else (lower, upper))
    return tuple(turned)


def _mirrored(orientation: Orientation) -> Any:
    return (..., *(slice(None, None, -1 if flip else 1) for flip in orientation.flips))


def oriented_affine(affine: Affine, shape: Shape, orientation: Orientation) -> Affine:
    """Return the affine of the oriented array of a stored image.

    Args:
        affine: (4, 4) of the stored image.
        shape: stored voxels (Z, Y, X).
        orientation: as from `orientation_of`.
    """
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for new, (stored, flip) in enumerate(zip(orientation.axes, orientation.flips, strict=True)):
        step[2 - stored, 2 - new] = -1 if flip else 1
        # A flipped axis begins at the stored one's last voxel.
        step[2 - stored, 3] = shape[stored] - 1 if flip else 0
    return np.asarray(affine, dtype=np.float64) @ step


def grid_mismatch_mm(affine: Affine, other: Affine, shape: Shape) -> float:
    """Return how far apart in mm two affines put the same voxel at worst, over the corners of a grid (Z, Y, X)."""
    # A distance between affine images is convex: nowhere greater than at some corner.
    ends = [np.array([0.0, size - 1.0]) for size in reversed(shape)]
    corners = np.stack([*(axis.ravel() for axis in np.meshgrid(*ends)), np.ones(2 ** len(ends))])
    return float(np.linalg.norm(((np.asarray(affine) - np.asarray(other)) @ corners)[:3], axis=0).max())
