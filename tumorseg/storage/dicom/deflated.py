"""Deflated DICOM files, unpacked no further than their pixels and texts can reach.

All of such a file but its first elements is one packed stream, which pydicom unpacks as a whole, however much that becomes.

References:
    DICOM PS3.5, A.5: the deflated transfer syntax.
"""

import itertools
import zlib
from collections.abc import Iterator
from io import BufferedReader, BytesIO, FileIO
from typing import Any

PIECE_BYTES = 1 << 16
"""Of the packed stream, that are unpacked at a time."""
UNPACKED_BYTES = 1 << 20
"""That a piece becomes at most at a time."""
MOST_TEXT_BYTES = 1 << 21
"""Of the elements besides pixels that are never too many."""
MOST_TEXT_RATIO = 16
"""Bytes of these that a packed byte may become: coordinates of contours become about three, the functional groups of many frames ten."""
MOST_RATIO = 1032
"""Bytes that a packed byte may become at most, says zlib's manual."""
MOST_ELEMENTS = 1 << 16
"""Outside sequences."""
PIXEL_GROUP = 0x7FE0
PIXEL_FACTORS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")


class BoundedReader(BufferedReader):
    """A DICOM file as pydicom reads it, whose deflated part is measured before pydicom unpacks it."""

    def __init__(self, path: str) -> None:
        """Open the file.

        Args:
            path: of it.

        Raises:
            OSError: it cannot be read.
        """
        super().__init__(FileIO(path))

    def read(self, size: int | None = -1, /) -> bytes:
        """Return bytes; all that are left only where they do not unpack to more than they announce.

        Raises:
            EOFError: they would.
            zlib.error: they are damaged.
        """
        data = super().read(size)
        # pydicom asks for all that is left nowhere but where it is going to unpack it
        if size is None or size < 0:
            _check_unpacked(data)
        return data


def _check_unpacked(packed: bytes) -> None:
    """Check what a stream unpacks to, holding no more of it than its texts may take."""
    most = MOST_TEXT_BYTES + MOST_TEXT_RATIO * len(packed)
    pieces, head = _pieces(packed), bytearray()
    for piece in pieces:
        head += piece
        if len(head) > most:
            break
    else:
        return
    allowed, count = most + _pixels_end(bytes(head[:most]), len(packed)), len(head)
    for piece in pieces:
        count += len(piece)
        if count > allowed:
            raise EOFError(f"more than the {allowed} bytes that its pixels and texts may take are packed")


def _pieces(packed: bytes) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for start in range(0, len(packed), PIECE_BYTES):
        data = packed[start : start + PIECE_BYTES]
        while data and not inflater.eof:
            yield inflater.decompress(data, UNPACKED_BYTES)
            data = inflater.unconsumed_tail


def _pixels_end(head: bytes, num_packed: int) -> int:
    """Return where the pixels of a data set end, by their length and as many as it announces.

    Args:
        head: its beginning, as long as its texts may be.
        num_packed: bytes of all of it.

    Raises:
        EOFError: no pixels begin in there, or more are announced than can be packed.
    """
    from pydicom.filereader import read_dataset

    lengths: list[int] = []
    passed = itertools.count()

    def is_pixels(tag: int, _: str | None, length: int) -> bool:
        # Tiny ones by the million take minutes and gigabytes.
        if next(passed) > MOST_ELEMENTS:
            raise ValueError(f"more than {MOST_ELEMENTS} elements are packed")  # pydicom keeps an EOFError to itself
        if tag >> 16 == PIXEL_GROUP:
            lengths.append(length)
        return bool(lengths)

    stream = BytesIO(head)
    # As pydicom reads it, with all that sequences hold; the element at which it stops is not read.
    found = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=is_pixels)
    if not lengths:
        raise EOFError(f"more than the {len(head)} bytes that its texts may take are packed")
    announced = _pixel_bytes(found)
    if announced > MOST_RATIO * num_packed:
        raise EOFError(f"{announced} bytes of pixels announced, {num_packed} packed bytes are there")
    # One more makes an odd number of bytes even.
    return stream.tell() + min(lengths[0], announced + 1)


def _pixel_bytes(found: Any) -> int:
    """Return how many bytes of pixels a data set announces; 0 where it says nothing of that."""
    bits = int(found.get("NumberOfFrames") or 1)
    for name in PIXEL_FACTORS:
        bits *= int(found.get(name) or 1)
    return max(bits, 0) // 8
