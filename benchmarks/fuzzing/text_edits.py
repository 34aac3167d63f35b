"""Changes of texts that know what a field is: JSON, lines of JSON, tables, and the headers of NRRD and MetaImage."""

import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any

from benchmarks.fuzzing import hostile

LITERALS = (
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "9" * 5000,
    "-0",
    "1.0",
    "18446744073709551616",
    '"\\ud800"',
    '"\\u0000"',
)
"""JSON that `json.dumps` would not write."""
PLACEHOLDER = "@literal@"
DEEP = 3000
"""Lists in each other: more than the interpreter lets calls stand in each other."""
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def edit_json(rng: Random, data: bytes) -> bytes:
    """Change, remove, rename or add one value of a document, however deep it lies."""
    document = json.loads(data)
    literal = rng.choice((*LITERALS, "[" * DEEP + "]" * DEEP))
    place = rng.choice(list(_places(document, [])))
    document = _changed(rng, document, place)
    written = json.dumps(document, indent=rng.choice((None, 2)), ensure_ascii=rng.random() < 0.5)
    written = written.replace(f'"{PLACEHOLDER}"', literal).replace(PLACEHOLDER, "x")
    if rng.random() < 0.05:
        # A key twice, which most readers pass over in silence.
        written = re.sub(r'("[^"]+": *(?:\d+|"[^"]*"))', r"\1, \1", written, count=1)
    return written.encode("utf-8", "surrogatepass")


def edit_json_line(rng: Random, data: bytes) -> bytes:
    """Change one line of a file in which every line is JSON."""
    lines = data.splitlines()
    number = rng.randrange(len(lines))
    lines[number] = edit_json(rng, lines[number]).replace(b"\n", b" ")
    if rng.random() < 0.2:
        lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return b"\n".join(lines) + rng.choice((b"\n", b""))


def _places(value: Any, path: list[Any]) -> Iterator[list[Any]]:
    """Yield the keys that lead to each value of a document."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _places(item, [*path, key])
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _places(item, [*path, number])


def _changed(rng: Random, document: Any, place: list[Any]) -> Any:
    """Return the document with a change at a place."""
    if not place:
        return _value(rng, document)
    parent = document
    for key in place[:-1]:
        parent = parent[key]
    key = place[-1]
    if (chance := rng.random()) < 0.7:
        parent[key] = _value(rng, parent[key])
    elif chance < 0.8:
        del parent[key]
    elif isinstance(parent, dict):
        value = parent[key] if chance < 0.9 else parent.pop(key)
        parent[hostile.text(rng)] = value
    else:
        parent.insert(rng.randrange(len(parent) + 1), parent[key])
    return document


def _value(rng: Random, value: Any) -> Any:
    """Return what may stand in the place of a value, mostly of its own kind."""
    if isinstance(value, bool) or value is None or rng.random() < 0.25:
        return rng.choice((None, True, False, 0, -1, "", [], {}, [None], {"": None}, 1e308, PLACEHOLDER))
    if isinstance(value, int | float):
        return rng.choice((-value, 0, value + 1, value * 1000, 0.5, hostile.integer(rng), PLACEHOLDER))
    if isinstance(value, str):
        return rng.choice((hostile.text(rng), value + hostile.text(rng), value[:-1], value.upper(), PLACEHOLDER))
    if isinstance(value, list):
        return rng.choice(
            (value[1:], value + value, value * 500 if len(value) < 100 else value, [value], value[::-1], [])
        )
    return rng.choice(({}, [value], {**value, hostile.text(rng): PLACEHOLDER}, list(value)))


def edit_cell(rng: Random, data: bytes) -> bytes:
    """Change a cell of a table."""
    lines = data.split(b"\n")
    number = rng.randrange(max(1, len(lines) - 1))
    separator = rng.choice((b",", b",", b",", b";", b"\t"))
    cells = lines[number].split(separator)
    wanted = hostile.text(rng).encode()
    quoted = b'"' + wanted.replace(b'"', b'""') + b'"'
    change = rng.choice(("replace", "replace", "remove", "add", "quote", "line"))
    position = rng.randrange(len(cells))
    if change == "replace":
        cells[position] = rng.choice((wanted, quoted))
    elif change == "remove":
        del cells[position]
    elif change == "quote":
        cells[position] = b'"' + cells[position]
    else:
        cells.insert(position, wanted)
    lines[number] = separator.join(cells)
    if change == "line":
        lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return b"\n".join(lines)


def edit_text(rng: Random, data: bytes) -> bytes:
    """Change a number, a line or the words of a text."""
    change = rng.random()
    if change < 0.5 and (found := list(_NUMBER.finditer(data))):
        match = rng.choice(found)
        return data[: match.start()] + rng.choice(hostile.NUMBERS).encode() + data[match.end() :]
    return _edit_line(rng, data)


def edit_header(rng: Random, data: bytes) -> bytes:
    """Change a text header, and leave alone what follows it: the text of NRRD ends at an empty line, MetaImage's at its file."""
    end = re.search(rb"\r?\n\r?\n|ElementDataFile[^\n]*\n", data)
    size = end.end() if end else len(data)
    return edit_text(rng, data[:size]) + data[size:]


def _edit_line(rng: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    number = rng.randrange(len(lines))
    mark = next((mark for mark in (b":=", b":", b"=") if mark in lines[number]), None)
    change = rng.choice(("value", "value", "value", "key", "remove", "repeat", "swap", "longer"))
    if change == "remove":
        del lines[number]
    elif change == "repeat":
        lines.insert(rng.randrange(len(lines) + 1), lines[number])
    elif change == "swap":
        other = rng.randrange(len(lines))
        lines[number], lines[other] = lines[other], lines[number]
    elif change == "longer":
        lines[number] += b" " + rng.choice((b"1", b"0 0", b"none", hostile.text(rng).encode()))
    elif mark is not None:
        key, _, value = lines[number].partition(mark)
        parts = [hostile.text(rng).encode(), value] if change == "key" else [key, b" " + hostile.text(rng).encode()]
        lines[number] = mark.join(parts)
    else:
        lines[number] = hostile.text(rng).encode()
    return b"\n".join(lines)
