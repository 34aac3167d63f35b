"""Changes of binary headers that know where a field lies: NIfTI, DICOM, TIFF, PNG."""

import struct
import zlib
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from benchmarks.fuzzing import hostile
from benchmarks.fuzzing.byte_edits import some_edit

NIFTI_FIELDS = (
    (0, "i", 1),
    (40, "h", 8),
    (68, "h", 1),
    (70, "h", 1),
    (72, "h", 1),
    (76, "f", 8),
    (108, "f", 1),
    (112, "f", 1),
    (116, "f", 1),
    (123, "B", 1),
    (252, "h", 1),
    (254, "h", 1),
    (256, "f", 6),
    (280, "f", 12),
    (344, "I", 1),
    (348, "I", 1),
)
"""Where the fields of a NIfTI-1 header lie, of what type, and how many."""
SEQUENCE_TAGS = {(0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)}
LONG_KINDS = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UT", b"UN", b"UC", b"UR"}
NUMBER_KINDS = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d"}


class Element(NamedTuple):
    """Where an element of DICOM lies."""

    start: int
    kind: bytes
    value: int
    """Where its value begins."""
    length: int


def edit_nifti(rng: Random, data: bytes) -> bytes:
    """Write a number at the edge of its type into one or two fields."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2))):
        start, kind, count = rng.choice(NIFTI_FIELDS)
        start += rng.randrange(count) * struct.calcsize(kind)
        number = _packed(rng, kind, "<")
        if start + len(number) <= len(changed):
            changed[start : start + len(number)] = number
    return bytes(changed)


def _packed(rng: Random, kind: str, order: str) -> bytes:
    if kind in "fd":
        number = rng.choice((*hostile.REALS, rng.uniform(-10, 1000)))
        return struct.pack(
            order + kind, min(max(number, -3.4e38), 3.4e38) if abs(number) < 1e309 and kind == "f" else number
        )
    size = struct.calcsize(kind)
    return (hostile.integer(rng) % 2 ** (8 * size)).to_bytes(size, "little" if order == "<" else "big")


def elements_of(data: bytes) -> Iterator[Element]:
    """Yield the elements of a file in explicit VR little endian, those in sequences among them, as far as it can be followed."""
    position = 132
    while position + 8 <= len(data):
        tag = struct.unpack_from("<HH", data, position)
        if tag in SEQUENCE_TAGS:
            position += 8
            continue
        kind = data[position + 4 : position + 6]
        is_long = kind in LONG_KINDS
        if is_long and position + 12 > len(data):
            return
        length = struct.unpack_from("<I" if is_long else "<H", data, position + (8 if is_long else 6))[0]
        value = position + (12 if is_long else 8)
        yield Element(position, kind, value, length)
        # What is inside a sequence, or in items of unknown length, follows.
        position = value if kind == b"SQ" or length == 0xFFFFFFFF else value + length


def edit_dicom(rng: Random, data: bytes) -> bytes:
    """Change value, length or kind of one element, or remove or repeat it."""
    if data[128:132] != b"DICM" or not (found := list(elements_of(data))):
        return some_edit(rng, data)
    one = rng.choice(found)
    change = rng.choice(("value", "value", "value", "value", "length", "kind", "remove", "repeat"))
    end = one.value + (one.length if one.length < 0xFFFFFFFF else 0)
    if change == "value":
        return _with_value(rng, data, one)
    if change == "remove":
        return data[: one.start] + data[end:]
    if change == "repeat":
        return data[:end] + data[one.start : end] + data[end:]
    if change == "kind":
        return (
            data[: one.start + 4]
            + rng.choice(tuple(LONG_KINDS | NUMBER_KINDS.keys() | {b"DS", b"IS", b"??"}))
            + data[one.start + 6 :]
        )
    width = 4 if one.value - one.start == 12 else 2
    length = (hostile.integer(rng) % 2 ** (8 * width)).to_bytes(width, "little")
    return data[: one.value - width] + length + data[one.value :]


def _with_value(rng: Random, data: bytes, one: Element) -> bytes:
    """Put another value into an element, its length stated rightly where it is not part of a sequence."""
    end = one.value + (one.length if one.length < 0xFFFFFFFF else 0)
    if one.kind in NUMBER_KINDS:
        value = _packed(rng, NUMBER_KINDS[one.kind], "<")
    elif one.kind in {b"DS", b"IS"}:
        count = data[one.value : end].count(b"\\") + rng.choice((0, 0, 0, 1, -1))
        value = b"\\".join(rng.choice((rng.choice(hostile.NUMBERS)[:16], "1")).encode() for _ in range(count + 1))
    elif one.kind in LONG_KINDS:
        return data[: one.value] + some_edit(rng, data[one.value :])
    else:
        value = hostile.text(rng).encode()[:200]
    value += b" " * (len(value) % 2)
    if rng.random() < 0.5 or len(value) >= 65536:
        value = value[: one.length].ljust(one.length, b" ")
        return data[: one.value] + value + data[end:]
    return data[: one.value - 2] + len(value).to_bytes(2, "little") + value + data[end:]


def edit_tiff(rng: Random, data: bytes) -> bytes:
    """Change an entry of a TIFF's first directory."""
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack_from(order + "I", data, 4)[0]
    entry = start + 2 + 12 * rng.randrange(struct.unpack_from(order + "H", data, start)[0])
    offset, kind = rng.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "I"), (8, "H")))
    number = _packed(rng, kind, order)
    return data[: entry + offset] + number + data[entry + offset + len(number) :]


def edit_png(rng: Random, data: bytes) -> bytes:
    """Change the content of a chunk, or which chunks there are; all have the checksum of what they hold."""
    chunks, position = [], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    number = rng.randrange(len(chunks))
    kind, content = chunks[number]
    if (chance := rng.random()) < 0.4 and kind == b"IDAT":
        content = zlib.compress(some_edit(rng, zlib.decompress(content)))
    elif chance < 0.8:
        content = _set_big(rng, content) if rng.random() < 0.5 else some_edit(rng, content)
    else:
        chunks.insert(
            rng.randrange(len(chunks)), rng.choice(((b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7))), (kind, content)))
        )
    chunks[number] = kind, content
    return data[:8] + b"".join(map(_png_chunk, chunks))


def _set_big(rng: Random, content: bytes) -> bytes:
    start = rng.randrange(0, max(1, len(content) - 3), 1)
    return content[:start] + _packed(rng, "I", ">") + content[start + 4 :]


def _png_chunk(chunk: tuple[bytes, bytes]) -> bytes:
    kind, content = chunk
    checksum = zlib.crc32(kind + content)
    return len(content).to_bytes(4, "big") + kind + content + checksum.to_bytes(4, "big")
