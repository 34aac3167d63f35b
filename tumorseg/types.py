"""Array aliases in the words of the field.

Axes are written B (batch), C (channel), K (class), then Z, Y, X.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
"""Intensities (C, Z, Y, X), float32."""

Segmentation = NDArray[np.integer[Any]]
"""Label map (Z, Y, X), integer."""

Mask = NDArray[np.bool_]
"""One structure (Z, Y, X), bool."""

Affine = NDArray[np.float64]
"""(4, 4): maps (x, y, z, 1), the reverse of array order, to RAS+ millimetres."""

FloatArray = NDArray[np.floating[Any]]
"""Any floating-point array."""

Box = tuple[tuple[int, int], ...]
"""One half-open interval (lower, upper) in voxels per axis."""

Json = dict[str, Any] | list[Any] | str | int | float | bool | None
"""A value that JSON can hold."""

Shape = Sequence[int]
Spacing = Sequence[float]
