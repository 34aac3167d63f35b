"""Patches before and after augmentation as pixels: middle slices, labels outlined."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.reports.figures import class_color
from tumorseg.reports.thumbnails import Pixels, gray_pixels, paint_outlines, pixel_grid, rgb_of
from tumorseg.types import FloatArray, Image, Segmentation

LONGEST = {2: 360, 3: 240}
"""Pixels of the longest edge that is shown, by the number of axes: a flat patch has one slice, others two."""
GAP = 3
"""Black pixels between slices."""
GRAY_STEP = 3
"""From one gray to the next; white, 255, is one of them."""
MOST_CHANNELS = 4
"""Rows of channels of a picture; of more the first ones, or those that change most."""
PREVIOUS = -1
"""Row in which the previous segmentation of a cascade is shown, and no channel."""
OF_REFERENCE = "white"
"""Outlines of the reference on the previous segmentation, whose classes are filled."""


class Slices(NamedTuple):
    """Slices through the middle of a patch: across its first axis, and in 3D across its second."""

    images: tuple[FloatArray, ...]
    """(C, rows, columns) each."""
    segmentations: tuple[Segmentation, ...]
    """(M, rows, columns) each: class indices of the reference, and in a cascade of the previous segmentation."""


class Frame(NamedTuple):
    """How all patches of a gallery are shown, so that what differs is what augmentation did."""

    limits: tuple[tuple[float, float], ...]
    """Per channel, the intensities of black and white."""
    patch_size: tuple[int, ...]
    """Voxels; two or three axes."""
    spacing_mm: tuple[float, ...]
    """Voxel edges."""
    is_flipped: bool
    """Whether both axes of each slice are reversed, which shows canonical images as radiologists see them."""

    @property
    def per_mm(self) -> float:
        """Return the pixels of a millimetre."""
        edges_mm = [size * edge for size, edge in zip(self.patch_size, self.spacing_mm, strict=True)]
        return LONGEST[len(edges_mm)] / max(edges_mm)


def middle_slices(image: Image, segmentation: Segmentation) -> Slices:
    """Return the slices of a patch that are shown; of two middles the upper.

    Args:
        image: (C, *space) of two or three axes.
        segmentation: (M, *space).
    """
    space = image.shape[1:]
    if len(space) == 2:
        return Slices((image,), (segmentation,))
    middles = [(axis, space[axis] // 2) for axis in (0, 1)]
    # Copies, which do not keep the whole patch.
    images = tuple(image.take(middle, axis + 1) for axis, middle in middles)
    return Slices(images, tuple(segmentation.take(middle, axis + 1) for axis, middle in middles))


def shown_rows(before: Slices, variants: Iterable[Slices], limits: Sequence[tuple[float, float]]) -> list[int]:
    """Return the channels that change in a slice, those that change most if there are many, and `PREVIOUS` if that does.

    Where nothing changes it is the first channel.

    Args:
        before: the patch as it was read.
        variants: what became of it.
        limits: per channel, the intensities of black and white.
    """
    widths = np.array([upper - lower for lower, upper in limits])
    changes, is_corrupted = np.zeros(len(limits)), False
    for variant in variants:
        changes = np.maximum(changes, _changes(before, variant) / widths)
        is_corrupted |= any(map(_has_mistakes, variant.segmentations))
    most = np.argsort(-changes, kind="stable")[:MOST_CHANNELS]
    rows = sorted(int(channel) for channel in most if changes[channel] > 0)
    if is_corrupted:
        rows.append(PREVIOUS)
    return rows or [0]


def _changes(before: Slices, after: Slices) -> FloatArray:
    """Return the mean change of each channel's intensities."""
    changes = np.zeros(len(before.images[0]))
    for old, new in zip(before.images, after.images, strict=True):
        changes += np.abs(new.astype(np.float64) - old).mean(axis=(1, 2))
    return changes


def _has_mistakes(layers: Segmentation) -> bool:
    """Return whether a previous segmentation is another than the reference."""
    return len(layers) > 1 and not np.array_equal(layers[1], np.maximum(layers[0], 0))


def change_between(before: Slices, after: Slices) -> float:
    """Return how much of a patch is another: mean change of intensities, and share of voxels with another label."""
    labels = zip(before.segmentations, after.segmentations, strict=True)
    return float(_changes(before, after).sum() + sum(np.mean(old != new) for old, new in labels))


def is_same(one: Slices, other: Slices) -> bool:
    """Return whether two patches look the same in all slices."""
    return all(
        np.array_equal(first, second)
        for first, second in zip((*one.images, *one.segmentations), (*other.images, *other.segmentations), strict=True)
    )


def tile_pixels(slices: Slices, rows: Sequence[int], frame: Frame) -> Pixels:
    """Return a picture of a patch: its slices side by side, a row for each channel.

    Args:
        slices: what is shown.
        rows: channels, or `PREVIOUS`.
        frame: how it is shown.
    """
    parts = [_row_pixels(slices, row, frame) for row in rows]
    return _joined(parts, axis=0)


def _row_pixels(slices: Slices, row: int, frame: Frame) -> Pixels:
    parts = []
    for number, (image, layers) in enumerate(zip(slices.images, slices.segmentations, strict=True)):
        # A slice across an axis has the others as its rows and columns.
        across = number if len(slices.images) > 1 else None
        edges_mm = [edge for axis, edge in enumerate(frame.spacing_mm) if axis != across]
        at = pixel_grid(image.shape[1:], edges_mm, frame.per_mm)
        if frame.is_flipped:
            image, layers = image[:, ::-1, ::-1], layers[:, ::-1, ::-1]
        if row == PREVIOUS:
            parts.append(_label_pixels(layers[1][at], layers[0][at]))
            continue
        # Fewer grays than a byte holds leave room for the colours of labels in a PNG of numbered ones.
        colors = (gray_pixels(image[row], frame.limits[row]) // GRAY_STEP * GRAY_STEP)[at]
        paint_outlines(colors, layers[0][at])
        parts.append(colors)
    return _joined(parts, axis=1)


def _label_pixels(previous: Segmentation, reference: Segmentation) -> Pixels:
    """Return the previous segmentation in the colours of its classes, the reference outlined on it."""
    colors: Pixels = np.zeros((*previous.shape, 3), np.uint8)
    for index in np.unique(previous[previous > 0]):
        colors[previous == index] = rgb_of(class_color(int(index) - 1))
    paint_outlines(colors, reference, OF_REFERENCE)
    return colors


def _joined(parts: Sequence[Pixels], *, axis: int) -> Pixels:
    """Return pictures below or beside each other, on black."""
    across = 1 - axis
    longest = max(part.shape[across] for part in parts)
    padded = []
    for number, part in enumerate(parts):
        widths = [(0, 0), (0, 0), (0, 0)]
        widths[across] = (0, longest - part.shape[across])
        # No gap before the first.
        widths[axis] = (GAP if number else 0, 0)
        padded.append(np.pad(part, widths))
    return np.concatenate(padded, axis=axis)
