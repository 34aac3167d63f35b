"""Pictures whose values are no labels: masks with smoothed edges, and intensities."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tumorseg.ops.labels import count_values
from tumorseg.types import Segmentation

FEW_BETWEEN = 3
"""Values between that are looked at if they lie along edges only: a mask that was scaled by 2 has 64, 128 and 191."""
MANY_BETWEEN = 6
"""Values between that are looked at wherever they lie: what JPEG and wide filters leave reaches far from edges."""
MANY_VALUES = 24
"""Values that intensities have at least."""
FLAT = 0.25
"""Share of pixels that equal their neighbours, above which values form areas, as labels do: 0.4 and more in drawn maps and atlases,
at most 0.14 in masks that were scaled, turned, blurred or stored as JPEG."""
OUTER = 1 / 8
"""Part of the range at either end that counts for the value at that end."""
MOSTLY = 0.6
"""Share of pixels in the outer parts that makes a picture a mask."""
NEAR = 5
"""Pixels across of the square in which a pixel of a smooth edge sees both sides."""
ALONG_EDGES = 0.8
"""Share of the pixels between that must see both sides."""


def picture_fault(segmentation: Segmentation) -> Literal["smeared", "grainy"] | None:
    """Return whether a picture is a mask with further values between its two, or an image; None for a label map.

    Args:
        segmentation: (1, Y, X).
    """
    values = count_values(segmentation)[0]
    low, high, num_between = values[0], values[-1], len(values) - 2
    if num_between < FEW_BETWEEN:
        return None
    plane = segmentation[0]
    is_between = (plane != low) & (plane != high)
    if _share_flat(plane, is_between) >= FLAT:
        return None
    margin = OUTER * (high - low)
    is_mask = float(((plane <= low + margin) | (plane >= high - margin)).mean()) >= MOSTLY
    if is_mask and (num_between >= MANY_BETWEEN or _share_on_edges(plane, low, high) >= ALONG_EDGES):
        return "smeared"
    return "grainy" if num_between >= MANY_VALUES else None


def _share_flat(plane: NDArray[np.integer], chosen: NDArray[np.bool_]) -> float:
    """Return the share of chosen pixels that equal both the next in their row and the next in their column."""
    here = plane[:-1, :-1]
    is_flat = (here == plane[:-1, 1:]) & (here == plane[1:, :-1])
    found = is_flat[chosen[:-1, :-1]]
    return float(found.mean()) if found.size else 1.0


def _share_on_edges(plane: NDArray[np.integer], low: int, high: int) -> float:
    """Return the share of pixels of other values that have both values near."""
    near_low, near_high = (ndimage.maximum_filter(plane == value, size=NEAR) for value in (low, high))
    return float((near_low & near_high)[(plane != low) & (plane != high)].mean())
