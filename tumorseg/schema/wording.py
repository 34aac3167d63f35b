"""Faults of a document in words for the person who wrote it: no schema terms, no regular expressions."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

MOST_LETTERS = 80
"""Letters of a value that a message shows at most."""
MOST_LETTERS_OF_A_PLACE = 200
"""Of a field, whose keys are a document's own; those of ours are shorter."""
MOST_LETTERS_OF_A_PROBLEM = 1000
"""Of what is said of it, which may list all choices."""
EXPECTED = "expected "
PYDANTICS_KINDS = frozenset(get_args(ErrorType))
"""Kinds of problems whose own messages are not for people; those of other kinds were written here."""
EXPECTATIONS: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), lambda _: "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), lambda _: "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), lambda _: "true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"), lambda _: "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), lambda _: "an object, {…}"),
    "string_type": lambda _: "text",
    "string_unicode": lambda _: "text in UTF-8",
    "bytes_type": lambda _: "bytes",
    "none_required": lambda _: "null",
    "finite_number": lambda _: "a finite number",
    "literal_error": lambda about: str(about["expected"]),
    "enum": lambda about: str(about["expected"]),
    "greater_than": lambda about: f"more than {about['gt']:g}",
    "greater_than_equal": lambda about: f"{about['ge']:g} or more",
    "less_than": lambda about: f"less than {about['lt']:g}",
    "less_than_equal": lambda about: f"{about['le']:g} or less",
    "multiple_of": lambda about: f"a multiple of {about['multiple_of']:g}",
    "union_tag_invalid": lambda about: f"as {_key_of(about)} one of {about['expected_tags']}",
    "union_tag_not_found": lambda about: f"a key {_key_of(about)} that says which kind it is",
}
"""What a kind of problem says was expected, from what pydantic tells about it."""
COUNTS: dict[str, tuple[str, str, str, str]] = {
    "too_short": ("at least", "min_length", "entry", "entries"),
    "too_long": ("at most", "max_length", "entry", "entries"),
    "string_too_short": ("at least", "min_length", "letter", "letters"),
    "string_too_long": ("at most", "max_length", "letter", "letters"),
}
"""Kinds of problems whose messages count what was found: how the bound is put, where it stands, and what is counted, one or several."""
SENTENCES = {
    "extra_forbidden": "unknown key (misspelt, or from another version of tumorseg)",
    "unexpected_keyword_argument": "unknown key (misspelt, or from another version of tumorseg)",
    "missing": "missing",
    "missing_argument": "missing",
    "missing_keyword_only_argument": "missing",
    "string_pattern_mismatch": "is not of the form that is asked for",
}
"""Kinds of problems of which a sentence says all."""


class ExpectationError(ValueError):
    """Failure of a record's own check; its text says what was expected, and the value found is shown after it."""


class _Reported(NamedTuple):
    """One problem, to be reported."""

    place: tuple[int | str, ...]
    """Keys and positions in the document."""
    expected: str | None
    """What it says was expected, where it is of that form."""
    message: str
    is_of_branch: bool
    """Whether one of several forms that a value may have was not met."""


def problems_of(invalid: ValidationError, document: Any) -> list[tuple[str, str]]:
    """Return every place that is wrong, dotted and empty for the document as a whole, and why.

    Args:
        invalid: what pydantic found.
        document: the value that it looked at.
    """
    problems: list[dict[str, Any]] = [dict(problem) for problem in invalid.errors(include_url=False)]
    places = [problem["loc"] for problem in problems]
    reports = [_reported(problem, document) for problem in problems if not _is_short_by_others(problem, places)]
    return [
        (cut(".".join(map(str, place)), MOST_LETTERS_OF_A_PLACE), cut(message, MOST_LETTERS_OF_A_PROBLEM))
        for place, message in _merged(reports)
    ]


def cut(text: str, most: int = MOST_LETTERS) -> str:
    """Return a text that a message quotes, cut where it is longer than so many letters."""
    return text if len(text) <= most else f"{text[:most]}…"


