"""The case store: preprocessed cases, each in a folder named by the hash of what it was made from.

A case's folder appears whole or not at all. Its record is sealed, and says what the files of its arrays are (`sealed`): `preprocess`
compares all of them, and whoever reads a case compares each file once, before the first look at it. Arrays are blosc2 frames, compressed in blocks, so that a patch is read
without the rest. blosc2 is imported where it is used: it takes a quarter of a second, which those who only look up are spared.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import StorageError
from tumorseg.ops.cropping import inside
from tumorseg.schema.base import Record, content_hash
from tumorseg.schema.cases import Preprocessing, StoredCase
from tumorseg.schema.targets import Targets
from tumorseg.storage.atomic import storage_error, umask, write_bytes
from tumorseg.storage.damage import of_blosc2
from tumorseg.storage.frames import FrameKind, frame_kind, read_frame
from tumorseg.storage.sealed import (
    FileSeal,
    Sealed,
    is_intact,
    read_sealed,
    require_readable,
    seal_of,
    write_sealed,
)
from tumorseg.types import Box, Image, Segmentation

IMAGE, SEGMENTATION, LOCATIONS, RECORD = "image.b2nd", "segmentation.b2nd", "locations.b2nd", "case.json"
FLOATS, INTEGERS = "f", "i"
"""Kinds of types, as numpy calls them: images are floats, everything else is signed integers."""
# Blocks are unpacked whole: small ones waste less around a patch, large ones compress better.
CHUNK_EDGE, BLOCK_EDGE = 64, 32
# Writing one case takes minutes at most, so nobody is at work on a folder that is this old.
STALE_S = 3600.0
STORE_VERSION = 3
"""Raised when the same case would be stored otherwise; those of 2 have no seal."""
SUPERVISED_VERSION = "background located"
"""Likewise, for cases of datasets with an ignore label."""


def case_key(case_hash: str, preprocessing: Preprocessing, targets: Targets, *, has_names: bool = False) -> str:
    """Return the address of a preprocessed case: its bytes, what is done to them, and what its labels mean.

    Args:
        case_hash: of the case's files.
        preprocessing: what is done to them.
        targets: what label values mean.
        has_names: whether its label file holds names instead of values, which these targets turn into values.
    """
    meaning: list[object] = [list(targets.label_values), targets.ignore_value]
    # Appended only where it says something, so that the keys of all other cases stay as they were.
    if targets.ignore_value is not None:
        meaning.append(SUPERVISED_VERSION)
    if has_names:
        meaning.append(targets.values_by_name)
    return content_hash([STORE_VERSION, case_hash, preprocessing.model_dump(mode="json"), meaning])


class PreviousNote(Record):
    """What is kept of a cascade's previous segmentation beside the segmentation itself."""

    shape: tuple[int, ...]
    """Voxels (Z, Y, X), those of the case."""


def is_stored(cases: Path, key: str, *, in_full: bool = False) -> bool:
    """Return whether a case is in the store as it was written.

    Args:
        cases: the store.
        key: the case's address.
        in_full: compare all bytes of its arrays, not just how many there are.

    Raises:
        StorageError: it cannot be read, which a drive may do for a moment.
    """
    return _is_whole(cases / key, key, in_full=in_full)


def _is_whole(folder: Path, key: str, *, in_full: bool = False) -> bool:
    try:
        files = read_sealed(StoredCase, folder / RECORD, key=key).files
    except StorageError:
        require_readable(folder / RECORD)
        return False
    names = (IMAGE, SEGMENTATION, LOCATIONS)
    return all(name in files and is_intact(folder / name, files[name], in_full=in_full) for name in names)


def store_case(cases: Path, key: str, record: StoredCase, arrays: "CaseArrays") -> None:
    """Put a case into the store.

    Raises:
        StorageError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    partial = make_partial(cases, key)
    contents = {IMAGE: arrays.image, SEGMENTATION: arrays.segmentation, LOCATIONS: arrays.locations}
    try:
        files = {name: _write_frame(partial / name, array) for name, array in contents.items()}
        write_sealed(partial / RECORD, record, key=key, files=files)
        _move_into_place(partial, cases / key)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_frame(path: Path, array: NDArray[Any]) -> FileSeal:
    frame = _compress(array)
    write_bytes(path, frame)
    # Of the bytes in memory: what a disk makes of them is what is to be found out.
    return seal_of(frame)


def previous_name(prediction_hash: str) -> str:
    """Return the name, in a case's folder, of a cascade's previous segmentation made from a prediction of this hash."""
    return f"previous_{prediction_hash}.b2nd"


def store_previous(path: Path, indices: Segmentation) -> None:
    """Put the previous segmentation, as class indices on the case's grid, into the folder of a case.

    Raises:
        StorageError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    files = {path.name: _write_frame(path, indices)}
    write_sealed(_note(path), PreviousNote(shape=indices.shape), key=path.parent.name, files=files)


