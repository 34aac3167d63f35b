"""Deflated DICOM files, unpacked no further than their pixels and texts can reach.

All of such a file but its first elements is one packed stream, which pydicom unpacks as a whole, however much that becomes.

References:
    DICOM PS3.5, A.5: the deflated transfer syntax.
"""

import zlib
from collections.abc import Iterator
from io import BufferedReader, BytesIO, FileIO
from typing import Any

PIECE_BYTES = 1 << 16
"""Of the packed stream, that are unpacked at a time."""
HEAD_BYTES = 1 << 20
"""Of the unpacked stream, in which its size in pixels is looked for; it stands before all long elements but private ones."""
MOST_TEXT_BYTES = 1 << 26
"""Of the elements besides pixels that are never too many."""
MOST_TEXT_RATIO = 16
"""Bytes of text, such as the coordinates of contours, that a packed byte may become; digits become about three."""
MOST_RATIO = 1032
"""Bytes that a packed byte may become at most, says zlib's manual."""
IMAGE_PIXEL_GROUP = 0x0028
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
    """Check what a stream unpacks to, holding only a piece of it."""
    head, count = bytearray(), 0
    most = MOST_TEXT_BYTES + MOST_TEXT_RATIO * len(packed)
    allowed = most
    for piece in _pieces(packed):
        count += len(piece)
        if len(head) < HEAD_BYTES:
            head += piece
            announced = _pixel_bytes(bytes(head))
            # else a damaged number of frames would allow for whatever comes
            if announced > MOST_RATIO * len(packed):
                raise EOFError(f"{announced} bytes of pixels announced, {len(packed)} packed bytes are there")
            allowed = most + announced
        if count > allowed:
            raise EOFError(f"more than the {allowed} bytes that its pixels and texts may take are packed")


def _pieces(packed: bytes) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for start in range(0, len(packed), PIECE_BYTES):
        data = packed[start : start + PIECE_BYTES]
        while data and not inflater.eof:
            yield inflater.decompress(data, HEAD_BYTES)
            data = inflater.unconsumed_tail


def _pixel_bytes(head: bytes) -> int:
    """Return how many bytes of pixels the beginning of a data set announces; 0 where it says nothing of that."""
    from pydicom.filereader import read_dataset

    found: Any = read_dataset(
        BytesIO(head),
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _, __: tag >> 16 > IMAGE_PIXEL_GROUP,
        specific_tags=[0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100],
    )
    bits = int(found.get("NumberOfFrames") or 1)
    for name in PIXEL_FACTORS:
        bits *= int(found.get(name) or 1)
    return max(bits, 0) // 8
