"""Two voxel grids in one world: whether they hold the same voxels, how far apart they are, and what one covers of the other."""

from typing import NamedTuple

import numpy as np

from tumorseg.ops.geometry import (
    AS_STORED,
    Orientation,
    grid_mismatch_mm,
    orientation_of,
    oriented_affine,
    spacing_of,
)
from tumorseg.types import Affine, Mask

MOST_MISMATCH = 0.5
"""Share of the finest voxel edge by which two grids of one case may differ; more would move a mask."""
LEAST_SHARE = 1e-3
"""Relative difference of edges, and of directions, up to which they are the same."""


class Grid(NamedTuple):
    """Voxels in the world."""

    shape: tuple[int, ...]
    """(Z, Y, X) as stored."""
    affine: Affine
    """(4, 4), voxels (x, y, z, 1) to RAS+ mm."""


def allowed_mismatch_mm(grid: Grid) -> float:
    """Return how far voxels of another grid may lie off and still count as the same."""
    return MOST_MISMATCH * min(spacing_of(grid.affine))


def same_voxels(grid: Grid, onto: Grid) -> Orientation | None:
    """Return how an array on a grid is brought onto another that has the same voxels, its axes perhaps stored otherwise.

    Axes are permuted and flipped, nothing is resampled.

    Returns:
        The way from `grid` to `onto`; None where they are not the same voxels, to within half of the finest edge.
    """
    orientation = axes_onto(grid, onto)
    if orientation is None or oriented_shape(grid, orientation) != tuple(onto.shape):
        return None
    mismatch = grid_mismatch_mm(oriented_affine(grid.affine, grid.shape, orientation), onto.affine, onto.shape)
    return orientation if mismatch <= allowed_mismatch_mm(onto) else None


def axes_onto(grid: Grid, onto: Grid) -> Orientation | None:
    """Return which axis of a grid runs along which of another, and which way; None where that is not one to one."""
    steps = np.linalg.inv(onto.affine[:3, :3]) @ grid.affine[:3, :3]
    shares = np.abs(steps) / np.linalg.norm(steps, axis=0)
    # The axis of `grid` that runs most along each one of `onto`.
    closest = shares.argmax(axis=1)
    if sorted(closest.tolist()) != [0, 1, 2]:
        return None
    axes = tuple(2 - int(closest[2 - new]) for new in range(3))
    flips = tuple(bool(steps[2 - new, closest[2 - new]] < 0) for new in range(3))
    return Orientation(axes, flips)


def oriented_shape(grid: Grid, orientation: Orientation) -> tuple[int, ...]:
    """Return a grid's voxels in the order of an orientation's axes."""
    return tuple(grid.shape[axis] for axis in orientation.axes)


def same_extent(grid: Grid, onto: Grid) -> Orientation | None:
    """Return how an array of a grid whose place is unknown is brought onto one of as many voxels of the same edges.

    Returns:
        The way there, judged by directions alone; None where voxels or edges differ.
    """
    orientation = axes_onto(grid, onto)
    if orientation is None or oriented_shape(grid, orientation) != tuple(onto.shape):
        return None
    is_thick = np.array(onto.shape) > 1  # across a single slice, a flat file states no edge
    edges, others = np.array(spacing_of(grid.affine, orientation)), np.array(spacing_of(onto.affine))
    return orientation if np.allclose(edges[is_thick], others[is_thick], rtol=LEAST_SHARE) else None


