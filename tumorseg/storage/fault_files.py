"""Batches that are kept to be looked into, because what a network made of them was not finite."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tumorseg.schema.base import load_json
from tumorseg.storage.atomic import remove_file, write_bytes

MOST_KEPT = 3
"""Batches that are kept, the latest ones: each may take some hundred megabytes."""
FACTS = "facts"
"""The array that holds the facts, as UTF-8 JSON."""


def keep_batch(
    folder: Path, iteration: int, arrays: Mapping[str, NDArray[np.generic]], facts: Mapping[str, JsonValue]
) -> Path:
    """Write a batch, and remove the oldest ones beyond `MOST_KEPT`.

    Args:
        folder: need not be there.
        iteration: of the step.
        arrays: by name.
        facts: about them.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    buffer, path = io.BytesIO(), folder / f"iteration_{iteration:08d}.npz"
    text = np.frombuffer(json.dumps(dict(facts), sort_keys=True).encode(), dtype=np.uint8)
    # Through the archive itself, as the names of arrays are the caller's.
    with ZipFile(buffer, "w") as archive:
        for name, array in {FACTS: text, **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    write_bytes(path, buffer.getbuffer())
    for old in sorted(folder.glob("iteration_*.npz"))[:-MOST_KEPT]:
        remove_file(old)
    return path


def read_batch(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, JsonValue]]:
    """Return the arrays and the facts of a batch; no pickle is read."""
    with np.load(path, allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    facts: dict[str, JsonValue] = load_json(arrays.pop(FACTS).tobytes().decode())
    return arrays, facts
