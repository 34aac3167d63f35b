"""Changes of bytes, whatever they mean."""

import struct
from collections.abc import Callable
from random import Random

from benchmarks.fuzzing import hostile

Edit = Callable[[Random, bytes], bytes]
"""Changes a file's content; all that is random comes from the generator."""
WIDTHS = {1: "B", 2: "H", 4: "I", 8: "Q"}
MOST_COPIED = 4096


def flip_bits(rng: Random, data: bytes) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8) if changed else 0):
        changed[_position(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_bit(rng: Random, data: bytes) -> bytes:
    """Flip a single bit."""
    changed = bytearray(data)
    if changed:
        changed[_position(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def change_bytes(rng: Random, data: bytes) -> bytes:
    """Replace a few bytes by others."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 16) if changed else 0):
        changed[_position(rng, data)] = rng.choice((0, 255, 32, 10, rng.randrange(256)))
    return bytes(changed)


def set_number(rng: Random, data: bytes) -> bytes:
    """Write a number at the edge of its type somewhere, in either byte order."""
    width = rng.choice(tuple(WIDTHS))
    start = _position(rng, data)
    number = hostile.integer(rng) % 2 ** (8 * width)
    written = struct.pack(rng.choice("<>") + WIDTHS[width], number)
    return data[:start] + written + data[start + width :]


def cut_off(rng: Random, data: bytes) -> bytes:
    """Keep a beginning."""
    return data[: _position(rng, data)]


def cut_out(rng: Random, data: bytes) -> bytes:
    """Remove a part."""
    start, end = _part(rng, data)
    return data[:start] + data[end:]


def insert(rng: Random, data: bytes) -> bytes:
    """Insert bytes that are random, or all the same."""
    start, count = _position(rng, data), rng.choice((1, 2, 3, 4, 8, 64, 1000))
    added = rng.randbytes(count) if rng.random() < 0.5 else bytes([rng.choice((0, 255, 65))]) * count
    return data[:start] + added + data[start:]


def repeat(rng: Random, data: bytes) -> bytes:
    """Repeat a part right behind itself."""
    start, end = _part(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 20)) + data[end:]


def splice(rng: Random, data: bytes) -> bytes:
    """Write a part over another one."""
    start, end = _part(rng, data)
    target = _position(rng, data)
    return data[:target] + data[start:end] + data[target + end - start :]


def empty(_: Random, data: bytes) -> bytes:
    """Leave nothing."""
    return data[:0]


def _position(rng: Random, data: bytes) -> int:
    """Return a place, every other time near the beginning, where headers are."""
    if not data:
        return 0
    most = min(len(data), 400) if rng.random() < 0.5 else len(data)
    return rng.randrange(most)


def _part(rng: Random, data: bytes) -> tuple[int, int]:
    start = _position(rng, data)
    return start, min(len(data), start + rng.randint(1, rng.choice((4, 32, MOST_COPIED))))


PLAIN: tuple[Edit, ...] = (
    flip_bit,
    flip_bits,
    change_bytes,
    set_number,
    set_number,
    cut_off,
    cut_out,
    insert,
    repeat,
    splice,
)
RARE: tuple[Edit, ...] = (empty,)


def some_edit(rng: Random, data: bytes) -> bytes:
    """Change bytes in one of all ways."""
    return rng.choice(RARE if rng.random() < 0.01 else PLAIN)(rng, data)
