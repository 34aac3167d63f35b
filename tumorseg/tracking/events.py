"""What befell a training: one JSON object a line, one line an event."""

import json
from pathlib import Path

from tumorseg.errors import StorageError
from tumorseg.schema.base import parse_record
from tumorseg.schema.logs import TrainingEvent
from tumorseg.storage.atomic import write_text


def append_event(path: Path, event: TrainingEvent) -> None:
    """Add an event; the file is replaced as a whole, so that it never ends in half a line.

    Raises:
        StorageError: it cannot be written, or is damaged.
    """
    write_text(path, _text(path) + _line(event))


def read_events(path: Path) -> list[TrainingEvent]:
    """Return all events, in their order.

    Raises:
        StorageError: the file is damaged.
    """
    lines = _text(path).splitlines()
    return [parse_record(TrainingEvent, line, source=str(path), error=StorageError) for line in lines]


def truncate_events(path: Path, num_iterations: int) -> None:
    """Forget what befell steps that no checkpoint holds, because they are about to be taken again.

    Args:
        path: the file.
        num_iterations: steps that the checkpoint holds.
    """
    events = read_events(path)
    # A restart after a collapse is of the first try, whose steps are not taken again.
    last = max((number for number, event in enumerate(events) if event.kind == "restarted"), default=-1)
    kept = [event for number, event in enumerate(events) if number <= last or event.iteration <= num_iterations]
    if len(kept) < len(events):
        write_text(path, "".join(map(_line, kept)))


def _text(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        advice = "move the file away, the training goes on without it"
        raise StorageError(f"found bytes that are not UTF-8 at position {error.start}; {advice}", file=path) from None


def _line(event: TrainingEvent) -> str:
    return json.dumps(event.model_dump(mode="json"), sort_keys=True) + "\n"
