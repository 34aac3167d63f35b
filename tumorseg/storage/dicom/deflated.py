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
MOST_TEXT_BYTES = 1 << 22
"""Of the elements besides pixels that are never too many."""
MOST_TEXT_RATIO = 16
"""Bytes of text, such as the coordinates of contours, that a packed byte may become; digits become about three."""
MOST_SHORT_BYTES = 1 << 21
"""Of elements outside long values that are never too many."""
MOST_SHORT_RATIO = 8
"""Bytes of these that a packed byte may become."""
LONG_BYTES = 1 << 12
"""From so many bytes on a value is long."""
ELEMENT_BYTES = 12
"""Of the longest header of an element: tag, kind and length of its value."""
LONG_KINDS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Kinds of values whose length takes 4 bytes."""
ITEM_GROUP = b"\xfe\xff"
"""Begins the tags of a sequence's items, and of their ends, which have no kind."""
UNDEFINED = 0xFFFFFFFF
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
    found = _Walk()
    most = MOST_TEXT_BYTES + MOST_TEXT_RATIO * len(packed)
    # Tiny elements by the million would fit in there, and take minutes and gigabytes to be parsed.
    most_short = MOST_SHORT_BYTES + MOST_SHORT_RATIO * len(packed)
    announced: int | None = None
    for piece, is_last in _pieces(packed):
        found.take(piece)
        if announced is None and (is_last or len(found.head) >= HEAD_BYTES):
            announced = _pixel_bytes(bytes(found.head))
            # else a damaged number of frames would allow for whatever comes
            if announced > MOST_RATIO * len(packed):
                raise EOFError(f"{announced} bytes of pixels announced, {len(packed)} packed bytes are there")
        if found.num_bytes > most + (announced or 0):
            raise EOFError(
                f"more than the {most + (announced or 0)} bytes that its pixels and texts may take are packed"
            )
        if found.num_short_bytes > most_short:
            raise EOFError(f"more than {most_short} bytes of short elements are packed")


class _Walk:
    """A walk over the elements of a stream, which tells values that are long, and cost little, from all else."""

    def __init__(self) -> None:
        self.head = bytearray()
        """Its first bytes."""
        self.num_bytes = 0
        self.num_short_bytes = 0
        """Outside long values."""
        self._rest = b""
        """Of the last piece, in which no element begins."""
        self._left = 0
        """Bytes of a value that are still to come."""

    def take(self, piece: bytes) -> None:
        """Go on over the next bytes."""
        self.num_bytes += len(piece)
        if len(self.head) < HEAD_BYTES:
            self.head += piece
        data = self._rest + piece
        place = min(self._left, len(data))
        self._left -= place
        while len(data) - place >= ELEMENT_BYTES:
            header, value = _element(data, place)
            self.num_short_bytes += header if value >= LONG_BYTES else header + value
            place += header + value
        self._left += max(place - len(data), 0)
        self._rest = data[place:]


def _element(data: bytes, place: int) -> tuple[int, int]:
    """Return the bytes of the header of the element that begins at a place, and of its value; 0 where others lie in that.

    Bytes that begin no element are headers.
    """
    kind = data[place + 4 : place + 6]
    if data[place : place + 2] == ITEM_GROUP or kind == b"SQ":
        return (8 if kind != b"SQ" else 12), 0
    if kind in LONG_KINDS:
        length = int.from_bytes(data[place + 8 : place + 12], "little")
        return 12, 0 if length == UNDEFINED else length
    return 8, int.from_bytes(data[place + 6 : place + 8], "little") if kind.isalpha() else 0


def _pieces(packed: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield what a stream unpacks to, piece by piece, and whether it is the last."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for start in range(0, len(packed), PIECE_BYTES):
        data = packed[start : start + PIECE_BYTES]
        while data and not inflater.eof:
            piece = inflater.decompress(data, HEAD_BYTES)
            data = inflater.unconsumed_tail
            yield piece, inflater.eof or (not data and start + PIECE_BYTES >= len(packed))


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
