"""Deflated DICOM files, unpacked and taken apart no further than their pixels and texts can reach.

All of such a file but its first elements is one packed stream, in which some kB may stand for any number of bytes, or of elements of
which each costs more than its bytes. pydicom would unpack it as a whole; here it reads from a stream that unpacks what is asked for, and
counts what is done with it.

References:
    DICOM PS3.5, A.5: the deflated transfer syntax; 7.5: sequences.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from io import BufferedReader, BytesIO, FileIO
from typing import TYPE_CHECKING, Any

from tumorseg.storage.damage import of_pydicom

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

PIECE_BYTES = 1 << 16
"""Of the packed stream, that are unpacked at a time."""
UNPACKED_BYTES = 1 << 20
"""That a piece becomes at most at a time."""
NOTHING = b"\x03\x00"
"""An empty stream, packed."""
MOST_TEXT_BYTES = 1 << 26
"""Of the elements besides pixels: the functional groups of 20,000 frames are 14 MB, private elements sometimes some more."""
MOST_RATIO = 1032
"""Bytes that a packed byte may become at most, says zlib's manual."""
MOST_STEPS = 3 << 18
"""In which a stream is taken apart, besides one for each packed byte, as contours have numbers by the million.

An element takes one to three, an item of a sequence four, each further value one; a step takes 5 µs and 300 bytes at most.
"""
STEPS_OF_AN_ENCODING = 8
"""For each way of encoding texts that a data set names."""
NUMBER_BYTES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "AT": 4, "FD": 8, "SV": 8, "UV": 8}
"""By the kinds of values that are numbers."""
MARK = "steps_of_unpacking"
"""The attribute of a data set on which its steps are counted."""
ENCODING_TAG = b"\x08\x00\x05\x00"
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Of pixels as numbers of 4 and 8 bytes, and as integers; a length of their group or the like may stand before them."""
PIXEL_FACTORS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")


class HeldBackReader(BufferedReader):
    """A DICOM file as pydicom reads it, to which its deflated part looks empty."""

    def __init__(self, path: str) -> None:
        """Open the file.

        Args:
            path: of it.

        Raises:
            OSError: it cannot be read.
        """
        super().__init__(FileIO(path))
        self.packed: bytes | None = None
        """What was held back; None in all other files."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return bytes; an empty stream in place of all that are left, which pydicom asks for only to unpack them."""
        data = super().read(size)
        if size is not None and size >= 0:
            return data
        self.packed = data
        return NOTHING


class _Steps:
    """The steps in which a file is taken apart, counted."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.num = 0

    def add(self, num: int) -> None:
        self.num += num
        self.check()

    def check(self) -> None:
        """Raise a ValueError if there were too many."""
        if self.num > self.most:
            raise ValueError(f"more elements, items or values are packed than {self.most} steps take apart")


class _CountedStream(BytesIO):
    """Bytes that pydicom parses: it reads one to three times an element, and reads three times and seeks once an item."""

    def __init__(self, steps: _Steps, data: bytes = b"") -> None:
        super().__init__(data)
        self._steps = steps
        self._header = b""
        """What was read last that may have been the head of an element."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._steps.add(1)
        return super().seek(offset, whence)

    def read(self, size: int | None = -1, /) -> bytes:
        # Hardly more than this for each of millions.
        steps = self._steps
        steps.num += 1
        if steps.num > steps.most:
            steps.check()
        data = BytesIO.read(self, size)
        if size == 8:
            self._header = data
        elif self._header.startswith(ENCODING_TAG):
            # Looked up at once, in each item anew.
            steps.add(STEPS_OF_AN_ENCODING * data.count(b"\\"))
        return data


class _PackedStream(_CountedStream):
    """A packed stream that is unpacked as far as it is read."""

    def __init__(self, steps: _Steps, packed: bytes) -> None:
        super().__init__(steps)
        self.most = MOST_TEXT_BYTES
        """Bytes that it may unpack to."""
        self._pieces = _unpack(packed)
        self._num_held = 0

    def read(self, size: int | None = -1, /) -> bytes:
        place = BytesIO.tell(self)
        end = None if size is None or size < 0 else place + size
        if end is None or end > self._num_held:
            self._unpack_to(end)
            BytesIO.seek(self, place)
        return super().read(size)

    def _unpack_to(self, end: int | None) -> None:
        BytesIO.seek(self, self._num_held)
        while end is None or self._num_held < end:
            # More is wanted: beyond the bound only where more than that is there.
            if self._num_held > self.most:
                raise ValueError(f"more than the {self.most} bytes that its pixels and texts may take are packed")
            piece = next(self._pieces, b"")
            if not piece:
                return
            self._num_held += self.write(piece)


