"""`report.json` as a file: one line a case, so that those of 20,000 cases are read and written one at a time."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tumorseg.errors import TumorsegError, is_plain
from tumorseg.schema.base import content_hash, load_json, parse_record
from tumorseg.stages.inference.case_report import DEFINITIONS, CaseEntry, RunEntry
from tumorseg.storage.json_files import read_json

REPORT_VERSION = 1
"""Of the report's form; raised when its fields change."""
_BEGINNING = '{\n  "cases": {\n'
"""Of a report that tells of any case: a line for each follows."""
_DECODER = json.JSONDecoder()


class Report(NamedTuple):
    """What a report holds, but for the entries themselves, which take 100 MiB of 20,000 cases with 60 labels."""

    runs: dict[str, RunEntry]
    """By key."""
    entries: dict[str, str]
    """Key of the run that an entry names, by case_id."""


def run_key(run: RunEntry) -> str:
    """Return what the entries of cases name a run by."""
    return content_hash(run.model_dump(mode="json"))


def entry_text(entry: CaseEntry) -> str:
    """Return an entry as the report holds it: JSON on one line, keys sorted."""
    return _on_one_line(entry.model_dump(mode="json"))


def read_report(path: Path, error: type[TumorsegError]) -> Report:
    """Read the report of a folder; an empty one where there is none.

    Raises:
        TumorsegError: of class `error`: it is damaged, or of another version of tumorseg.
    """
    if not path.is_file():
        return Report({}, {})
    entries: dict[str, str] = {}
    document: dict[str, Any] = {}
    try:
        for case_id, text in _parts(path, error):
            if case_id is None:
                document = load_json(text)
            else:
                # The rest passes unread: it is what an earlier run has measured.
                entries[case_id] = load_json(text)["run"]
        if (found := document.get("schema_version")) != REPORT_VERSION:
            raise ValueError(f"form {found}")
        runs = {
            key: parse_record(RunEntry, run, source=str(path), error=error) for key, run in document["runs"].items()
        }
    except TumorsegError:
        raise
    except OSError as failure:
        raise error(f"cannot be read ({failure.strerror})", file=path) from None
    except (KeyError, TypeError, AttributeError, ValueError) as failure:
        raise error(
            f"is no report of form {REPORT_VERSION} ({failure}); move it aside, and its cases are segmented anew",
            file=path,
        ) from None
    return Report(runs, entries)


def read_entries(path: Path, error: type[TumorsegError]) -> Iterator[tuple[str, str]]:
    """Yield the case_id and the entry's text, as from `entry_text`, of each case in a report that `read_report` has read.

    Sorted by case_id, as reports are.
    """
    if path.is_file():
        for case_id, text in _parts(path, error):
            if case_id is not None:
                yield case_id, text


def _parts(path: Path, error: type[TumorsegError]) -> Iterator[tuple[str | None, str]]:
    """Yield each case_id and its entry's text; last None, and the text of an object that holds everything else."""
    with path.open(encoding="utf-8") as file:
        if file.readline() + file.readline() == _BEGINNING:
            for line in iter(file.readline, "  },\n"):
                # Only a text is read so, as lists in each other would be without an end.
                if not line.startswith('    "'):
                    raise ValueError("found a line without case_id")
                # Behind the indent, and up to the colon and the blank.
                case_id, end = _DECODER.raw_decode(line, 4)
                if not is_plain(case_id):
                    raise ValueError(f"found the case_id {case_id!r}")
                yield case_id, line[end + 2 :].rstrip(",\n")
            yield None, "{" + file.read()
            return
    # None that was written here: another program has laid it out anew, or it tells of no case.
    document = read_json(path, error)
    for case_id, entry in sorted(document.pop("cases").items()):
        yield case_id, _on_one_line(entry)
    yield None, _on_one_line(document)


def report_parts(entries: Iterable[tuple[str, str]], runs: Mapping[str, RunEntry]) -> Iterator[bytes]:
    """Yield the file's text, piece by piece: JSON, keys sorted.

    Args:
        entries: case_id and text, as from `entry_text`, sorted by case_id.
        runs: those that entries name, by key.
    """
    yield b'{\n  "cases": {'
    separator = ending = ""
    for case_id, text in entries:
        yield f"{separator}\n    {json.dumps(case_id, ensure_ascii=False)}: {text}".encode()
        separator, ending = ",", "\n  "
    parts = {
        "definitions": _indented(DEFINITIONS),
        "runs": _indented({key: run.model_dump(mode="json") for key, run in runs.items()}),
        "schema_version": str(REPORT_VERSION),
    }
    others = "".join(f',\n  "{name}": {text}' for name, text in parts.items())
    yield f"{ending}}}{others}\n}}\n".encode()


def _on_one_line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _indented(value: Any) -> str:
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False).replace("\n", "\n  ")
