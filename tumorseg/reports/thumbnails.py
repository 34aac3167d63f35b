"""Small pictures: one slice with outlines, nothing written on it."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from tumorseg.reports.figures import class_color
from tumorseg.reports.overlays import OverlayInput, largest_slice, radiological, window
from tumorseg.types import FloatArray

SIZE = 240
"""Pixels of the longer edge."""
MOST_NUMBERED = 256
"""Colours that a byte tells apart."""

Pixels = NDArray[np.uint8]
"""(rows, columns, 3): red, green and blue."""


def thumbnail_png(case: OverlayInput) -> bytes:
    """Draw the axial slice with the most foreground and the reference's outlines, in radiological display."""
    index = largest_slice(case)
    plane = radiological(case.image[index])
    edges_mm = case.spacing_mm[1:]
    per_mm = SIZE / max(size * edge for size, edge in zip(plane.shape, edges_mm, strict=True))
    at = pixel_grid(plane.shape, edges_mm, per_mm)
    colors = gray_pixels(plane, window(plane))[at]
    if case.reference is not None:
        paint_outlines(colors, radiological(case.reference[index])[at])
    return pixels_png(colors)


def pixels_png(colors: Pixels) -> bytes:
    """Return pixels as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(colors).save(buffer, format="PNG")
    return buffer.getvalue()


def numbered_png(colors: Pixels) -> bytes:
    """Return pixels of few colours as PNG whose colours are numbered, a third as large; of many as `pixels_png` does."""
    from PIL import Image

    codes = colors @ np.array([1 << 16, 1 << 8, 1])
    found, numbers = np.unique(codes, return_inverse=True)
    if len(found) > MOST_NUMBERED:
        return pixels_png(colors)
    image = Image.fromarray(numbers.reshape(codes.shape).astype(np.uint8))
    palette = np.stack((found >> 16, found >> 8 & 255, found & 255), axis=1)
    image.putpalette(palette.astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def pixel_grid(
    shape: Sequence[int], spacing_mm: Sequence[float], per_mm: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the index of a slice that makes its pixels square in the world: which row and which column each pixel shows.

    Args:
        shape: rows and columns of the slice.
        spacing_mm: their edges.
        per_mm: pixels of a millimetre.
    """
    positions = []
    for size, edge in zip(shape, spacing_mm, strict=True):
        # A side that is thin against the other one still has a pixel.
        count = max(round(size * edge * per_mm), 1)
        positions.append((np.arange(count) * size) // count)
    rows, columns = np.ix_(*positions)
    return rows, columns


def gray_pixels(plane: FloatArray, limits: tuple[float, float]) -> Pixels:
    """Return a slice (rows, columns) in grays.

    Args:
        plane: its intensities.
        limits: of what is shown, from black to white.
    """
    lower, upper = limits
    shown = np.nan_to_num(plane.astype(np.float64), nan=lower, posinf=upper, neginf=lower)
    grays = (np.clip((shown - lower) / (upper - lower), 0, 1) * 255).astype(np.uint8)
    return np.repeat(grays[..., None], 3, axis=2)


def paint_outlines(colors: Pixels, indices: NDArray[np.integer], color: str | None = None) -> None:
    """Paint the pixels of each class that have a neighbour of another one.

    Args:
        colors: is painted on.
        indices: (rows, columns) class of each pixel; what is 0 or below has no outline.
        color: of all classes; each has its own if None.
    """
    # Background all around, so that outlines close at the image's edge.
    padded = np.pad(indices, 1, constant_values=0)
    inner = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    is_border = np.any([inner != other for other in neighbours], axis=0)
    for index in np.unique(inner[inner > 0]):
        colors[is_border & (inner == index)] = rgb_of(color or class_color(int(index) - 1))


def rgb_of(color: str) -> NDArray[np.float64]:
    """Return red, green and blue of a colour, 0 to 255."""
    return np.array(to_rgb(color)) * 255
