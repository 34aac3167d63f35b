"""Pictures whose values are no labels: masks with smoothed edges, and intensities."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
"""Share of pixels in the outer parts that makes a picture a mask, and of values on ramps that makes its edges smooth."""
RAMPS = 0.2
"""Share of the pixels between that lie on ramps, if edges are smooth: 0.3 and more in masks that were scaled, turned, blurred or
stored as JPEG, at most 0.1 in landmarks, small objects and lines."""
NEAR = 5
"""Pixels across of the square in which a pixel of a smooth edge sees both sides."""
ALONG_EDGES = 0.8
"""Share of the pixels between that must see both sides."""


def picture_fault(segmentation: Segmentation) -> Literal["smeared", "grainy"] | None:
    """Return whether a picture is a mask whose edges were smoothed, or an image; None for a label map.

    Args:
        segmentation: (1, Y, X).
    """
    values = count_values(segmentation)[0]
    low, high, num_between = values[0], values[-1], len(values) - 2
    if num_between < FEW_BETWEEN:
        return None
    plane = segmentation[0]
    is_between = (plane != low) & (plane != high)
    # Areas: labels, or grey levels of which only the edges are smooth.
    if _share_flat(plane, is_between) >= FLAT:
        return "smeared" if num_between >= MANY_VALUES and _share_ramp_values(plane, is_between) >= MOSTLY else None
    margin = OUTER * (high - low)
    is_mask = float(((plane <= low + margin) | (plane >= high - margin)).mean()) >= MOSTLY
    if is_mask:
        is_enough = num_between >= MANY_BETWEEN or _share_on_edges(plane, low, high) >= ALONG_EDGES
        return "smeared" if is_enough and float(_ramps(plane)[is_between].mean()) >= RAMPS else None
    return "grainy" if num_between >= MANY_VALUES else None


def _share_flat(plane: NDArray[np.integer], chosen: NDArray[np.bool_]) -> float:
    """Return the share of chosen pixels that equal both the next in their row and the next in their column."""
    here = plane[:-1, :-1]
    is_flat = (here == plane[:-1, 1:]) & (here == plane[1:, :-1])
    found = is_flat[chosen[:-1, :-1]]
    return float(found.mean()) if found.size else 1.0


def _ramps(plane: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return where a pixel lies strictly between the two beside it, in a row, column or diagonal."""
    height, width = plane.shape
    padded = np.pad(plane, 1, mode="edge")
    found = np.zeros(plane.shape, bool)
    for y, x in ((0, 1), (1, 0), (1, 1), (1, -1)):
        one = padded[1 + y : 1 + y + height, 1 + x : 1 + x + width]
        other = padded[1 - y : 1 - y + height, 1 - x : 1 - x + width]
        found |= (np.minimum(one, other) < plane) & (plane < np.maximum(one, other))
    return found


def _share_ramp_values(plane: NDArray[np.integer], chosen: NDArray[np.bool_]) -> float:
    """Return the share of the values of chosen pixels that lie on ramps for the most part."""
    values, indices = np.unique(plane[chosen], return_inverse=True)
    return float((2 * np.bincount(indices, _ramps(plane)[chosen], len(values)) > np.bincount(indices)).mean())


def _share_on_edges(plane: NDArray[np.integer], low: int, high: int) -> float:
    """Return the share of pixels of other values that have both values near."""
    # Takes a fifth of a second, which most data are spared.
    from scipy import ndimage

    near_low, near_high = (ndimage.maximum_filter(plane == value, size=NEAR) for value in (low, high))
    return float((near_low & near_high)[(plane != low) & (plane != high)].mean())
