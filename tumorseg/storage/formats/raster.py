"""Flat pictures by way of Pillow: PNG, TIFF, JPEG.

They know no world: a pixel is taken for 1 mm, its column for x, its row for y. Bands are channels. The indices of a palette are labels,
as Pascal VOC has them, and no intensities. A picture whose EXIF says that it
is to be turned is turned, as viewers and the tools that masks are drawn with do.

References:
    The Exif standard (CIPA DC-008), tag 274, Orientation.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.storage.damage import of_pillow
from tumorseg.storage.formats.library_logs import divert, hearing_library, muting_libtiff, remark
from tumorseg.storage.formats.stored import Geometry, Stored, damaged

KIND = "a picture"
ENDINGS = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
"""How a file's name may end."""
FORMATS = ("PNG", "TIFF", "JPEG", "BMP", "PPM", "GIF")
"""What is read under such a name. Not all that Pillow knows: for EPS it starts another program."""
PALETTE = "P"
MODES = ("1", "L", "I", "I;16", "I;16B", "F", "RGB", PALETTE)
"""Pillow's kinds of pixels that are numbers; of a palette's these are the indices. A transparent picture's would have to be guessed."""
ORIENTATION = 274
"""The EXIF tag."""
TURNED = (5, 6, 7, 8)
"""Orientations of which rows become columns."""
PIXELS_OF_A_BYTE = 8 * 1032
"""As many as one byte of a PNG can stand for: deflate packs 1,032 bytes into one, and pixels of one bit fill each."""
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
"""Chunks in which an orientation may stand."""


def open_raster(path: str) -> Stored:
    """Read and check the header.

    Raises:
        InputError: the file is damaged, has several pages, or pixels that are no plain numbers.
    """
    with _opened(path) as (picture, heard):
        (width, height), mode, pages = picture.size, picture.mode, getattr(picture, "n_frames", 1)
        bands, is_deep = len(picture.getbands()), _is_deep(picture)
        num_pixels, is_png = width * height, picture.format == "PNG"
        # Pillow tells a TIFF's size as turned already
        if picture.format != "TIFF" and _orientation(picture, path) in TURNED:
            width, height = height, width
    size = Path(path).stat().st_size
    # Other formats may be packed in ways that know no such limit; there Pillow's own is left.
    if is_png and num_pixels > PIXELS_OF_A_BYTE * size:
        raise damaged(path, KIND, f"{size} bytes cannot hold {num_pixels} pixels")
    if pages > 1:
        raise InputError(f"found {pages} pages, expected one; split the file, or write it as NIfTI", file=path)
    if mode not in MODES:
        raise InputError(f"found pixels of kind {mode}, expected grey or RGB; convert the picture", file=path)
    if is_deep:
        raise InputError(
            "found RGB of 16 bits a band, of which 8 would be lost; expected 8; write it as NIfTI", file=path
        )
    not_image = "found a palette, expected grey or RGB; write the image in either" if mode == PALETTE else None
    return Stored(
        path,
        Geometry((1, height, width), np.eye(4), bands),
        (1.0, 0.0),
        lambda indices: _read_bands(path, indices),
        remarks=(remark("Pillow", heard),) if heard else (),
        not_image=not_image,
    )


def _read_bands(path: str, indices: Sequence[int]) -> list[NDArray[Any]]:
    from PIL import ImageOps

    with _opened(path) as (picture, _):
        array = np.asarray(ImageOps.exif_transpose(picture))
    bands = array[None, :, :, None] if array.ndim == 2 else array[None]
    return [np.ascontiguousarray(bands[..., index]) for index in indices]


@contextmanager
def _opened(path: str) -> Iterator[tuple[Any, list[str]]]:
    """Open a picture; what Pillow says of it is kept, what it raises names the file."""
    from PIL import Image, TiffImagePlugin, UnidentifiedImageError, _imaging

    divert(TiffImagePlugin.__name__)
    try:
        # given a name instead of a stream, Pillow maps an unpacked TIFF with rows for columns where it is to be turned
        with (
            hearing_library() as heard,
            muting_libtiff(_imaging.__file__),
            Path(path).open("rb") as file,
            Image.open(file, formats=FORMATS) as picture,
        ):
            yield picture, heard
    except UnidentifiedImageError:
        raise damaged(path, KIND, f"none of {', '.join(FORMATS)} is found in it") from None
    except Image.DecompressionBombError:
        # Pillow warns of more than its limit, and refuses more than twice that.
        most = f"{2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000} million"
        raise InputError(
            f"found more than {most} pixels; expected fewer; cut the picture into parts", file=path
        ) from None
    except of_pillow() as error:
        raise damaged(path, KIND, error) from None


def _orientation(picture: Any, path: str) -> int:
    """Return how a picture is to be turned; 1 for not at all."""
    if picture.format == "PNG" and not _has_notes(path):
        return 1  # Pillow would unpack all pixels to find that out
    return int(picture.getexif().get(ORIENTATION, 1))


def _has_notes(path: str) -> bool:
    """Tell whether a PNG has anything in which an orientation may stand."""
    with Path(path).open("rb") as file:
        return file.read(len(PNG_MAGIC)) == PNG_MAGIC and any(name in PNG_NOTES for name in _chunks(file))


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the names of a PNG's chunks, behind its first bytes."""
    while len(head := file.read(8)) == 8:
        yield head[4:]
        file.seek(int.from_bytes(head[:4], "big") + 4, 1)  # its checksum too


def _is_deep(picture: Any) -> bool:
    """Tell whether Pillow would halve the bits of a colour picture."""
    arguments = [str(tile[3]) for tile in picture.tile]
    return picture.mode == "RGB" and any(";16" in argument for argument in arguments)
