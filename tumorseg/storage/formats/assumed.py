"""Files that do not state where their axes point to: what is assumed of them, and how that is said."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.ops.integrity import axis_code
from tumorseg.schema.dataset import AXIS_LETTERS
from tumorseg.types import Affine, Shape

ADVICE = "state it with --assume-orientation CODE or in a manifest"


class Doubt(NamedTuple):
    """Doubt about the orientation of a file."""

    reason: str
    """What is missing, or contradicts itself, in the words of the format."""
    is_usual: bool = True
    """Whether there is something usual to assume; else the file is refused unless its orientation is stated."""


def assumed_affine(code: str, edges_mm: Sequence[float], shape: Shape) -> Affine:
    """Return the affine of a grid of which only the directions of its axes are known, centred at the origin.

    Args:
        code: where axes x, y, z point to, such as `RAS`.
        edges_mm: voxel edges along x, y, z.
        shape: voxels (Z, Y, X).
    """
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, letter in enumerate(code):
        world = next(number for number, pair in enumerate(AXIS_LETTERS) if letter in pair)
        # Of each pair the first letter is where RAS+ points to.
        affine[world, axis] = edges_mm[axis] if letter == AXIS_LETTERS[world][0] else -edges_mm[axis]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return affine


def spelled(affine: Affine) -> str:
    """Return where the axes of a grid point to as messages say it: `L, A, S`."""
    return ", ".join(axis_code(affine))


def laid_out(affine: Affine, doubt: Doubt | None, shape: Shape, assumed_orientation: str | None) -> Affine:
    """Return where a grid lies: as its header says, or as is stated of files whose header does not say it.

    Args:
        affine: (4, 4), the header's, or what is usual in its format.
        doubt: why the header leaves it open; None where it does not.
        shape: voxels (Z, Y, X).
        assumed_orientation: where axes x, y, z point to if the header does not say; None for what is usual.
    """
    if doubt is None or assumed_orientation is None:
        return affine
    return assumed_affine(assumed_orientation, np.linalg.norm(affine[:3, :3], axis=0).tolist(), shape)
