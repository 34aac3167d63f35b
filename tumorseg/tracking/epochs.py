"""The log of a training: one JSON object a line, one line an epoch."""

import json
import os
from pathlib import Path
from typing import Any

from tumorseg.errors import StorageError
from tumorseg.schema.base import load_json
from tumorseg.schema.logs import EpochLog
from tumorseg.storage.atomic import write_text

TAIL_BYTES = 2**18
"""More than the longest line of a log: of an epoch with a thousand classes."""


def append_epoch(path: Path, log: EpochLog) -> None:
    """Add an epoch; the file is replaced as a whole, so that it never ends in half a line."""
    before = path.read_text("utf-8") if path.is_file() else ""
    write_text(path, before + json.dumps(log.model_dump(mode="json"), sort_keys=True) + "\n")


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Return the epochs logged so far.

    Raises:
        StorageError: the log is damaged.
    """
    if not path.is_file():
        return []
    try:
        epochs = [load_json(line) for line in path.read_text("utf-8").splitlines()]
        if not all(isinstance(epoch, dict) for epoch in epochs):
            raise ValueError("found a line that is no object")
        return epochs
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path}: the log is damaged ({error}); move it away, the training goes on without it"
        ) from None


def last_epoch(path: Path) -> dict[str, Any] | None:
    """Return the latest epoch of a log of any length; None before the first one.

    Raises:
        StorageError: the log cannot be read, or its end is damaged.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().splitlines()
        found = load_json(lines[-1].decode()) if lines else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(f"the log cannot be read ({error}); move it away", file=path) from None
    if not isinstance(found, dict | None):
        raise StorageError("the log's last line is no JSON object; move the file away", file=path)
    return found


def truncate_epochs(path: Path, num_epochs: int) -> None:
    """Forget epochs that no checkpoint holds, because they are about to be trained again."""
    epochs = read_epochs(path)
    if len(epochs) > num_epochs:
        write_text(path, "".join(json.dumps(epoch, sort_keys=True) + "\n" for epoch in epochs[:num_epochs]))
