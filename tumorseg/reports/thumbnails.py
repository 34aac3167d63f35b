"""Small pictures: one slice with outlines, nothing written on it."""

import io

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from tumorseg.reports.figures import class_color
from tumorseg.reports.overlays import OverlayInput, largest_slice, radiological, window
from tumorseg.types import FloatArray

SIZE = 240
"""Pixels of the longer edge."""


def thumbnail_png(case: OverlayInput) -> bytes:
    """Draw the axial slice with the most foreground and the reference's outlines, in radiological display."""
    from PIL import Image

    index = largest_slice(case)
    plane = radiological(case.image[index])
    rows, columns = _positions(plane.shape, case.spacing_mm[1:])
    colors = np.repeat(_gray(plane)[np.ix_(rows, columns)][..., None], 3, axis=2)
    if case.reference is not None:
        _outline(colors, radiological(case.reference[index])[np.ix_(rows, columns)])
    buffer = io.BytesIO()
    Image.fromarray(colors).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _positions(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which row and column of a slice each pixel shows, so that pixels are square in the world."""
    sizes = np.array(shape) * np.array(spacing_mm)
    # A side that is thin against the other one still has a pixel.
    pixels = np.maximum(np.rint(sizes / sizes.max() * SIZE).astype(int), 1)
    rows, columns = ((np.arange(count) * size) // count for count, size in zip(pixels, shape, strict=True))
    return rows, columns


def _gray(plane: FloatArray) -> NDArray[np.uint8]:
    lower, upper = window(plane)
    shown = np.nan_to_num(plane.astype(np.float64), nan=lower, posinf=upper, neginf=lower)
    return (np.clip((shown - lower) / (upper - lower), 0, 1) * 255).astype(np.uint8)


def _outline(colors: NDArray[np.uint8], indices: NDArray[np.integer]) -> None:
    """Paint the pixels of each class that have a neighbour of another one."""
    # Background all around, so that outlines close at the image's edge.
    padded = np.pad(indices, 1, constant_values=0)
    inner = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    is_border = np.any([inner != other for other in neighbours], axis=0)
    for index in np.unique(inner[inner > 0]):
        colors[is_border & (inner == index)] = np.array(to_rgb(class_color(int(index) - 1))) * 255
