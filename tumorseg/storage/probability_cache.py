"""Probabilities of cases, kept in folders that are named by the hash of all that made them, within a number of bytes.

A folder appears whole or not at all. Its volumes (16-bit steps, zero outside a box) are one blosc2 frame, packed in slabs of a few
planes, so that a case with many classes is never in memory as a whole. blosc2 is imported where it is used: it takes a quarter of a second.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError, StorageError
from tumorseg.ops.cropping import box_shape, box_slices
from tumorseg.schema.base import Record
from tumorseg.storage.atomic import storage_error
from tumorseg.storage.cases import make_partial
from tumorseg.storage.damage import of_blosc2
from tumorseg.storage.frames import FrameKind, frame_kind, read_frame
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.sealed import read_sealed, write_sealed
from tumorseg.types import Affine, Box

VOLUMES, RECORD = "volumes.b2nd", "record.json"
SLAB = 8
"""Planes along the first axis that are packed, and best read, together."""
BLOCK_EDGE = 64
Volume = NDArray[np.uint16]


class StoredVolumes(Record):
    """What a folder holds."""

    version: Literal[1] = 1
    """Of the form of these folders."""
    shape: tuple[int, int, int]
    """Voxels (Z, Y, X) of the whole image, as stored."""
    spacing_mm: tuple[float, float, float]
    """Voxel edges in that order."""
    affine: tuple[tuple[float, ...], ...]
    """(4, 4), voxels (x, y, z, 1) of the whole image to RAS+ mm, row by row."""
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    """The part of the image outside of which every volume is 0; empty intervals where all are."""
    num_volumes: int
    digest: str = ""
    """Of the frame's file; empty where there is none, as all volumes are 0."""


def affine_rows(affine: Affine) -> tuple[tuple[float, ...], ...]:
    """Return an affine as a record holds it."""
    rows: list[list[float]] = affine.tolist()
    return tuple(map(tuple, rows))


class Volumes:
    """The volumes of one folder, read slab by slab."""

    def __init__(self, folder: Path, about: StoredVolumes) -> None:
        """Take up a folder that is sound."""
        self._path, self.about = folder / VOLUMES, about

    def read(self, window: Box) -> Volume:
        """Return the part of all volumes that lies in a window of the image.

        Args:
            window: voxels of the image, inside it.

        Returns:
            (N, Z, Y, X) of the window, uint16.

        Raises:
            StorageError: the file is damaged or gone.
        """
        found = np.zeros((self.about.num_volumes, *box_shape(window)), np.uint16)
        shared = [
            (max(low, first), min(high, last))
            for (low, high), (first, last) in zip(window, self.about.box, strict=True)
        ]
        if all(low < high for low, high in shared):
            inside = _relative(shared, self.about.box)
            found[(slice(None), *_relative(shared, window))] = self._read((slice(None), *inside))
        return found

    def volume(self, number: int) -> Volume:
        """Return one volume of the whole image, (Z, Y, X) uint16.

        Args:
            number: which one, from 0.

        Raises:
            StorageError: the file is damaged or gone.
        """
        found = np.zeros(self.about.shape, np.uint16)
        if 0 not in box_shape(self.about.box):
            found[box_slices(self.about.box)] = self._read(number)
        return found

    def _read(self, index: Any) -> NDArray[Any]:
        try:
            shape = (self.about.num_volumes, *box_shape(self.about.box))
            if frame_kind(self._path) != FrameKind(shape, np.dtype(np.uint16)):
                raise ValueError("is not what the record beside it says")
            return read_frame(self._path, index)
        except of_blosc2() as error:
            raise StorageError(
                "was damaged or removed meanwhile; give the command again, which makes it anew", file=self._path
            ) from error


def _relative(box: Sequence[tuple[int, int]], origin: Box) -> tuple[slice, ...]:
    """Return a box as slices of an array that begins where another box does."""
    return tuple(slice(low - first, high - first) for (low, high), (first, _) in zip(box, origin, strict=True))


def open_volumes(folder: Path) -> Volumes:
    """Return the volumes of a folder that another process has just written, or found to be sound.

    Raises:
        StorageError: they are not there.
    """
    return Volumes(folder, _read_about(folder))


def _read_about(folder: Path) -> StoredVolumes:
    # Folders are moved to their names when they are whole, so that these are no keys to seal with.
    return read_sealed(StoredVolumes, folder / RECORD, key=VOLUMES).record