def is_previous_stored(path: Path) -> bool:
    """Return whether a previous segmentation is there, as far as the number of its bytes tells.

    Raises:
        StorageError: it cannot be read, which a drive may do for a moment.
    """
    try:
        files = _read_note(path).files
    except StorageError:
        require_readable(_note(path))
        return False
    return path.name in files and is_intact(path, files[path.name], in_full=False)


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_note(path: Path) -> Sealed[PreviousNote]:
    return read_sealed(PreviousNote, _note(path), key=path.parent.name)


class CaseArrays:
    """The arrays of one preprocessed case."""

    def __init__(self, image: Image, segmentation: Segmentation, locations: NDArray[np.int32]) -> None:
        """Hold the image (C, Z, Y, X), class indices (Z, Y, X) and locations (N, 3)."""
        self.image, self.segmentation, self.locations = image, segmentation, locations


def make_partial(cases: Path, key: str) -> Path:
    """Make a folder that no other process has, on whatever machine."""
    try:
        cases.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".partial-{key}-", dir=cases))
        partial.chmod(0o777 & ~umask())
    except OSError as error:
        raise storage_error(cases, error) from error
    return partial


def _move_into_place(partial: Path, final: Path) -> None:
    """Rename; another run may have been first, and then its folder is as good."""
    key = final.name
    if not _is_whole(partial, key):  # removed as stale while this process was suspended
        raise StorageError("cannot write: its unfinished folder was removed meanwhile; start again", file=final)
    # A folder can only be renamed onto an empty one, so a damaged case has to go first.
    if final.is_dir() and not _is_whole(final, key, in_full=True):
        _set_aside(final)
    try:
        partial.rename(final)
    except OSError as error:
        if not _is_whole(final, key):
            raise storage_error(final, error) from error


def _set_aside(final: Path) -> None:
    """Take a damaged case out of the store at once, so that nobody opens half of a folder that is being removed."""
    aside = make_partial(final.parent, final.name)
    try:
        with suppress(FileNotFoundError):  # another run was faster
            final.rename(aside / final.name)
    except OSError as error:
        raise storage_error(final, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _compress(array: NDArray[Any]) -> bytes:
    """Return a blosc2 frame; spatial axes are cut into blocks of some ten kilobytes."""
    import blosc2

    contiguous = np.ascontiguousarray(array)
    # Locations (N, 3) have no space to be cut in; they are read row by row, so fast unpacking counts.
    if array.size == 0 or array.ndim == 2:
        frame = blosc2.asarray(contiguous, cparams={"codec": blosc2.Codec.LZ4})
        return bytes(frame.to_cframe())
    lead = (1,) * (array.ndim - 3)
    chunks = lead + tuple(min(CHUNK_EDGE, size) for size in array.shape[-3:])
    blocks = lead + tuple(min(BLOCK_EDGE, size) for size in array.shape[-3:])
    # One thread, here and in `_read`: cases and patches are already spread over processes.
    cparams = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "nthreads": 1}
    return bytes(blosc2.asarray(contiguous, chunks=chunks, blocks=blocks, cparams=cparams).to_cframe())


def remove_stale(cases: Path) -> None:
    """Remove what killed runs left unfinished, unless it is so new that a run may be at it."""
    for partial in cases.glob(".partial-*"):
        with suppress(FileNotFoundError):  # another run was faster
            if time.time() - partial.stat().st_mtime > STALE_S:
                shutil.rmtree(partial, ignore_errors=True)