def describe_mismatch(grid: Grid, onto: Grid) -> str:
    """Return by how much two grids differ and what may be the cause, for a message: `it lies 12 mm away …`.

    Args:
        grid: of the file that the message is about.
        onto: of the one that it should lie on.
    """
    orientation = axes_onto(grid, onto) or AS_STORED
    if oriented_shape(grid, orientation) != tuple(onto.shape):
        return _describe_shapes(grid, onto, orientation)
    moved = oriented_affine(grid.affine, grid.shape, orientation)
    distance = grid_mismatch_mm(moved, onto.affine, onto.shape)
    found = f"lies up to {distance:.3g} mm away (at most {allowed_mismatch_mm(onto):.3g} mm, half a voxel, are allowed)"
    edges, others = (np.linalg.norm(affine[:3, :3], axis=0) for affine in (moved, onto.affine))
    if not np.allclose(edges, others, rtol=LEAST_SHARE):
        return f"{found}, with voxels of {_mm(grid)} instead of {_mm(onto)}; a voxel size may have been lost on the way"
    cosines = (moved[:3, :3] * onto.affine[:3, :3]).sum(axis=0) / (edges * others)
    # Rounding may take a cosine just beyond 1.
    angle = float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())
    if angle > np.degrees(LEAST_SHARE):
        return (
            f"{found}, turned by {angle:.3g} degrees; it may have been drawn on another image, or before a registration"
        )
    shift = (moved - onto.affine)[:3, 3]
    mirrored = [name for name, axis in zip(("x", "y", "z"), _mirrored_axes(grid, onto), strict=True) if axis]
    # Of oblique grids the closest world axes may differ although no voxel axis runs against the other's.
    if mirrored and any(orientation.flips):
        return (
            f"{found}; its header runs against the other's along {', '.join(mirrored)}: one of the two may be mirrored"
        )
    return (
        f"{found}, shifted by {', '.join(f'{one:.3g}' for one in shift)} mm (R, A, S); its origin may have been lost, or it is of "
        "another image"
    )


def _mirrored_axes(grid: Grid, onto: Grid) -> list[bool]:
    """Return for each world axis whether two grids run against each other there."""
    one, two = (orientation_of(affine) for affine in (grid.affine, onto.affine))
    return [one.flips[2 - axis] != two.flips[2 - axis] for axis in range(3)]


def _describe_shapes(grid: Grid, onto: Grid, orientation: Orientation) -> str:
    found = f"has {describe_grid(grid)}, not {describe_grid(onto)}"
    edges, others = np.array(spacing_of(grid.affine, orientation)), np.array(spacing_of(onto.affine))
    extent, other = edges * oriented_shape(grid, orientation), others * onto.shape
    if np.allclose(edges, others, rtol=LEAST_SHARE):
        return f"{found}; it may have been cropped or padded"
    if (np.abs(extent - other) <= np.maximum(edges, others)).all():
        return f"{found}; both are equally large, so that one may have been resampled"
    return f"{found}; it may be of another image"


def describe_grid(grid: Grid) -> str:
    """Return a grid's voxels and their edges, for a message."""
    return f"{list(grid.shape)} voxels (Z, Y, X) of {_mm(grid)}"


def _mm(grid: Grid) -> str:
    return " x ".join(f"{edge:.4g}" for edge in spacing_of(grid.affine)) + " mm"


def covered_voxels(grid: Grid, by: Grid) -> Mask:
    """Return the voxels of a grid whose centres lie within the outer voxel edges of another.

    Returns:
        (Z, Y, X) of `grid`.
    """
    step = np.linalg.inv(by.affine) @ grid.affine
    z, y, x = (np.arange(size, dtype=np.float64) for size in grid.shape)
    covered = np.ones(grid.shape, np.bool_)
    for axis, size in enumerate(reversed(by.shape)):  # x, y, z
        along_x, along_y, along_z, offset = step[axis]
        plane = along_y * y[:, None] + along_x * x
        # Plane by plane, or a copy of the whole would be made in float64.
        for number, start in enumerate(along_z * z + offset):
            place = plane + start
            # A hair's breadth for rounding: the outermost voxels of equal grids must count.
            covered[number] &= (place >= -0.5 - 1e-6) & (place <= size - 0.5 + 1e-6)
    return covered


def shared_part(grid: Grid, by: Grid, covered: Mask) -> float:
    """Return the volume that two grids have in common, as a share of the smaller one's.

    Args:
        grid: the one.
        by: the other.
        covered: as from `covered_voxels`.
    """
    voxel, other = (abs(float(np.linalg.det(one.affine[:3, :3]))) for one in (grid, by))
    smaller = min(voxel * covered.size, other * float(np.prod(by.shape)))
    return min(1.0, voxel * int(covered.sum()) / smaller)
