"""The base of all records and their JSON form."""

import hashlib
import json
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tumorseg.errors import TumorsegError
from tumorseg.schema.wording import problems_of


class Record(BaseModel):
    """An immutable value whose unknown keys are errors."""

    # Not built before its first use: a command uses a few of all records.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, defer_build=True
    )

    def changed(self, **fields: Any) -> Self:
        """Return a copy with some fields changed, validated as a whole.

        Raises:
            ValidationError: the record would be unsound.
        """
        # Records inside are taken as they are: they were validated when made, so that only this one's checks run again.
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return self.model_validate(given | fields)


R = TypeVar("R", bound=Record)


def to_json(record: Record) -> str:
    """Return the record as stable JSON: sorted keys, two-space indent, one final newline."""
    return json_text(record.model_dump(mode="json"))


def json_text(value: Any) -> str:
    """Return any JSON value in the one form in which tumorseg writes it."""
    # NaN and infinity are no JSON: better no file than one that other programs refuse.
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def content_hash(value: Any) -> str:
    """Return the 32 hex digits that identify a JSON value whatever its key order."""
    # Not `json_text`: how files are laid out may change, but the hashes that stand in plans may not.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def record_hash(record: Record) -> str:
    """Return the content hash of a record."""
    return content_hash(record.model_dump(mode="json"))


def parse_record(kind: type[R], value: Any, *, source: str, error: type[TumorsegError]) -> R:
    """Validate a JSON value, or the text of one, against a record.

    Args:
        kind: the record's class.
        value: JSON text, or what `json.loads` made of it.
        source: what the reader of an error message knows the value by, usually a file.
        error: the class to raise.

    Raises:
        TumorsegError: of class `error`, one line that names every offending field.
    """
    try:
        return kind.model_validate_json(value) if isinstance(value, str | bytes) else kind.model_validate(value)
    except ValidationError as invalid:
        raise error(describe_validation(invalid, _document(value)), file=source) from None


def _document(value: Any) -> Any:
    """Return the value of JSON text, or None where it is no JSON; other values as they are."""
    if not isinstance(value, str | bytes):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # the latter where lists stand thousands deep in each other
        return None


def describe_validation(invalid: ValidationError, document: Any, most: int = 8) -> str:
    """Return one line that lists the fields that failed and why; `document` is the value that was looked at."""
    problems = [f"{field or 'document'}: {message}" for field, message in problems_of(invalid, document)]
    more = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + more