def write_volumes(folder: Path, about: StoredVolumes, volumes: Iterable[Volume]) -> Volumes:
    """Write a folder that is there and nobody looks at yet.

    Args:
        folder: an empty one.
        about: all but the digest.
        volumes: (Z, Y, X) of the box, one after the other; not asked for where the box is empty.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    path = folder / VOLUMES
    try:
        if 0 not in box_shape(about.box):
            _write_frame(path, about, volumes)
            about = about.changed(digest=_digest(path))
        write_sealed(folder / RECORD, about, key=VOLUMES)
    # blosc2 tells of a full disk by a RuntimeError.
    except (RuntimeError, OSError) as error:
        failure = error if isinstance(error, OSError) else OSError(str(error))
        raise storage_error(path, failure) from error
    return Volumes(folder, about)


def _write_frame(path: Path, about: StoredVolumes, volumes: Iterable[Volume]) -> None:
    import blosc2

    depth, rows, columns = box_shape(about.box)
    array = blosc2.zeros(
        (about.num_volumes, depth, rows, columns),
        dtype=np.uint16,
        chunks=(1, min(SLAB, depth), rows, columns),
        blocks=(1, min(SLAB, depth), min(BLOCK_EDGE, rows), min(BLOCK_EDGE, columns)),
        # One thread, as cases are already side by side.
        cparams={"codec": blosc2.Codec.ZSTD, "clevel": 1, "nthreads": 1},
        urlpath=str(path),
        mode="w",
        contiguous=True,
    )
    for number, volume in enumerate(volumes):
        array[number] = np.ascontiguousarray(volume)
    del array
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _digest(path: Path) -> str:
    return hash_files([str(path)])[str(path)].digest


class ProbabilityCache:
    """Folders of volumes below one folder, which the caller holds."""

    def __init__(self, folder: Path, most_bytes: int, wanted: Iterable[str] = ()) -> None:
        """Count what is there, and remove what killed runs left half-written, and what is beyond the limit.

        Args:
            folder: need not be there.
            most_bytes: that all of it may take; 0: nothing is added, and what is there stays.
            wanted: keys of this run; others give way to them, the oldest first.
        """
        self.folder, self._most_bytes, self._wanted = folder, most_bytes, frozenset(wanted)
        self._sound: set[str] = set()
        self._lock = Lock()
        for partial in folder.glob(".partial-*"):
            shutil.rmtree(partial, ignore_errors=True)
        self._sizes = {path.name: _folder_bytes(path) for path in sorted(folder.glob("*")) if path.is_dir()}
        self.is_full = False
        """Whether something was not kept for want of room."""
        # Who wants nothing kept does not mean what others kept.
        if most_bytes:
            self._trim()

    @property
    def num_bytes(self) -> int:
        """Return how many bytes are kept."""
        return sum(self._sizes.values())

    def find(self, key: str) -> Volumes | None:
        """Return what is kept under a key; what is damaged is removed and counts as missing."""
        folder = self.folder / key
        # Cases of the same files share a key: none looks at what another is about to remove.
        with self._lock:
            if not folder.is_dir():
                return None
            try:
                about = _read_about(folder)
                is_sound = self._is_sound(key, about)
            except (StorageError, InputError):
                is_sound = False
            if is_sound:
                return Volumes(folder, about)
            self._remove(key)
            return None

    def _is_sound(self, key: str, about: StoredVolumes) -> bool:
        """Tell whether a frame is what was written; each is read for it once."""
        if key not in self._sound and about.digest and _digest(self.folder / key / VOLUMES) != about.digest:
            return False
        self._sound.add(key)
        return True

    @contextmanager
    def partial(self, key: str) -> Iterator[Path]:
        """Make a folder for what is about to be kept; what was not kept on leaving is gone.

        Raises:
            StorageError: it cannot be written.
        """
        folder = make_partial(self.folder, key)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, partial: Path, key: str) -> bool:
        """Move a finished folder to where it is found, if there is room for it, or another was not there before.

        Returns:
            Whether it is found under its key now; if not, it stays where it is.

        Raises:
            StorageError: it cannot be moved.
        """
        num_bytes = _folder_bytes(partial)
        with self._lock:
            # Two cases of the same files, made side by side.
            if key in self._sizes:
                return True
            if not self._make_room(num_bytes):
                self.is_full = True
                return False
            try:
                partial.rename(self.folder / key)
            except OSError as error:
                raise storage_error(self.folder / key, error) from error
            self._sizes[key] = num_bytes
            self._sound.add(key)
        return True

    def _make_room(self, num_bytes: int) -> bool:
        """Remove what this run does not want, the oldest first, unless even that would not be enough; return whether there is room."""
        others = [key for key in self._by_age() if key not in self._wanted]
        if self.num_bytes + num_bytes - sum(self._sizes[key] for key in others) > self._most_bytes:
            return False
        for key in others:
            if self.num_bytes + num_bytes <= self._most_bytes:
                break
            self._remove(key)
        return True

    def _trim(self) -> None:
        """Remove what is beyond the limit: what this run does not want first, and of either the oldest first."""
        for key in sorted(self._by_age(), key=self._wanted.__contains__):
            if self.num_bytes <= self._most_bytes:
                return
            self._remove(key)

    def _by_age(self) -> list[str]:
        """Return all keys, the oldest first."""
        return sorted(self._sizes, key=lambda key: (_age(self.folder / key / RECORD), key))

    def _remove(self, key: str) -> None:
        """Remove a folder; the lock is held, or nobody knows of the cache yet."""
        shutil.rmtree(self.folder / key, ignore_errors=True)
        self._sizes.pop(key, None)
        self._sound.discard(key)


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def _age(path: Path) -> int:
    """Return when a file was written, in ns; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
