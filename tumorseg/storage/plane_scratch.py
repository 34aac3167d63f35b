"""Planes of many volumes on disk, while they are made slice by slice, until each volume is asked for.

A slice brings a plane for every volume, but a file wants one volume after the other, along axes that may be other ones.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from tumorseg.storage.atomic import storage_error

QUICKEST = 0
"""ISA-L's level that takes least time: most planes of most classes are nearly empty."""

Window = tuple[slice, slice]
"""Rows and columns."""


class _Kept(NamedTuple):
    """Where a packed plane lies in the file."""

    start: int
    num_bytes: int


class _Slice(NamedTuple):
    """Planes of one slice; None for those that hold nothing but zeros."""

    window: Window
    shape: tuple[int, int]
    planes: tuple[_Kept | None, ...]


class PlaneScratch:
    """Slices in a file without a name, which the system itself forgets, even if the process is killed."""

    def __init__(self, folder: Path, shape: Sequence[int]) -> None:
        """Open a file.

        Args:
            folder: on the disk that has room for it; must be there.
            shape: (Z, Y, X) of each volume.

        Raises:
            StorageError: files cannot be written there.
        """
        self._folder, self._shape = folder, tuple(shape)
        self._slices: dict[int, _Slice] = {}
        try:
            # Unbuffered, so that a full disk is told when a slice comes, not when the file is closed, which `close` does.
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise storage_error(folder, error) from error

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the disk space back."""
        self.close()

    def add(self, position: int, window: Window, planes: NDArray[np.uint16]) -> None:
        """Keep a slice; one that came before at the same position counts no longer.

        Args:
            position: along the first axis.
            window: rows and columns that the planes cover.
            planes: (K, rows, columns), one for each volume.

        Raises:
            StorageError: the disk is full.
        """
        kept = tuple(self._keep(plane) for plane in planes)
        self._slices[position] = _Slice(window, (planes.shape[1], planes.shape[2]), kept)

    def volume(self, number: int, outside: int) -> NDArray[np.uint16]:
        """Return one volume (Z, Y, X), the only one in memory.

        Args:
            number: which plane of each slice.
            outside: value of voxels that no slice covers.

        Raises:
            StorageError: the file cannot be read.
        """
        volume = np.full(self._shape, outside, np.uint16)
        for position, found in self._slices.items():
            volume[(position, *found.window)] = self._read(found, number)
        return volume

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def _keep(self, plane: NDArray[np.uint16]) -> _Kept | None:
        if not plane.any():
            return None
        data = isal_zlib.compress(np.ascontiguousarray(plane), QUICKEST)
        try:
            start = self._file.seek(0, os.SEEK_END)
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise storage_error(self._folder, error) from error
        return _Kept(start, len(data))

    def _read(self, found: _Slice, number: int) -> NDArray[np.uint16]:
        kept = found.planes[number]
        if kept is None:
            return np.zeros(found.shape, np.uint16)
        try:
            self._file.seek(kept.start)
            data = self._file.read(kept.num_bytes)
        except OSError as error:
            raise storage_error(self._folder, error) from error
        return np.frombuffer(isal_zlib.decompress(data), np.uint16).reshape(found.shape)
