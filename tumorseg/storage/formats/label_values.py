"""From numbers as a file stores them to label values.

Programs write labels as floating-point numbers, or as small integers with a slope and an intercept. Either rounds; what rounding
explains is the integer, what it does not explain is none.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.types import Mask, Segmentation

UNSCALED = (1.0, 0.0)
ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""How far rounding moves a number of 1, of float32 and through few steps; of larger numbers, by that share."""
LARGEST = 2.0**40
"""Beyond this, what looks like an integer is a sign of intensities."""


class RoundedLabels(NamedTuple):
    """The numbers of a label file, and the integers that they stand for."""

    values: NDArray[Any]
    """(Z, Y, X), slope and intercept applied."""
    labels: NDArray[np.int64]
    """(Z, Y, X), the closest integers; of no meaning where `is_off`."""
    is_off: Mask
    """(Z, Y, X), where a value is no integer, nor one that was rounded."""


def is_coarse(array: NDArray[Any], scaling: tuple[float, float]) -> bool:
    """Tell whether a slope is so large that labels cannot have survived it in integers: above 1, and no integer.

    Args:
        array: as stored; floats hold what rounding left of a label, whatever the slope.
        scaling: slope and intercept from stored to real values.
    """
    slope = abs(scaling[0])
    return array.dtype.kind != "f" and slope > 1 + ROUNDING and abs(slope - round(slope)) > ROUNDING * slope


def round_labels(array: NDArray[Any], scaling: tuple[float, float]) -> RoundedLabels:
    """Return which integers the numbers of a label file stand for.

    A number that was stored with a slope below 1 is at most half of it away from what it was; any other is exact but for rounding.

    Args:
        array: (Z, Y, X), as stored.
        scaling: slope and intercept from stored to real values.
    """
    values, tolerance = array, 0.0
    if scaling != UNSCALED:
        slope, intercept = scaling
        values = array.astype(np.float64) * slope + intercept
        # A sum is rounded like its largest part, which may be the intercept.
        tolerance = ROUNDING * abs(intercept)
        if array.dtype.kind in "iu" and abs(slope) < 1:
            tolerance += abs(slope) / 2
    # NaN and inf fail the comparisons, and are then told as values that are no labels.
    with np.errstate(invalid="ignore", over="ignore"):
        nearest = np.rint(values)
        size = np.abs(values)
        is_label = (np.abs(values - nearest) <= tolerance + ROUNDING * np.maximum(size, 1)) & (size <= LARGEST)
        labels = np.where(is_label, nearest, 0).astype(np.int64)
    return RoundedLabels(values, labels, ~is_label)


def as_labels(path: str, array: NDArray[Any], scaling: tuple[float, float]) -> Segmentation:
    """Return the numbers of a label file as int16, or int32 where that does not hold them.

    Args:
        path: of the file.
        array: (Z, Y, X), as stored.
        scaling: slope and intercept from stored to real values.

    Raises:
        InputError: they are no labels.
    """
    if is_coarse(array, scaling):
        raise InputError(
            f"found labels stored with a slope of {scaling[0]}, which cannot tell every integer from the next; expected "
            "integers without slope; store them anew from where they come from",
            file=path,
        )
    if array.dtype.kind == "f" or scaling != UNSCALED:
        rounded = round_labels(array, scaling)
        if rounded.is_off.any():
            raise InputError(
                f"found the value {rounded.values[rounded.is_off][0]!s}, expected integer labels; is this an intensity image, "
                "or was it interpolated? store labels as integers",
                file=path,
            )
        array = rounded.labels
    lowest, highest = int(array.min()), int(array.max())
    kind = next((k for k in (np.int16, np.int32) if np.iinfo(k).min <= lowest and highest <= np.iinfo(k).max), None)
    if kind is None:
        raise InputError(
            f"found label values from {lowest} to {highest}; expected them to fit 32 bits; renumber", file=path
        )
    return array.astype(kind)
