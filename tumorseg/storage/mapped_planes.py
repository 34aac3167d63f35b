"""An array in a file, for what is made in one axis order and asked for in another: too large for memory, and of use for minutes."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from tumorseg.storage.atomic import storage_error

BLOCK = 2**20
"""Bytes that are written at once."""


class MappedPlanes:
    """Integers of 16 bits in a file without a name, which the system itself forgets, even if the process is killed."""

    def __init__(self, folder: Path | None, shape: Sequence[int]) -> None:
        """Open a file of zeros.

        Args:
            folder: on the disk that has room for it; must be there. The system's temporary folder if None.
            shape: of the array, without an empty axis.

        Raises:
            StorageError: the file cannot be written there, or the disk has no room for all of it.
        """
        place = Path(tempfile.gettempdir()) if folder is None else folder
        try:
            self._file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115
        except OSError as error:
            raise storage_error(place, error) from error
        try:
            # All of it at once: a page of a mapped file that finds no room later would end the process.
            _allocate(self._file, int(np.prod(shape, dtype=np.int64)) * np.dtype(np.uint16).itemsize)
        except OSError as error:
            self._file.close()
            raise storage_error(place, error) from error
        self.array: NDArray[np.uint16] = np.memmap(self._file, np.uint16, "r+", shape=tuple(shape))
        """All of it; the system keeps in memory what there is room for."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the disk space back, once nobody holds the array."""
        self.close()

    def close(self) -> None:
        """Give the disk space back, once nobody holds the array."""
        self.array = np.zeros(0, np.uint16)
        self._file.close()


def _allocate(file: IO[bytes], num_bytes: int) -> None:
    """Give a file its room on the disk."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, num_bytes)
        return
    # macOS has no such call; what is written has room.
    for first in range(0, num_bytes, BLOCK):
        file.write(bytes(min(BLOCK, num_bytes - first)))
    file.flush()
