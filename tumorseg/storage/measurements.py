"""Measurements of each case, kept so that an interrupted fingerprint goes on where it stopped."""

import io
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import StorageError
from tumorseg.schema.fingerprint import CaseMeasurement
from tumorseg.storage.atomic import write_bytes
from tumorseg.storage.json_files import read_record, write_record


class Measured(NamedTuple):
    """One case's geometry and a sample of its foreground intensities."""

    measurement: CaseMeasurement
    samples: NDArray[np.float32]
    """(C, N), N being 0 for a case without foreground."""


def write_measured(folder: Path, key: str, measured: Measured) -> None:
    """Keep what was measured; the record is written last and makes it valid."""
    buffer = io.BytesIO()
    np.save(buffer, measured.samples, allow_pickle=False)
    write_bytes(folder / f"{key}.npy", buffer.getvalue())
    write_record(folder / f"{key}.json", measured.measurement)


def read_measured(folder: Path, key: str) -> Measured | None:
    """Return what was measured under a key; None if nothing was, or it is damaged."""
    record, samples = folder / f"{key}.json", folder / f"{key}.npy"
    if not record.is_file() or not samples.is_file():
        return None
    try:
        array = np.load(io.BytesIO(samples.read_bytes()), allow_pickle=False)
        return Measured(read_record(CaseMeasurement, record, error=StorageError), array)
    except (StorageError, ValueError, OSError, EOFError, BadZipFile):
        return None
