"""The base of all records and their JSON form."""

import hashlib
import json
import math
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tumorseg.errors import InputError, TumorsegError, is_plain
from tumorseg.schema.wording import cut, problems_of

# Documents of ours stand some ten deep; json, pydantic and the walks through documents call themselves once a level.
MOST_LEVELS = 100
"""Lists and objects in a document that may stand in each other."""
# Arrays hold no others, and float() refuses the greatest that Python can.
LEAST, LARGEST = -(2**63), 2**63 - 1
"""The whole numbers in a document are from this to this."""


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
    """Return any JSON value in the one form in which tumorseg writes it.

    Raises:
        InputError: it names a file whose name is not UTF-8, which no document can hold.
    """
    # NaN and infinity are no JSON: better no file than one that other programs refuse.
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    _in_utf_8(text)
    return text


def _in_utf_8(text: str) -> bytes:
    """Return JSON as it is written; Python alone can hold a name of a file that is not UTF-8."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        start, end = text.rfind('"', 0, error.start), text.find('"', error.start)
        raise InputError(f"found {text[start : end + 1]}, which is not UTF-8; rename what is called so") from None


def load_json(text: str) -> Any:
    """Return the value of JSON text from a file or a user: the one way in which such text is read.

    Raises:
        ValueError: it is no JSON (`json.JSONDecodeError`), or holds what no document of any use does: a key twice or with control
            characters, a number that 64 bits do not hold, half a character, or a hundred lists in each other. One line.
    """
    try:
        value = json.loads(
            text,
            parse_float=_finite,
            parse_int=_of_64_bits,
            parse_constant=_refuse_constant,
            object_pairs_hook=_once,
        )
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    _check_depth(value)
    # Only where there may be half a character, as this writes the whole again.
    if "\\u" in text or not _is_utf_8(text):
        _check_letters(value)
    return value


TOO_DEEP = f"lists and objects stand more than {MOST_LEVELS} deep in each other"


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"found {cut(text)}, which is beyond the largest number of 64 bits")
    return number


def _of_64_bits(text: str) -> int:
    # Counted first: what int() takes for thousands of digits grows with their square, and it refuses more.
    num_digits = len(text.lstrip("-"))
    if num_digits > 19 or not LEAST <= int(text) <= LARGEST:
        raise ValueError(f"found a whole number of {num_digits} digits, {cut(text)}, expected {LEAST} to {LARGEST}")
    return int(text)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"found {text}, which JSON does not know")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; of two values of one key, JSON's readers would drop the first in silence."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {cut(key)!r} stands twice in one object")
        # Keys are names, and stand in messages, tables and pages.
        if not is_plain(key):
            raise ValueError(f"the key {cut(key)!r} holds control or format characters")
        found[key] = value
    return found


def _check_depth(value: Any) -> None:
    """Refuse what stands too deep; level by level, as calls in each other are what is to be avoided."""
    level: list[Any] = [[value]]
    for _ in range(MOST_LEVELS + 1):
        inner: list[Any] = []
        for outer in level:
            parts = outer.values() if isinstance(outer, dict) else outer
            inner += [part for part in parts if isinstance(part, dict | list)]
        level = inner
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_letters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"found {error.object[error.start]!r}, half a character, which no text can hold") from None


def content_hash(value: Any) -> str:
    """Return the 32 hex digits that identify a JSON value whatever its key order.

    Raises:
        InputError: as from `json_text`.
    """
    # Not `json_text`: how files are laid out may change, but the hashes that stand in plans may not.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.blake2b(_in_utf_8(text), digest_size=16).hexdigest()


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
        document = (
            load_json(value if isinstance(value, str) else value.decode()) if isinstance(value, str | bytes) else value
        )
    except ValueError as failure:  # of UTF-8, too
        raise error(f"document: is not JSON ({failure})", file=source) from None
    try:
        return kind.model_validate(document)
    except ValidationError as invalid:
        raise error(describe_validation(invalid, document), file=source) from None


def describe_validation(invalid: ValidationError, document: Any, most: int = 8) -> str:
    """Return one line that lists the fields that failed and why; `document` is the value that was looked at."""
    problems = [f"{field or 'document'}: {message}" for field, message in problems_of(invalid, document)]
    more = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + more
