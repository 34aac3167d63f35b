"""A head with a glioma as arrays: what `tumorseg demo` learns from. Nothing here is a measurement of a person.

Anatomy is a stack of deformed ellipsoids on a grid in mm; contrasts are those of the four usual MR sequences.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tumorseg.types import FloatArray, Image, Segmentation

CHANNELS = ("FLAIR", "T1w", "t1gd", "T2w")
"""As Task01_BrainTumour names and orders them."""
LABELS = {"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}
FIELD_OF_VIEW_MM = 1.1
"""Edge of the imaged cube per voxel asked for."""
AIR, SCALP, SKULL, CSF, GREY, WHITE, EDEMA, CORE, RIM = range(9)
"""Tissues."""
CONTRASTS = np.array(
    [
        # air, scalp, skull, csf, grey, white, edema, core, rim
        [0.0, 0.55, 0.12, 0.18, 0.58, 0.48, 0.98, 0.42, 0.80],
        [0.0, 0.90, 0.10, 0.20, 0.55, 0.74, 0.47, 0.28, 0.50],
        [0.0, 0.90, 0.10, 0.22, 0.58, 0.77, 0.48, 0.28, 1.15],
        [0.0, 0.55, 0.10, 1.00, 0.60, 0.44, 0.85, 0.90, 0.68],
    ]
)
"""Relative signal of each tissue (columns) in each channel (rows)."""


class Phantom(NamedTuple):
    """One canonical case."""

    image: Image
    """(C, Z, Y, X) float32, whole numbers, exactly 0 outside the head."""
    segmentation: Segmentation
    """(Z, Y, X) uint8, values of `LABELS`."""


class _Grid(NamedTuple):
    """Positions of the voxels."""

    points: FloatArray
    """(3, Z, Y, X) from the centre, in halves of the field of view."""
    spacing: FloatArray
    """(Z, Y, X), in the same unit."""


def make_phantom(
    generator: np.random.Generator, *, edge: int, spacing_mm: tuple[float, float, float], has_rim: bool = True
) -> Phantom:
    """Make one case.

    Args:
        generator: source of everything random.
        edge: voxels along each axis at a spacing of 1.1 mm; other spacings see the same field of view.
        spacing_mm: voxel edges (Z, Y, X).
        has_rim: whether the tumour enhances.
    """
    # Each step draws from the one generator: their order is part of what equal seeds give.
    grid = _make_grid(edge, spacing_mm)
    depth = _head_depth(grid, generator)
    tissue = _head_tissues(grid, depth, generator)
    segmentation = _tumour(grid, depth, generator, has_rim=has_rim)
    for label, kind in ((1, EDEMA), (2, CORE), (3, RIM)):
        tissue[segmentation == label] = kind
    return Phantom(_acquire(grid, tissue, generator), segmentation)


def _make_grid(edge: int, spacing_mm: tuple[float, float, float]) -> _Grid:
    field = edge * FIELD_OF_VIEW_MM
    # A small phantom of thick slices would otherwise have too few of them to show a tumour.
    shape = [max(8, round(field / step)) for step in spacing_mm]
    axes = [(np.arange(n) - (n - 1) / 2) * step * 2 / field for n, step in zip(shape, spacing_mm, strict=True)]
    return _Grid(np.stack(np.meshgrid(*axes, indexing="ij")), np.array(spacing_mm) * 2 / field)


def _smooth_noise(grid: _Grid, generator: np.random.Generator, *, width: float) -> FloatArray:
    """Return noise of unit deviation whose features are about `width` halves of the field of view wide."""
    # Knots lie a little closer than `width`, from -1.2 to 1.2: the ends of the spline are then outside the field.
    count = max(4, int(np.ceil(2.4 / width)) + 3)
    knots = generator.standard_normal((count, count, count))
    positions = (grid.points + 1.2) / 2.4 * (count - 1)
    noise = ndimage.map_coordinates(knots, positions, order=3, mode="nearest")
    return np.asarray((noise - noise.mean()) / noise.std())


def _head_depth(grid: _Grid, generator: np.random.Generator) -> FloatArray:
    """Return the distance from the centre in units of the head's surface: 1 at the skin."""
    radii = np.array([0.80, 0.90, 0.74]) * generator.uniform(0.93, 1.03, 3)
    shift = generator.uniform(-0.05, 0.05, 3)
    scaled = (grid.points - shift[:, None, None, None]) / radii[:, None, None, None]
    depth: FloatArray = np.linalg.norm(scaled, axis=0) * (1 + 0.02 * _smooth_noise(grid, generator, width=0.5))
    return depth


