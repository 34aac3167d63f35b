"""Header information common to all image formats, and the error for a damaged file."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.ops.geometry import EDGE_DECIMALS, is_edge
from tumorseg.storage.formats.assumed import Doubt
from tumorseg.storage.formats.signatures import RESTORE, misnamed
from tumorseg.types import Affine

NIFTI_ENDINGS = (".nii.gz", ".nii")
"""How the name of a NIfTI file may end."""


class Geometry(NamedTuple):
    """Voxel grid according to a header."""

    shape: tuple[int, int, int]
    """Voxels (Z, Y, X); a 2D image has Z = 1."""
    affine: Affine
    """(4, 4), voxels (x, y, z, 1) to RAS+ mm."""
    num_volumes: int
    """Volumes along the last axis of a 4D file, or components of a voxel; else 1."""
    is_placed: bool = True
    """Whether the file states where its axes point to; else the affine's directions are assumed."""


@dataclass(frozen=True)
class Stored:
    """An image file whose header was read and found sound."""

    path: str
    geometry: Geometry
    scaling: tuple[float, float]
    """Slope and intercept from stored to real values."""
    read: Callable[[Sequence[int]], list[NDArray[Any]]]
    """Return volumes (Z, Y, X) as stored, by ascending index; the whole file is read, so that damage shows."""
    doubt: Doubt | None = None
    """Why its orientation is in doubt."""
    remarks: tuple[str, ...] = ()
    """What is reported to the user once the voxels are read, without the file's name."""
    not_image: str | None = None
    """Why its values can be labels but no intensities, and what to do."""

    def check_intensities(self) -> None:
        """Check that the values can be an image's.

        Raises:
            InputError: they can only be labels.
        """
        if self.not_image is not None:
            raise InputError(self.not_image, file=self.path)


def check_affine(path: str, affine: Affine) -> Affine:
    """Return an affine that maps voxels to the world.

    Raises:
        InputError: a voxel edge is 0 or rounds to it, is not finite, or lies in the plane of the others.
    """
    with np.errstate(over="ignore"):  # of 1e200 mm the square is no number
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and np.isfinite(lengths).all()) or (lengths == 0).any():
        fault = f"found voxel sizes of zero or no number in {affine.tolist()}; mend the header"
        raise InputError(fault, file=path, kind="bad_affine")
    if not all(is_edge(float(length)) for length in lengths):
        edges = " x ".join(f"{length:.4g}" for length in lengths)
        least = f"{10**-EDGE_DECIMALS:g} mm at least"
        fault = f"found voxel edges of {edges} mm (X, Y, Z), expected {least}; mend the header, or the unit in it"
        raise InputError(fault, file=path, kind="bad_affine")
    # The volume between unit vectors: 1 where they are perpendicular, 0 where they lie in one plane.
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        fault = f"the affine {affine.tolist()} is singular, expected three independent axes; mend it"
        raise InputError(fault, file=path, kind="bad_affine")
    return affine


def check_shape(path: str, shape: Sequence[int]) -> None:
    """Check a stored shape (X, Y[, Z[, channel]]).

    Raises:
        InputError: it is no image's.
    """
    # Some programs write a fifth axis of length 1, which does no harm.
    if len(shape) < 2 or min(shape) < 1 or math.prod(shape[4:]) > 1:
        raise InputError(
            f"found shape {tuple(shape)}; expected 2D, 3D, or 4D with the channels last; reshape it", file=path
        )


def damaged(path: str, kind: str, cause: object) -> InputError:
    """Return the error for a file that its format's reader gave up on; if it is of another format, that is said."""
    if (found := misnamed(path)) is not None:
        return InputError(found, file=path)
    reason = " ".join(str(cause).split()) or type(cause).__name__
    return InputError(f"cannot be read as {kind} ({reason}); expected a whole file; {RESTORE}", file=path)