def _unpack(packed: bytes) -> Iterator[bytes]:
    """Yield a stream in pieces, none of them empty."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for start in range(0, len(packed), PIECE_BYTES):
        data = packed[start : start + PIECE_BYTES]
        while data and not inflater.eof:
            if piece := inflater.decompress(data, UNPACKED_BYTES):
                yield piece
            data = inflater.unconsumed_tail
    if not inflater.eof:
        raise zlib.error("the packed stream was cut off")


def read_deflated(path: str, opened: Any, packed: bytes, *, has_pixels: bool, tags: Sequence[str] | None) -> Any:
    """Return a deflated file as a pydicom Dataset. To be called in `reading`.

    What pydicom leaves unparsed until it is asked for counts when it is: asking may raise a ValueError, too.

    Args:
        path: of the file.
        opened: what pydicom made of the file without its packed part.
        packed: that part.
        has_pixels: whether to read pixels and what follows them.
        tags: elements to read; None for all.

    Raises:
        ValueError: more is packed than its pixels and texts may take, or more elements than are worth their time.
        zlib.error: it is damaged; pydicom's own errors come through as well.
    """
    from pydicom.dataset import FileDataset

    _hook()
    steps = _Steps(MOST_STEPS + len(packed))
    try:
        parts = list(_read_parts(_PackedStream(steps, packed), steps, len(packed), has_pixels=has_pixels, tags=tags))
    except of_pydicom():
        # pydicom calls whatever happens at an item's head its own names.
        steps.check()
        raise
    elements = {tag: element for part in parts for tag, element in part.items()}
    dataset = FileDataset(path, elements, opened.preamble, opened.file_meta, is_implicit_VR=False)
    is_implicit, is_little = parts[0].original_encoding
    dataset.set_original_encoding(is_implicit, is_little, parts[0].original_character_set)
    setattr(dataset, MARK, steps)
    return dataset


def _read_parts(
    stream: _PackedStream, steps: _Steps, num_packed: int, *, has_pixels: bool, tags: Sequence[str] | None
) -> "Iterator[Dataset]":
    """Yield what stands before the pixels, then, if wanted, they and what follows them."""
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag

    lengths: list[int] = []

    def is_pixels(tag: int, _: str | None, length: int) -> bool:
        if tag in PIXEL_TAGS:
            lengths.append(length)
        return tag in PIXEL_TAGS

    wanted: list[BaseTag | int] | None = None if tags is None else [Tag(name) for name in tags]
    found = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=is_pixels, specific_tags=wanted)
    _mark([found], steps)
    yield found
    if not lengths or not has_pixels:
        return
    announced = _pixel_bytes(found)
    # else a damaged number of frames would allow for whatever comes
    if announced > MOST_RATIO * num_packed:
        raise ValueError(f"{announced} bytes of pixels announced, {num_packed} packed bytes are there")
    # One more makes an odd number of bytes even.
    stream.most += min(lengths[-1], announced + 1)
    rest = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, specific_tags=wanted)
    _mark([rest], steps)
    yield rest


def _mark(datasets: "Iterable[Dataset]", steps: _Steps) -> None:
    """Let what is left unparsed in data sets, and in the items of their sequences, be counted once it is parsed."""
    from pydicom.dataelem import DataElement

    left = list(datasets)
    while left:
        dataset = left.pop()
        setattr(dataset, MARK, steps)
        for element in dataset.values():
            # Parsed already are sequences of undefined length.
            if isinstance(element, DataElement) and element.VR == "SQ":
                left += element.value


@cache
def _hook() -> None:
    """Let pydicom call `_convert` for values that are asked for, in all files of the process; once."""
    from pydicom.hooks import hooks

    hooks.register_callback("raw_element_value", partial(_convert, hooks.raw_element_value))


def _convert(usual: Callable[..., None], raw: Any, data: dict[str, Any], **context: Any) -> None:
    """Convert a value as pydicom does, and count what that takes where its data set is marked.

    Args:
        usual: does so.
        raw: the unread element.
        data: its kind, and where its value is put.
        context: its data set (`ds`) and how its texts are encoded (`encoding`), if known.
    """
    steps = getattr(context.get("ds"), MARK, None)
    if steps is None or not raw.value:
        usual(raw, data, **context)
    elif data["VR"] == "SQ":
        data["value"] = _sequence(raw, context.get("encoding"), steps)
    else:
        steps.add(_num_values(str(data["VR"]), raw.value))
        usual(raw, data, **context)


def _sequence(raw: Any, encoding: Any, steps: _Steps) -> "Sequence[Dataset]":
    from pydicom.charset import default_encoding
    from pydicom.filereader import read_sequence

    stream = _CountedStream(steps, raw.value)
    form = raw.is_implicit_VR, raw.is_little_endian
    try:
        items = read_sequence(stream, *form, len(raw.value), encoding or [default_encoding], raw.value_tell)
    except of_pydicom():
        steps.check()
        raise
    _mark(items, steps)
    return items


def _num_values(kind: str, value: bytes) -> int:
    """Return about how many values an element is going to have."""
    width = NUMBER_BYTES.get(kind)
    if width is not None:
        return len(value) // width
    # What is no text is kept as it is.
    return 0 if kind == "UN" or kind.startswith("O") else value.count(b"\\")


def _pixel_bytes(found: "Dataset") -> int:
    """Return how many bytes of pixels a data set announces; 0 where it says nothing of that."""
    bits = int(found.get("NumberOfFrames") or 1)
    for name in PIXEL_FACTORS:
        bits *= int(found.get(name) or 1)
    return max(bits, 0) // 8
