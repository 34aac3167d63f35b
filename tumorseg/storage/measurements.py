"""Measurements of each case, kept so that an interrupted fingerprint goes on where it stopped."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import StorageError
from tumorseg.schema.fingerprint import CaseMeasurement
from tumorseg.storage.atomic import write_bytes
from tumorseg.storage.damage import NUMPY, Damage
from tumorseg.storage.sealed import read_sealed, seal_of, write_sealed

UNUSABLE: Damage = (StorageError, *NUMPY)
"""What says that a measurement has to be made anew."""


class Measured(NamedTuple):
    """One case's geometry and a sample of its foreground intensities."""

    measurement: CaseMeasurement
    samples: NDArray[np.float32]
    """(C, N), N being 0 for a case without foreground."""


def write_measured(folder: Path, key: str, measured: Measured) -> None:
    """Keep what was measured; the record is written last and makes it valid."""
    buffer, name = io.BytesIO(), _samples_name(key)
    np.save(buffer, measured.samples, allow_pickle=False)
    data = buffer.getvalue()
    write_bytes(folder / name, data)
    write_sealed(folder / f"{key}.json", measured.measurement, key=key, files={name: seal_of(data)})


def read_measured(folder: Path, key: str) -> Measured | None:
    """Return what was measured under a key; None if nothing was, or it is not what was written."""
    record, name = folder / f"{key}.json", _samples_name(key)
    if not record.is_file() or not (folder / name).is_file():
        return None
    try:
        found, data = read_sealed(CaseMeasurement, record, key=key), (folder / name).read_bytes()
        if found.files.get(name) != seal_of(data):
            return None
        return Measured(found.record, np.load(io.BytesIO(data), allow_pickle=False))
    except UNUSABLE:
        return None


def _samples_name(key: str) -> str:
    return f"{key}.npy"
