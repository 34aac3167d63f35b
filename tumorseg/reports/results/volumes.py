"""Cases as small volumes for the viewer: eight bits a voxel, cut to what is to be seen."""

import gzip
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.ops.geometry import orient, orientation_of, oriented_affine, spacing_of
from tumorseg.reports.overlays import window
from tumorseg.reports.results.nifti_bytes import nifti_bytes
from tumorseg.types import Affine, Box, FloatArray, Segmentation

MOST_VOXELS = 4_000_000
"""Of one case's volume, which holds a brain at 1 mm; a larger one is cut to its structures, then thinned out."""
MARGIN_MM = 25.0
"""Kept around the structures where a volume is cut to them."""
_MOST_LABELS = 255  # what eight bits tell apart beside the background


class ViewerInput(NamedTuple):
    """One case to be shown."""

    case_id: str
    image: FloatArray
    """One channel (Z, Y, X), in the axis order and the directions that `affine` states."""
    affine: Affine
    """(4, 4), voxels (x, y, z, 1) of these arrays to RAS+ mm."""
    reference: Segmentation | None = None
    """Class indices (Z, Y, X)."""
    prediction: Segmentation | None = None
    """Class indices (Z, Y, X)."""
    class_names: tuple[str, ...] = ()
    """Name of each class index, the background's first; a class without one is called by its number."""


class ViewerCase(NamedTuple):
    """One case as the page holds it."""

    case_id: str
    class_names: tuple[str, ...]
    """Name of each class index up to the largest there is, the background's first."""
    layers: dict[str, bytes]
    """`image`, and `reference` and `prediction` where given, each a gzipped NIfTI-1 file of uint8 on the same grid."""
    remark: str = ""
    """What was cut off or thinned out."""

    @property
    def num_bytes(self) -> int:
        """Return the size of all layers."""
        return sum(map(len, self.layers.values()))


def viewer_case(case: ViewerInput, *, most_voxels: int = MOST_VOXELS) -> ViewerCase:
    """Make a case small enough for a page: in RAS order, windowed to 0-255, cut to its content, thinned out if it is still large.

    Args:
        case: what is shown.
        most_voxels: of each of its volumes.

    Raises:
        InputError: there are more than 255 classes.
        ValueError: arrays have different shapes.
    """
    orientation = orientation_of(case.affine)
    affine = oriented_affine(case.affine, case.image.shape, orientation)
    image = orient(case.image, orientation)
    segmentations = {name: orient(array, orientation) for name, array in _segmentations(case).items()}
    spacing_mm = spacing_of(affine)
    content = box = _content_box(image, list(segmentations.values()))
    if _num_voxels(content) > most_voxels:
        box = _structures_box(content, list(segmentations.values()), spacing_mm)
    steps = _steps(box, spacing_mm, most_voxels)
    cut = tuple(slice(lower, upper, step) for (lower, upper), step in zip(box, steps, strict=True))
    affine = _cut_affine(affine, box, steps)
    layers = {"image": _gray(image, cut)}
    layers |= {name: array[cut].astype(np.uint8) for name, array in segmentations.items()}
    files = {name: gzip.compress(nifti_bytes(array, affine), 6, mtime=0) for name, array in layers.items()}
    remark = _remark(affine, is_cut=box != content, is_thinned=max(steps) > 1)
    return ViewerCase(case.case_id, _all_names(case.class_names, list(segmentations.values())), files, remark)


def _all_names(given: tuple[str, ...], segmentations: list[Segmentation]) -> tuple[str, ...]:
    """Return a name for every class index up to the largest, as each is shown with a colour and an entry of the legend."""
    largest = max((int(array.max(initial=0)) for array in segmentations), default=0)
    names = given or ("background",)
    return (*names, *map(str, range(len(names), largest + 1)))


