"""Voxels on their way into files: slab by slab, packed as they come, so that no second copy of a volume is made.

No time goes into a packed stream, so that the same voxels give the same bytes.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

SLAB_BYTES = 1 << 22
"""Of the slabs that an array is cut into; far more than a call costs, far less than a volume takes."""
LEVEL = 6
"""zlib's own default, which leaves label maps small."""
QUICK_LEVEL = 2
"""Of ISA-L, for noisy maps: ten times as fast as zlib's sixth, for files that are 3 % larger."""
GZIP, ZLIB = 31, 15
"""What zlib calls the two wrappings of a packed stream: gzip's, with a checksum of the whole, and its own."""


def slabs(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield an array in parts along its first axis, each contiguous in memory.

    Args:
        array: (Z, ...), a view as well; one without voxels has no parts.
    """
    step = max(1, SLAB_BYTES * len(array) // max(array.nbytes, 1))
    for start in range(0, len(array), step):
        yield np.ascontiguousarray(array[start : start + step])


def packed(parts: Iterable[NDArray[Any]], wrapping: int = GZIP) -> Iterator[bytes]:
    """Yield parts as one packed stream, small and the same on every machine.

    Args:
        parts: contiguous arrays, of any dtype.
        wrapping: `GZIP` or `ZLIB`.
    """
    yield from _packed(parts, zlib.compressobj(LEVEL, wbits=wrapping))


def quickly_packed(parts: Iterable[NDArray[Any]]) -> Iterator[bytes]:
    """Yield parts as one gzip stream, as fast as a disk takes it; other processors may pack the same voxels otherwise.

    Args:
        parts: contiguous arrays, of any dtype.
    """
    yield from _packed(parts, isal_zlib.compressobj(QUICK_LEVEL, wbits=GZIP))


def plain(parts: Iterable[NDArray[Any]]) -> Iterator[bytes | memoryview]:
    """Yield parts as they are.

    Args:
        parts: contiguous arrays, of any dtype.
    """
    for part in parts:
        yield part.reshape(-1).view(np.uint8).data


def _packed(parts: Iterable[NDArray[Any]], packer: Any) -> Iterator[bytes]:
    for part in plain(parts):
        # a packer keeps what it has not yet written, and then hands on nothing
        if data := packer.compress(part):
            yield data
    yield packer.flush()