class CaseStore:
    """Read access to the preprocessed cases of one configuration, patch by patch.

    Only records are kept in memory; arrays are mapped when a patch is read. Each file is compared with what was written once, when it
    is first read: that reads all of it, of which a patch may need a hundredth, but a training does not begin with reading all cases.
    """

    def __init__(self, cases: Path, keys: Mapping[str, str], previous: Mapping[str, str] | None = None) -> None:
        """Open the cases of these keys by case_id; of a cascade also the names of their previous segmentations.

        Raises:
            StorageError: a case is not in the store, or damaged.
        """
        self._previous = dict(previous or {})
        self._folders = {case_id: cases / key for case_id, key in keys.items()}
        self._sealed = {case_id: _read_case(folder, case_id) for case_id, folder in self._folders.items()}
        self._records = {case_id: found.record for case_id, found in self._sealed.items()}
        self._compared: set[Path] = set()
        self._locks: dict[Path, Lock] = {}

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Return the cases in the order in which they were given."""
        return tuple(self._folders)

    def shape(self, case_id: str) -> tuple[int, int, int]:
        """Return a case's voxels (Z, Y, X)."""
        return self._records[case_id].shape

    def num_locations(self, case_id: str, class_index: int) -> int:
        """Return how many voxels of a class are remembered."""
        starts = self._records[case_id].location_starts
        return starts[class_index + 1] - starts[class_index]

    def supervised_classes(self, case_id: str) -> tuple[int, ...]:
        """Return the classes on whose voxels patches are centred; none without an ignore label, when any voxel will do."""
        record = self._records[case_id]
        return tuple(range(len(record.class_voxels))) if record.has_ignore_label else ()

    def num_voxels(self, case_id: str, class_index: int) -> int:
        """Return how many voxels of a class the case has."""
        return self._records[case_id].class_voxels[class_index]

    def location(self, case_id: str, class_index: int, number: int) -> tuple[int, int, int]:
        """Return one remembered voxel of a class."""
        row = self._records[case_id].location_starts[class_index] + number
        z, y, x = self._read(case_id, LOCATIONS, row).tolist()
        return (z, y, x)

    def read(self, case_id: str, box: Box) -> tuple[Image, Segmentation]:
        """Return image (C, …) and class indices of the part of a box that lies inside the case."""
        found = tuple(slice(lower, upper) for lower, upper in inside(box, self.shape(case_id)))
        return self._read(case_id, IMAGE, (slice(None), *found)), self._read(case_id, SEGMENTATION, found)

    def read_previous(self, case_id: str, box: Box) -> Segmentation:
        """Return the class indices of the previous segmentation in the part of a box that lies inside the case."""
        found = tuple(slice(lower, upper) for lower, upper in inside(box, self.shape(case_id)))
        return self._read(case_id, self._previous[case_id], found)

    def _read(self, case_id: str, name: str, index: Any) -> NDArray[Any]:
        path = self._folders[case_id] / name
        try:
            if path not in self._compared:
                # Whoever else wants the same file waits, instead of reading all of it as well; setdefault is atomic.
                with self._locks.setdefault(path, Lock()):
                    if path not in self._compared:
                        self._compare(case_id, path)
            return read_frame(path, index)
        except of_blosc2() as error:
            raise _damaged(path, case_id) from error

    def _compare(self, case_id: str, path: Path) -> None:
        """See that a file is what was written, and what the case's record says of it.

        Raises:
            ValueError: it is not, or as from `read_frame`.
        """
        record, is_previous = self._records[case_id], path.name == self._previous.get(case_id)
        files = _read_note(path).files if is_previous else self._sealed[case_id].files
        # Before blosc2 looks at the file, which takes a head as it comes.
        if path.name not in files or not is_intact(path, files[path.name], in_full=True):
            raise ValueError("is not what was written")
        if not _is_as_recorded(path.name, frame_kind(path), record):
            raise ValueError("is not what the case's record says")
        self._compared.add(path)


def _is_as_recorded(name: str, found: FrameKind, record: StoredCase) -> bool:
    """Tell whether shape and type of an array are those of its case."""
    shapes = {IMAGE: (record.num_channels, *record.shape), LOCATIONS: (record.location_starts[-1], 3)}
    kind = FLOATS if name == IMAGE else INTEGERS
    return found.shape == shapes.get(name, record.shape) and found.dtype.kind == kind


def _read_case(folder: Path, case_id: str) -> Sealed[StoredCase]:
    if not folder.is_dir():
        raise StorageError(f"{case_id}: not in the case store ({folder} is missing); run `tumorseg preprocess`")
    try:
        return read_sealed(StoredCase, folder / RECORD, key=folder.name)
    except StorageError:
        raise _damaged(folder / RECORD, case_id) from None


def _damaged(path: Path, case_id: str) -> StorageError:
    return StorageError(f"{case_id}: {path} is damaged; delete the folder {path.parent} and run `tumorseg preprocess`")