def _remark(affine: Affine, *, is_cut: bool, is_thinned: bool) -> str:
    """Return what a reader has to know of a volume that is not whole."""
    edges = " × ".join(f"{edge:.2g}" for edge in spacing_of(affine)[::-1])
    parts = ["cut to the surroundings of the structures"] if is_cut else []
    parts += [f"thinned out to {edges} mm (x, y, z)"] if is_thinned else []
    return ", ".join(parts)


def _segmentations(case: ViewerInput) -> dict[str, Segmentation]:
    found = {"reference": case.reference, "prediction": case.prediction}
    given = {name: array for name, array in found.items() if array is not None}
    for name, array in given.items():
        if array.shape != case.image.shape:
            raise ValueError(f"{case.case_id}: the {name} has shape {array.shape}, the image {case.image.shape}")
        if array.max(initial=0) > _MOST_LABELS:
            fault = f"found a class index of {array.max()} in the {name}, expected at most {_MOST_LABELS} to tell apart in the viewer"
            raise InputError(fault, case_id=case.case_id)
    # What is to be ignored, below 0, is shown as background.
    return {name: np.maximum(array, 0) for name, array in given.items()}


def _content_box(image: FloatArray, segmentations: list[Segmentation]) -> Box:
    """Return the box outside which there is background alone."""
    is_content = image > np.nanmin(image) if np.isfinite(image).any() else np.ones(image.shape, bool)
    for array in segmentations:
        is_content |= array > 0
    return _box(is_content)


def _structures_box(box: Box, segmentations: list[Segmentation], spacing_mm: tuple[float, ...]) -> Box:
    """Return the part of a box that the structures lie in, with a margin; all of it where there are none."""
    is_structure = np.zeros(segmentations[0].shape, bool) if segmentations else np.zeros((1, 1, 1), bool)
    for array in segmentations:
        is_structure |= array > 0
    if not is_structure.any():
        return box
    smaller = []
    for (lower, upper), (least, most), edge in zip(_box(is_structure), box, spacing_mm, strict=True):
        margin = int(np.ceil(MARGIN_MM / edge))
        smaller.append((max(lower - margin, least), min(upper + margin, most)))
    return tuple(smaller)


def _box(mask: NDArray[np.bool_]) -> Box:
    """Return the smallest box around a mask, or the whole of an empty one."""
    if not mask.any():
        return tuple((0, size) for size in mask.shape)
    bounds = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        held = np.flatnonzero(mask.any(axis=others))
        bounds.append((int(held[0]), int(held[-1]) + 1))
    return tuple(bounds)


def _steps(box: Box, spacing_mm: tuple[float, ...], most_voxels: int) -> list[int]:
    """Return of how many voxels along each axis one is kept; the axis with the finest voxels is thinned out first."""
    steps = [1] * len(box)
    while _num_voxels(box, steps) > most_voxels:
        edges = [edge * step for edge, step in zip(spacing_mm, steps, strict=True)]
        steps[int(np.argmin(edges))] += 1
    return steps


def _num_voxels(box: Box, steps: list[int] | None = None) -> int:
    sizes = [upper - lower for lower, upper in box]
    return int(np.prod([-(-size // step) for size, step in zip(sizes, steps or [1] * len(sizes), strict=True)]))


def _cut_affine(affine: Affine, box: Box, steps: list[int]) -> Affine:
    """Return the affine of a volume that starts at a box's corner and keeps one voxel in a step."""
    # The affine takes x first, arrays have z first.
    corner = [lower for lower, _ in box][::-1]
    cut = affine.astype(np.float64, copy=True)
    cut[:3, 3] = affine[:3, :3] @ corner + affine[:3, 3]
    cut[:3, :3] *= steps[::-1]
    return cut


def _gray(image: FloatArray, cut: tuple[slice, ...]) -> NDArray[np.uint8]:
    lower, upper = window(image)
    shown = np.nan_to_num(image[cut].astype(np.float32), nan=lower, posinf=upper, neginf=lower)
    gray: NDArray[np.uint8] = (np.clip((shown - lower) / (upper - lower), 0, 1) * 255).astype(np.uint8)
    return gray