def _merged(reports: Sequence[_Reported]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Yield what is reported of each place once; of several forms that a value may have, the one that it nearly has counts."""
    outer: set[tuple[int | str, ...]] = set()
    for one in reports:
        outer.update(one.place[:length] for length in range(len(one.place)))
    left: dict[tuple[int | str, ...], list[_Reported]] = {}
    for one in reports:
        # Something inside is wrong, so this form was meant: that the value is of none of the others is no news.
        if not (one.is_of_branch and one.place in outer):
            left.setdefault(one.place, []).append(one)
    for place, members in left.items():
        forms = list(dict.fromkeys(one.expected for one in members if one.expected))
        # The messages differ in what was expected alone, so one of them can name all forms.
        if len(forms) > 1 and all(one.is_of_branch for one in members):
            first = members[0]
            yield place, first.message.replace(str(first.expected), " or ".join(forms), 1)
        else:
            yield place, "; ".join(dict.fromkeys(one.message for one in members))


def _reported(problem: dict[str, Any], document: Any) -> _Reported:
    place, is_of_branch = _place(problem, document)
    kind, about = problem["type"], problem.get("ctx", {})
    expected = EXPECTATIONS[kind](about) if kind in EXPECTATIONS else None
    return _Reported(place, expected, _message(problem, expected), is_of_branch)


def _message(problem: dict[str, Any], expected: str | None) -> str:
    kind, value = problem["type"], problem["input"]
    about = problem.get("ctx", {})
    if kind in SENTENCES:
        return SENTENCES[kind]
    if kind in COUNTS:
        bound, name, one, several = COUNTS[kind]
        what = one if about[name] == 1 else several
        # Pydantic counts what is in lists, but not the letters of a text.
        found = about.get("actual_length") or len(value)
        return f"{EXPECTED}{bound} {about[name]} {what}, found {found}"
    if kind == "union_tag_invalid":
        return f"{EXPECTED}{expected}, found {about['tag']!r}"
    if expected is not None:
        as_key = " as its key" if problem["loc"][-1:] == ("[key]",) else ""
        return f"{EXPECTED}{expected}{as_key}, found {shown(value)}"
    own, is_expectation = _own_words(problem)
    return f"{own}, found {shown(value)}" if is_expectation and not _is_container(value) else own


def _own_words(problem: dict[str, Any]) -> tuple[str, bool]:
    """Return what a check of ours says, and whether it says what was expected."""
    if problem["type"] in ("value_error", "assertion_error"):
        error = problem["ctx"]["error"]
        return str(error), isinstance(error, ExpectationError)
    if problem["type"] in PYDANTICS_KINDS:
        return f"{EXPECTED}something else", True
    return str(problem["msg"]), bool(problem.get("ctx", {}).get("is_expectation"))


def _key_of(about: Mapping[str, Any]) -> str:
    """Return the key that says of which kind an object is, in backticks."""
    # Pydantic's word for it comes in quotes.
    return "`{}`".format(str(about["discriminator"]).strip("'"))


def _is_container(value: Any) -> bool:
    return isinstance(value, dict | list | tuple | set | frozenset | BaseModel)


def shown(value: Any) -> str:
    """Return a value as it stands in JSON, shortened; of what is inside lists and objects, nothing."""
    if _is_container(value):
        return "an object" if isinstance(value, dict | BaseModel) else "a list"
    # Before whole numbers, of which True and False are some to Python.
    if isinstance(value, bool | float | None):
        return json.dumps(value)
    return str(value)[:MOST_LETTERS] if isinstance(value, int) else repr(str(value)[:MOST_LETTERS])


def _place(problem: dict[str, Any], document: Any) -> tuple[tuple[int | str, ...], bool]:
    """Return where in a document a problem is, and whether pydantic's place of it ends in the name of a form of the value.

    Such names are parts that lead nowhere in the document.
    """
    place: list[int | str] = []
    here, is_of_branch = document, False
    for number, part in enumerate(problem["loc"]):
        is_there, inner = _step(here, part)
        # What is missing is nowhere in the document, and yet has its place there.
        is_absent = problem["type"] in ("missing", "missing_argument") and number == len(problem["loc"]) - 1
        if is_there or is_absent:
            place.append(part)
            here = inner
        # With `[key]` pydantic says that it is not the value but its key that is wrong.
        is_of_branch = not is_there and not is_absent and part != "[key]"
    return tuple(place), is_of_branch


def _step(here: Any, part: int | str) -> tuple[bool, Any]:
    """Return whether a key or position is in a value, and what is there."""
    if isinstance(here, BaseModel):
        here = dict(here)
    if isinstance(here, Mapping):
        key = next((key for key in (part, str(part)) if key in here), None)
        return key is not None, None if key is None else here[key]
    is_in_list = isinstance(here, list | tuple) and isinstance(part, int) and part < len(here)
    return is_in_list, here[part] if is_in_list and isinstance(part, int) else None


def _is_short_by_others(problem: dict[str, Any], places: Sequence[tuple[int | str, ...]]) -> bool:
    """Return whether a list is too short only because entries that are wrong, and reported, do not count."""
    if problem["type"] != "too_short" or len(problem["input"]) < problem["ctx"]["min_length"]:
        return False
    outer = problem["loc"]
    return any(len(place) > len(outer) and place[: len(outer)] == outer for place in places)
