"""Figures of one image or label map that can be compared between cases."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tumorseg.types import Affine, FloatArray, Mask, Segmentation

MOST_SAMPLES = 200_000
"""Voxels of a channel that percentiles are taken of, evenly spread."""
TINY_VOXELS = 10
"""A component of fewer voxels is tiny: less than a ball of 1.3 voxels radius …"""
TINY_SHARE = 0.1
"""… if it is also less than this share of its label's largest component, or the largest is tiny itself."""
MOST_LABEL = 65535
"""Greatest label value for which boxes are found by value; above, values are ranked first."""


class ChannelFacts(NamedTuple):
    """Intensities of one channel."""

    num_bad: int
    """Voxels that are NaN or infinite; the rest of the figures leaves them out."""
    minimum: float
    maximum: float
    low: float
    """Percentile 1 of what is not 0."""
    middle: float
    """Percentile 50 of it."""
    high: float
    """Percentile 99 of it."""

    @property
    def is_constant(self) -> bool:
        """Whether all voxels are the same."""
        return self.minimum == self.maximum


def measure_channel(channel: FloatArray) -> ChannelFacts:
    """Return a channel's figures.

    Args:
        channel: (Z, Y, X).
    """
    # NaN and infinity show in one sum, which spares a look at each voxel of a sound image.
    with np.errstate(over="ignore", invalid="ignore"):
        is_sound = bool(np.isfinite(channel.sum(dtype=np.float64)))
    num_bad = 0 if is_sound else int(channel.size - np.isfinite(channel).sum())
    values = channel[np.isfinite(channel)] if num_bad else channel.ravel()
    if values.size == 0:
        return ChannelFacts(num_bad, 0.0, 0.0, 0.0, 0.0, 0.0)
    inside = values[values != 0]
    inside = inside if inside.size else values
    sample = inside[:: max(1, inside.size // MOST_SAMPLES)]
    low, middle, high = np.percentile(sample.astype(np.float64), [1, 50, 99]).tolist()
    return ChannelFacts(num_bad, float(values.min()), float(values.max()), low, middle, high)


class TinyComponents(NamedTuple):
    """The tiny components of one label."""

    value: int
    """The label's value."""
    sizes: tuple[int, ...]
    """Voxels of each, ascending."""
    num_components: int
    """Of the label in all."""


def find_tiny_components(segmentation: Segmentation) -> list[TinyComponents]:
    """Return the labels that have tiny components; voxels that touch at a corner belong together.

    Args:
        segmentation: (Z, Y, X), label values; what is not above 0 is background.
    """
    found = []
    for value, mask in _label_masks(segmentation):
        sizes = component_sizes(mask)
        limit = TINY_VOXELS if sizes[-1] < TINY_VOXELS else min(TINY_VOXELS, TINY_SHARE * sizes[-1])
        if tiny := tuple(size for size in sizes if size < limit):
            found.append(TinyComponents(value, tiny, len(sizes)))
    return found


def component_sizes(mask: Mask) -> list[int]:
    """Return the voxels of each 26-connected component, ascending."""
    from scipy import ndimage

    components, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes: list[int] = np.sort(np.bincount(components.ravel(), minlength=count + 1)[1:]).tolist()
    return sizes


def _label_masks(segmentation: Segmentation) -> Iterator[tuple[int, Mask]]:
    """Yield each label's value and its mask within its own box."""
    from scipy import ndimage

    # `find_objects` holds a place for every value up to the greatest; what is not above 0 it leaves out.
    ranked, values = segmentation, np.arange(1)
    if segmentation.max() > MOST_LABEL:
        # Ranks of 1 for the least value above 0, and 0 or less for what is not above 0.
        values, inverse = np.unique(segmentation, return_inverse=True)
        ranked = (inverse.reshape(segmentation.shape) - np.searchsorted(values, 0, "right") + 1).astype(np.int32)
        values = np.concatenate([[0], values[values > 0]])
    boxes = ndimage.find_objects(ranked)
    for rank, box in enumerate(boxes, start=1):
        if box is not None:
            yield int(values[rank]) if len(values) > 1 else rank, ranked[box] == rank


def centroid_x(mask: Mask) -> float:
    """Return the mean position in voxels along X of a mask (Z, Y, X) that is not empty."""
    counts = np.count_nonzero(mask, axis=(0, 1))
    return float(counts @ np.arange(counts.size) / counts.sum())


def obliqueness(affine: Affine) -> float:
    """Return by how many degrees the voxel axes are turned away from the closest world axes at worst.

    Args:
        affine: (4, 4), not singular.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arccos(np.clip(np.abs(directions).max(axis=0), 0, 1))).max())


def is_left_handed(affine: Affine) -> bool:
    """Tell whether voxel axes x, y, z are mirrored against the world's."""
    return bool(np.linalg.det(affine[:3, :3]) < 0)


def axis_code(affine: Affine) -> str:
    """Return where voxel axes x, y, z point to, such as `RAS` or `LPS`.

    Args:
        affine: (4, 4), not singular.
    """
    from tumorseg.ops.geometry import orientation_of

    orientation = orientation_of(affine)
    letters = [""] * 3
    for new, (axis, flip) in enumerate(zip(*orientation, strict=True)):
        # Two letters for each canonical axis Z, Y, X; stored axes run the other way round than x, y, z.
        letters[2 - axis] = "SIAPRL"[2 * new + flip]
    return "".join(letters)
