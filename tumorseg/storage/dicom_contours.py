"""RTSTRUCT: structures as closed contours in mm, filled on the grid of an image.

References:
    DICOM PS3.3, C.8.8.5 and C.8.8.6: structure sets and ROI contours.
"""

import logging
from collections import Counter
from typing import Any

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.contours import Contour, fill_contours
from tumorseg.storage.dicom_frames import LPS_TO_RAS
from tumorseg.storage.stored import Geometry
from tumorseg.types import Mask

logger = logging.getLogger(__name__)

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Kinds of contours that enclose something."""
MOST_OUTSIDE = 0.5
"""Slices by which a contour may lie beyond the first or last slice's centre, or its points off its own plane."""


def read_contours(dataset: Any, path: str) -> dict[str, list[list[Contour]]]:
    """Return the closed contours (N, 3), in RAS+ mm, of every structure by its name; one list per structure of that name.

    To be called in `reading`. Points and open lines enclose nothing, a contour that stands twice counts once, both with a warning.
    A structure without closed contours is empty.
    """
    names = {int(roi.ROINumber): _name(roi) for roi in dataset.get("StructureSetROISequence") or ()}
    found: dict[str, list[list[Contour]]] = {name: [] for name in names.values()}
    open_ones: Counter[str] = Counter()
    repeated: Counter[str] = Counter()
    for roi in dataset.get("ROIContourSequence") or ():
        name = names.get(int(roi.ReferencedROINumber), f"ROI {roi.ReferencedROINumber}")
        closed: dict[bytes, Contour] = {}
        for contour in roi.get("ContourSequence") or ():
            points = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
            if str(contour.ContourGeometricType) not in CLOSED or len(points) < 3:
                open_ones[name] += 1
            elif points.tobytes() in closed:
                repeated[name] += 1
            else:
                closed[points.tobytes()] = points @ LPS_TO_RAS
        if closed:
            found.setdefault(name, []).append(list(closed.values()))
    _warn(path, "points and open contours enclose nothing and are left out", open_ones)
    _warn(path, "contours that stand twice count once", repeated)
    return found


def _warn(path: str, what: str, counts: Counter[str]) -> None:
    if counts:
        listed = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
        logger.warning("%s: %s: %s", path, what, listed)


def _name(roi: Any) -> str:
    return " ".join(str(roi.get("ROIName") or "").split()) or f"ROI {roi.ROINumber}"


def paint_contours(path: str, name: str, contours: list[Contour], *, grid: Geometry) -> Mask:
    """Return what lies inside the contours of one structure.

    Args:
        path: for messages.
        name: of the structure.
        contours: (N, 3) each, RAS+ mm.
        grid: of the image.

    Returns:
        (Z, Y, X).

    Raises:
        InputError: a contour lies beyond the slices, or is not parallel to them.
    """
    to_voxels = np.linalg.inv(grid.affine)
    moved = [contour @ to_voxels[:3, :3].T + to_voxels[:3, 3] for contour in contours]
    _check_planes(path, name, moved, grid=grid)
    filled = fill_contours(moved, grid.shape)
    what = f"{path}: {name}"
    if filled.num_dropped:
        logger.warning("%s: %d planes of contours lie between slices and are left out", what, filled.num_dropped)
    if filled.widest_gap > 1:
        logger.warning("%s: contours are on every %d. slice only; those between stay empty", what, filled.widest_gap)
    _, rows, columns = grid.shape
    lowest, highest = (
        bound(contour[:, :2], axis=0) for bound in (np.min, np.max) for contour in [np.concatenate(moved)]
    )
    if (lowest < -1).any() or (highest > [columns, rows]).any():
        logger.warning("%s: contours reach beyond the image and are cut off there", what)
    return filled.mask


def _check_planes(path: str, name: str, contours: list[Contour], *, grid: Geometry) -> None:
    edge_mm = float(np.linalg.norm(grid.affine[:3, 2]))
    heights = np.array([contour[:, 2].mean() for contour in contours])
    spread = max(float(np.abs(contour[:, 2] - height).max()) for contour, height in zip(contours, heights, strict=True))
    if spread > MOST_OUTSIDE:
        raise InputError(
            f"{path}: {name}: found a contour whose points are {spread * edge_mm:.3g} mm off its plane along the slices' normal (at "
            f"most {MOST_OUTSIDE * edge_mm:.3g} mm), expected contours parallel to the slices; are they of another series?"
        )
    outside = max(-float(heights.min()), float(heights.max()) - (grid.shape[0] - 1))
    if outside > MOST_OUTSIDE + 1e-3:
        raise InputError(
            f"{path}: {name}: found a contour {outside * edge_mm:.3g} mm beyond the outer slices (at most half a slice, "
            f"{MOST_OUTSIDE * edge_mm:.3g} mm), expected it inside; are slices missing, or is it of another series?"
        )