def _head_tissues(grid: _Grid, depth: FloatArray, generator: np.random.Generator) -> NDArray[np.intp]:
    """Return the tissue of each voxel of a healthy head."""
    # Noise of short waves on the depth folds the border of grey and white matter, as sulci do.
    folded = depth + 0.035 * _smooth_noise(grid, generator, width=0.12)
    tissue = np.full(depth.shape, AIR)
    # From outside to inside: each tissue is painted over those around it.
    for kind, border in ((SCALP, 1.0), (SKULL, 0.94), (CSF, 0.87)):
        tissue[depth < border] = kind
    tissue[folded < 0.83] = GREY
    tissue[folded < 0.69] = WHITE
    # A ventricle and a deep nucleus of each half.
    for side in (-1, 1):
        centre = np.array([0.05, 0.0, side * 0.11])[:, None, None, None]
        radii = np.array([0.13, 0.32, 0.06])[:, None, None, None] * generator.uniform(0.85, 1.15)
        tissue[np.linalg.norm((grid.points - centre) / radii, axis=0) < 1] = CSF
        nucleus = np.array([-0.1, 0.05, side * 0.2])[:, None, None, None]
        tissue[np.linalg.norm((grid.points - nucleus) / 0.11, axis=0) < 1] = GREY
    return tissue


def _tumour(grid: _Grid, depth: FloatArray, generator: np.random.Generator, *, has_rim: bool) -> NDArray[np.uint8]:
    """Return edema, core and rim inside the brain."""
    side = generator.choice([-1.0, 1.0])
    centre = generator.uniform([-0.2, -0.4, 0.2], [0.35, 0.4, 0.38]) * [1, 1, side]
    size = generator.uniform(0.26, 0.40)
    away = np.linalg.norm(grid.points - centre[:, None, None, None], axis=0) / size
    # Clipped, as rare peaks of the noise would make islands far from the tumour.
    edema = away * (1 + 0.22 * np.clip(_smooth_noise(grid, generator, width=0.3), -2, 2))
    tumour = away * (1 + 0.10 * np.clip(_smooth_noise(grid, generator, width=0.2), -2, 2))
    border = generator.uniform(0.58, 0.70)
    segmentation = np.zeros(depth.shape, np.uint8)
    segmentation[edema < 1] = LABELS["edema"]
    segmentation[tumour < border] = LABELS["enhancing tumour" if has_rim else "non-enhancing tumor"]
    segmentation[tumour < border - 0.22] = LABELS["non-enhancing tumor"]
    # It stops short of the skull, whose inner side is at 0.87.
    segmentation[depth > 0.85] = 0
    return segmentation


def _acquire(grid: _Grid, tissue: NDArray[np.intp], generator: np.random.Generator) -> Image:
    """Return what a scanner would show: partial volume, texture, bias field, noise and arbitrary units per channel."""
    inside = tissue != AIR
    # One blur in space, counted in voxels of each axis.
    blur = np.minimum(0.02 / grid.spacing, 1.0)
    channels = []
    for contrast in CONTRASTS:
        signal = contrast * generator.uniform(0.94, 1.06, contrast.shape)
        texture = ndimage.gaussian_filter(generator.standard_normal(tissue.shape), 1.0)
        clean = ndimage.gaussian_filter(signal[tissue], blur) * (1 + 0.15 * texture)
        biased = clean * np.exp(0.10 * _smooth_noise(grid, generator, width=0.9))
        # MR stores magnitudes, which are never negative and keep a floor of noise where there is no signal.
        noisy = np.hypot(biased + 0.03 * generator.standard_normal(tissue.shape), 0.02)
        stored = np.rint(noisy * generator.uniform(300, 1500))
        # At least 1 inside, so that 0 is air and nothing else.
        channels.append(np.where(inside, np.maximum(stored, 1), 0).astype(np.float32))
    return np.stack(channels)
