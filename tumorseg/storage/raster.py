"""Flat pictures by way of Pillow: PNG, TIFF, JPEG.

They know no world: a pixel is taken for 1 mm, its column for x, its row for y. Bands are channels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.storage.stored import Geometry, Stored, damaged

KIND = "a picture"
ENDINGS = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
"""How a file's name may end."""
MODES = ("1", "L", "I", "I;16", "I;16B", "F", "RGB")
"""Pillow's kinds of pixels that are numbers; a palette's or a transparent picture's would have to be guessed."""


def open_raster(path: str) -> Stored:
    """Read and check the header.

    Raises:
        InputError: the file is damaged, has several pages, or pixels that are no plain numbers.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            (width, height), mode, pages = picture.size, picture.mode, getattr(picture, "n_frames", 1)
            bands = len(picture.getbands())
    except (OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
        raise damaged(path, KIND, error) from None
    if pages > 1:
        raise InputError(f"{path}: found {pages} pages, expected one; split the file, or write it as NIfTI")
    if mode not in MODES:
        raise InputError(f"{path}: found pixels of kind {mode}, expected grey or RGB; convert the picture")
    return Stored(
        path, Geometry((1, height, width), np.eye(4), bands), (1.0, 0.0), lambda indices: _read_bands(path, indices)
    )


def _read_bands(path: str, indices: Sequence[int]) -> list[NDArray[Any]]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            array = np.asarray(picture)
    except (OSError, ValueError, TypeError, SyntaxError) as error:
        raise damaged(path, KIND, error) from None
    bands = array[None, :, :, None] if array.ndim == 2 else array[None]
    return [np.ascontiguousarray(bands[..., index]) for index in indices]
