"""The log of a training: one JSON object a line, one line an epoch."""

import json
from pathlib import Path
from typing import Any

from tumorseg.errors import StorageError
from tumorseg.schema.logs import EpochLog
from tumorseg.storage.atomic import write_text


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
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except ValueError as error:
        raise StorageError(
            f"{path}: the log is damaged ({error}); move it away, the training goes on without it"
        ) from None


def truncate_epochs(path: Path, num_epochs: int) -> None:
    """Forget epochs that no checkpoint holds, because they are about to be trained again."""
    epochs = read_epochs(path)
    if len(epochs) > num_epochs:
        write_text(path, "".join(json.dumps(epoch, sort_keys=True) + "\n" for epoch in epochs[:num_epochs]))
