"""Parts of blosc2 frames, unpacked while other threads go on.

The package's own binding keeps the interpreter to itself while it unpacks (seen in 4.14): a thread that reads a patch of 128^3 voxels
and four channels would stop the one that takes the training's steps for a fifth of a second, and no two would ever unpack at
once. So the C library that comes with the package is called by its own name, for which the interpreter is left to others; where it
does not come along, the binding does it.

A frame is data and nothing else: `blosc2.open`, which before 4.14.1 followed what a frame said of other files and addresses, and
evaluated stored expressions, is never called, and a frame with notes of that kind is refused.
"""

import ctypes
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_KNOWN = 8192
"""Frames whose kind is remembered, a few hundred bytes each."""
ARRAY_NOTE = "b2nd"
"""The one note of a frame that holds an array alone."""
_LOADING = Lock()


class FrameKind(NamedTuple):
    """What a frame holds."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def frame_kind(path: Path) -> FrameKind:
    """Return what a frame holds, without unpacking any of it; remembered while the file does not change.

    Raises:
        Exception: of a type that `damage.of_blosc2` lists: the frame is damaged, cannot be read, or holds more than an array of numbers.
    """
    found = path.stat()
    return _kind(path, (found.st_size, found.st_mtime_ns, found.st_ino))


def read_frame(path: Path, index: int | tuple[slice, ...]) -> NDArray[Any]:
    """Return a part of the array in a file.

    Args:
        path: a contiguous frame, which is never written to.
        index: of the part: the number of a row, or a slice without a step for each axis.

    Raises:
        Exception: as from `frame_kind`.
    """
    kind = frame_kind(path)
    if isinstance(index, int):
        if not 0 <= index < kind.shape[0]:
            raise ValueError(f"found {kind.shape[0]} rows, expected more than {index}")
        rows = (slice(index, index + 1), *(slice(None) for _ in kind.shape[1:]))
        return _read(path, rows, kind)[0]  # type: ignore[no-any-return]  # numpy: an array of one axis less
    return _read(path, index, kind)


def _read(path: Path, index: tuple[slice, ...], kind: FrameKind) -> NDArray[Any]:
    with _LOADING:
        library = _library()
    if library is None:
        found: NDArray[Any] = _opened(path)[index]
        return found
    bounds = [part.indices(size) for part, size in zip(index, kind.shape, strict=True)]
    starts, stops = [start for start, _, _ in bounds], [stop for _, stop, _ in bounds]
    part = np.empty([stop - start for start, stop in zip(starts, stops, strict=True)], kind.dtype)
    # The library takes an empty part for a mistake.
    if part.size:
        _unpack(library, np.memmap(path, np.uint8, "r"), part, (starts, stops))
    return part


def _opened(path: Path) -> Any:
    import blosc2

    frame = blosc2.ndarray_from_cframe(np.memmap(path, np.uint8, "r"))
    # Cases and patches are already spread over threads and processes.
    frame.schunk.dparams = blosc2.DParams(nthreads=1)
    return frame


@lru_cache(MOST_KNOWN)
def _kind(path: Path, stamp: tuple[int, int, int]) -> FrameKind:
    frame = _opened(path)
    # Proxies, lazy expressions and remote arrays have a second note, and would be taken for arrays of zeros.
    if notes := sorted(set(frame.schunk.meta) - {ARRAY_NOTE}):
        raise ValueError(f"holds more than an array ({', '.join(map(ascii, notes))})")
    kind = FrameKind(tuple(frame.shape), frame.dtype)
    # Bytes of any other type could stand for objects of Python, and of another size would be left as they were in memory.
    if kind.dtype.kind not in "iuf" or kind.dtype.itemsize != frame.schunk.typesize:
        raise ValueError(f"holds {kind.dtype!s} in elements of {frame.schunk.typesize} bytes, not numbers")
    if (claimed := _padded_bytes(frame)) != frame.schunk.nbytes:
        raise ValueError(f"its chunks hold {frame.schunk.nbytes} bytes, not the {claimed} of its shape")
    return kind


def _padded_bytes(frame: Any) -> int:
    """Return what the chunks of a frame take unpacked: as many as its shape needs, each filled up to whole blocks."""
    size = int(frame.schunk.typesize)
    for extent, chunk, block in zip(frame.shape, frame.chunks, frame.blocks, strict=True):
        size *= -(-extent // max(chunk, 1)) * -(-chunk // max(block, 1)) * block
    return size


@cache
def _library() -> ctypes.CDLL | None:
    """Return the C library of the installed package; None if it did not come along."""
    import blosc2

    path = Path(blosc2.__file__).parent / "lib" / "libblosc2.so"
    try:
        library = ctypes.CDLL(str(path))
        library.b2nd_from_cframe.argtypes = (
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_bool,
            ctypes.POINTER(ctypes.c_void_p),
        )
        library.b2nd_get_slice_cbuffer.argtypes = (
            *(ctypes.c_void_p,) * 5,
            ctypes.c_int64,
        )
        library.b2nd_free.argtypes = (ctypes.c_void_p,)
        library.blosc2_init()
    except (OSError, AttributeError):
        return None
    return library


def _unpack(
    library: ctypes.CDLL, frame: NDArray[np.uint8], part: NDArray[Any], bounds: tuple[list[int], list[int]]
) -> None:
    """Fill an array with the part of a frame between bounds."""
    array = ctypes.c_void_p()
    # Not copied: only what is unpacked is read from the disk.
    _check(library.b2nd_from_cframe(frame.ctypes.data, frame.size, False, ctypes.byref(array)))
    starts, stops, shape = (np.array(numbers, np.int64) for numbers in (*bounds, part.shape))
    pointers = (one.ctypes.data for one in (starts, stops, part, shape))
    try:
        _check(library.b2nd_get_slice_cbuffer(array, *pointers, part.nbytes))
    finally:
        library.b2nd_free(array)


def _check(code: int) -> None:
    """Raise what the binding raises, if the library reports an error."""
    if code < 0:
        raise RuntimeError(f"blosc2 reports error {code}")
