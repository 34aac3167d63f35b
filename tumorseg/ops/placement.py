"""Part of a grid on the whole of it: voxels that lie on those of another grid, whatever their order in the file."""

from typing import NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.geometry import Orientation, grid_mismatch_mm, orient, oriented_affine, spacing_of
from tumorseg.ops.grids import LEAST_SHARE, Grid, allowed_mismatch_mm, axes_onto, oriented_shape
from tumorseg.types import Affine, Mask


class Placement(NamedTuple):
    """Position of a grid's voxels on another grid."""

    orientation: Orientation
    """How they are brought into its order of axes."""
    start: tuple[int, int, int]
    """Voxel (Z, Y, X) of the other grid on which the first one then lies; may be outside of it."""


def find_placement(grid: Grid, onto: Grid, *, what: str = "voxels") -> Placement:
    """Return where the voxels of a grid lie on another one, of which it may be any part and reach beyond.

    Axes may be stored in another order or run the other way; nothing is resampled.

    Args:
        grid: of what is to be placed.
        onto: the other one.
        what: for the message, the thing that lies there.

    Raises:
        InputError: some voxel lies more than half of the finest edge beside one of the other grid.
    """
    orientation = axes_onto(grid, onto)
    if orientation is None:
        raise InputError(f"found {what} aslant to the image's axes")
    affine, shape = oriented_affine(grid.affine, grid.shape, orientation), oriented_shape(grid, orientation)
    start = np.rint(np.linalg.inv(onto.affine) @ affine[:, 3])[:3]
    off_mm, allowed_mm = grid_mismatch_mm(affine, _moved(onto.affine, start), shape), allowed_mismatch_mm(onto)
    if off_mm > allowed_mm:
        edges, expected = spacing_of(grid.affine, orientation), spacing_of(onto.affine)
        pairs = zip(edges, expected, shape, strict=True)
        # Across a single slice a flat file states no edge.
        differs = any(abs(edge / other - 1) > LEAST_SHARE for edge, other, size in pairs if size > 1)
        cause = f", with edges of {_listed(edges)} mm on its of {_listed(expected)} mm (z, y, x)" if differs else ""
        raise InputError(
            f"found {what} {off_mm:.3g} mm off the image's voxels (at most {allowed_mm:.3g} mm, half a voxel){cause}"
        )
    x, y, z = (int(index) for index in start)
    return Placement(orientation, (z, y, x))


def place(block: Mask, placement: Placement, mask: Mask) -> int:
    """Add the voxels of a block to a mask on the grid that it was placed on.

    Args:
        block: (Z, Y, X) as stored.
        placement: of its grid.
        mask: (Z, Y, X), changed in place.

    Returns:
        The voxels of the block that lie outside, and are left out.
    """
    view = orient(block, placement.orientation)
    bounds = list(zip(placement.start, view.shape, mask.shape, strict=True))
    # Never below 0, which would count from the end: beside the mask slices are empty.
    inner = tuple(slice(max(0, -start), max(0, min(size, whole - start))) for start, size, whole in bounds)
    target = tuple(slice(max(0, start), max(0, min(start + size, whole))) for start, size, whole in bounds)
    mask[target] |= view[inner]
    return int(np.count_nonzero(block)) - int(np.count_nonzero(view[inner]))


def _moved(affine: Affine, start: Affine) -> Affine:
    """Return the affine of a grid counted from another of its voxels (x, y, z)."""
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ start
    return moved


def _listed(edges: tuple[float, float, float]) -> str:
    return " x ".join(f"{edge:.4g}" for edge in edges)
