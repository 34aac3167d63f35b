"""RTSTRUCT: structures as closed contours in mm, filled on the grid of an image.

References:
    DICOM PS3.3, C.8.8.5 and C.8.8.6: structure sets and ROI contours.
"""

import logging
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.ops.contours import Contour, Filled, fill_contours
from tumorseg.ops.geometry import spacing_of
from tumorseg.storage.dicom.frames import LPS_TO_RAS
from tumorseg.storage.file_warnings import warn
from tumorseg.storage.formats.stored import Geometry
from tumorseg.types import Mask

logger = logging.getLogger(__name__)

XOR = "CLOSEDPLANAR_XOR"
CLOSED = ("CLOSED_PLANAR", XOR)
"""Kinds of contours that enclose something."""
MOST_OUTSIDE = 0.5
"""Slices by which a contour may lie beyond the first or last slice's centre, or its points off its own plane."""
FARTHEST_MM = 1e5
"""From the world's origin; no scanner reaches so far."""
DOUBTS = {
    "crossing": "cross and were united",
    "mixed": f"are {XOR} among CLOSED_PLANAR ones and were combined with them by exclusive or",
    "wound": "go round some voxels twice, which were left out, as a hole is (even-odd rule)",
    "rims": "were taken for holes but run, for most of their length, within half a voxel of the one around them; are they copies?",
    "lost": "leave no voxel: they enclose no voxel's centre, or holes take what they enclose",
}
"""What is said of the counts of `ops.contours.Counts`, after how many contours it is."""


def read_contours(dataset: Any, path: str) -> dict[str, list[list[Contour]]]:
    """Return the closed contours (N, 3), in RAS+ mm, of every structure by its name; one list per structure of that name.

    To be called in `reading`. Points and open lines enclose nothing and are left out with a warning. A structure without closed
    contours is empty.

    Raises:
        InputError: a coordinate is no number, or out of reach.
    """
    names = {int(roi.ROINumber): _name(roi) for roi in dataset.get("StructureSetROISequence") or ()}
    found: dict[str, list[list[Contour]]] = {name: [] for name in names.values()}
    open_ones: Counter[str] = Counter()
    for roi in dataset.get("ROIContourSequence") or ():
        name = names.get(int(roi.ReferencedROINumber), f"ROI {roi.ReferencedROINumber}")
        closed = []
        for contour in roi.get("ContourSequence") or ():
            points = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
            kind = str(contour.ContourGeometricType)
            if kind not in CLOSED or len(points) < 3:
                open_ones[name] += 1
            else:
                _check_corners(path, name, points)
                closed.append(Contour(points @ LPS_TO_RAS, is_xor=kind == XOR))
        if closed:
            found.setdefault(name, []).append(closed)
    if open_ones:
        listed = ", ".join(f"{name} ({count})" for name, count in sorted(open_ones.items()))
        warn(path, f"points and open contours enclose nothing and are left out: {listed}")
    return found


def _check_corners(path: str, name: str, points: NDArray[np.float64]) -> None:
    # Negated, so that NaN, which is neither near nor far, is refused too.
    if (off := points[~(np.abs(points) <= FARTHEST_MM)]).size:
        raise InputError(
            f"{name}: found the coordinate {off[0]:g} in a contour, expected mm from {-FARTHEST_MM:g} to {FARTHEST_MM:g}; mend it",
            file=path,
        )


def _name(roi: Any) -> str:
    return " ".join(str(roi.get("ROIName") or "").split()) or f"ROI {roi.ROINumber}"


def paint_contours(path: str, name: str, contours: list[Contour], *, grid: Geometry) -> Mask:
    """Return what lies inside the contours of one structure.

    Args:
        path: for messages.
        name: of the structure.
        contours: RAS+ mm.
        grid: of the image.

    Returns:
        (Z, Y, X).

    Raises:
        InputError: a contour lies beyond the slices, or is not parallel to them.
    """
    to_voxels = np.linalg.inv(grid.affine)
    moved = [contour._replace(points=contour.points @ to_voxels[:3, :3].T + to_voxels[:3, 3]) for contour in contours]
    _check_planes(path, name, [contour.points for contour in moved], grid=grid)
    filled = fill_contours(moved, grid.shape, spacing_of(grid.affine))
    _tell(path, name, filled)
    _, rows, columns = grid.shape
    corners = np.concatenate([contour.points[:, :2] for contour in moved])
    # At -1 and at the number of columns lie the first voxel centres outside: short of them nothing is lost.
    if (corners < -1).any() or (corners > [columns, rows]).any():
        warn(path, f"{name}: contours reach beyond the image and are cut off there")
    return filled.mask


def _tell(path: str, name: str, filled: Filled) -> None:
    """Tell of what was not simply filled, so that nothing goes in silence."""
    counts = filled.counts._asdict()
    if counts["copies"]:
        warn(path, f"contours that stand twice count once: {name} ({counts['copies']})")
    for kind, said in DOUBTS.items():
        if counts[kind]:
            warn(path, f"{name}: {counts[kind]} contours {said}")
    if counts["holes"]:
        logger.debug("%s: %s: %d contours lie inside others and are holes", path, name, counts["holes"])
    if not filled.mask.any():
        warn(path, f"{name}: no voxel is inside, the structure is empty")
    if filled.num_dropped:
        warn(path, f"{name}: {filled.num_dropped} planes of contours lie between slices and are left out")
    if filled.widest_gap > 1:
        warn(path, f"{name}: contours are on every {filled.widest_gap}. slice only; those between stay empty")


def _check_planes(path: str, name: str, contours: list[NDArray[np.float64]], *, grid: Geometry) -> None:
    edge_mm = float(np.linalg.norm(grid.affine[:3, 2]))
    heights = np.array([contour[:, 2].mean() for contour in contours])
    spread = max(float(np.abs(contour[:, 2] - height).max()) for contour, height in zip(contours, heights, strict=True))
    if spread > MOST_OUTSIDE:
        raise InputError(
            f"{name}: found a contour whose points are {spread * edge_mm:.3g} mm off its plane along the slices' normal (at "
            f"most {MOST_OUTSIDE * edge_mm:.3g} mm), expected contours parallel to the slices; are they of another series?",
            file=path,
        )
    outside = max(-float(heights.min()), float(heights.max()) - (grid.shape[0] - 1))
    # A thousandth for the decimals to which positions are rounded in headers.
    if outside > MOST_OUTSIDE + 1e-3:
        raise InputError(
            f"{name}: found a contour {outside * edge_mm:.3g} mm beyond the outer slices (at most half a slice, "
            f"{MOST_OUTSIDE * edge_mm:.3g} mm), expected it inside; are slices missing, or is it of another series?",
            file=path,
        )
