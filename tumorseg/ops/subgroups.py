"""Cases split by what is known of them: by a column of a manifest, or by the size of the target."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.schema.metrics import CaseMetrics

SIZE = "reference_volume_ml"
"""Column of the target's size, which every scored case has, and which is its own for each label."""
CATEGORIES = ("site", "group")
"""Columns whose values are names even where all look like numbers."""
MOST_VALUES = 20
"""Of a column of text; more are a name for each case rather than subgroups."""
_FEW_NUMBERS = 5
"""Different numbers up to which each is a subgroup."""

Attributes = Mapping[str, Mapping[str, str]]
"""Case to column to value."""


class Subgroups(NamedTuple):
    """Scored cases by their value of one column."""

    column: str
    groups: dict[str, list[CaseMetrics]]
    """Value, or range of values, to cases and labels, in the order of the values."""
    rule: str
    """How they were told apart, in words."""
    num_left_out: int
    """Cases without a value, which are in no group."""


class _Cut(NamedTuple):
    """Edges of ranges, and what these are called."""

    edges: Sequence[float]
    names: Sequence[str]
    side: str
    """Of which range a value at the edge is: `left` the lower, `right` the upper."""

    @property
    def absent(self) -> str:
        """Return what comes before all ranges."""
        return f"{0:0{_width(len(self.names))}}: absent"

    def place(self, value: float) -> str:
        """Return the name of the range of a value."""
        return self.names[sum(value > edge or (self.side == "right" and value == edge) for edge in self.edges)]


def split(cases: Sequence[CaseMetrics], attributes: Attributes, column: str) -> Subgroups:
    """Split scored cases by one column.

    Text makes a subgroup of each value. Numbers of more than five values are cut into thirds of the cases, or at edges that are stated;
    `reference_volume_ml` for each label by itself, and cases where the structure is absent are a group of their own.

    Args:
        cases: of any labels.
        attributes: what is known of them.
        column: its name, or `name=edge,edge,…` with rising edges; an edge belongs to the range above it.

    Raises:
        InputError: no case has the column, it has too many values, or edges do not fit it.
    """
    name, edges = _read(column)
    if name == SIZE:
        return _by_size(cases, edges)
    values = {case_id: found[name] for case_id, found in attributes.items() if found.get(name)}
    # Only what was scored: other cases must not move the thirds.
    ids = dict.fromkeys(case.case_id for case in cases)
    known = {case_id: values[case_id] for case_id in ids if case_id in values}
    if ids and not known:
        raise InputError(f"no case has a value of {name!r}; {_offered(attributes)}")
    names, rule = _names(name, known, edges)
    groups = _gather(cases, [names.get(case.case_id) for case in cases])
    return Subgroups(name, groups, rule, len(ids) - len(known))


def split_by(cases: Sequence[CaseMetrics], attributes: Attributes, columns: Sequence[str]) -> list[Subgroups]:
    """Split scored cases by each of some columns, as `split` does by one.

    Raises:
        InputError: a column is named twice, or makes no subgroups.
    """
    found: dict[str, Subgroups] = {}
    for column in columns:
        groups = split(cases, attributes, column)
        if groups.column in found:
            raise InputError(
                f"subgroups by {groups.column!r} are asked for twice ({', '.join(columns)}); expected each column once"
            )
        found[groups.column] = groups
    return list(found.values())


def _read(column: str) -> tuple[str, tuple[float, ...]]:
    name, _, words = column.partition("=")
    if not words:
        return name, ()
    try:
        edges = tuple(float(word) for word in words.split(","))
    except ValueError:
        raise InputError(f"found {column!r}; expected a column, or a column and its edges such as age=40,60") from None
    if not all(low < high for low, high in itertools.pairwise(edges)) or not all(map(math.isfinite, edges)):
        raise InputError(f"found {column!r}; expected edges that rise, such as age=40,60")
    return name, edges


def _by_size(cases: Sequence[CaseMetrics], edges: tuple[float, ...]) -> Subgroups:
    cuts, rules = {}, []
    for label in dict.fromkeys(case.label for case in cases):
        found = [case.reference_volume_ml for case in cases if case.label == label]
        sizes = [size for size in found if size]
        cut = _cut(sizes, edges, ("smallest", "largest"))
        cuts[label] = cut
        rules.append(f"{label} at {_list(cut.edges)} ml")
    places = [_size_place(case.reference_volume_ml, cuts[case.label]) for case in cases]
    if cases and not any(places):
        raise InputError(f"no case has a value of {SIZE!r}: the table does not say how large structures are")
    rule = f"By volume of the reference, cut for {'; '.join(rules)}; absent where it is 0"
    unknown = {case.case_id for case, place in zip(cases, places, strict=True) if place is None}
    return Subgroups(SIZE, _gather(cases, places), rule, len(unknown))


def _size_place(size: float | None, cut: _Cut) -> str | None:
    """Return the range of a volume; None where a table does not say it."""
    if size is None:
        return None
    return cut.place(size) if size > 0 else cut.absent


def _names(name: str, known: Mapping[str, str], edges: tuple[float, ...]) -> tuple[dict[str, str], str]:
    """Return the subgroup of each case, and how they were told apart."""
    numbers = {case_id: _number(value) for case_id, value in known.items()}
    values = [number for number in numbers.values() if number is not None]
    is_numeric = len(values) == len(known) and name not in CATEGORIES
    if edges and not is_numeric:
        raise InputError(f"column {name!r} is no column of numbers, so that it has no edges; give its name alone")
    distinct = set(known.values())
    if not edges and (not is_numeric or len(set(values)) <= _FEW_NUMBERS):
        if len(distinct) > MOST_VALUES:
            raise InputError(
                f"column {name!r} has {len(distinct)} different values; subgroups are at most {MOST_VALUES}; name another column, or one "
                "that joins some of them"
            )
        return dict(known), f"By value of {name}"
    cut = _cut(values, edges, ("lowest", "highest"))
    named = {case_id: cut.place(number) for case_id, number in numbers.items() if number is not None}
    return named, f"By {name}, cut at {_list(cut.edges)}"


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _cut(values: Sequence[float], edges: tuple[float, ...], ends: tuple[str, str]) -> _Cut:
    """Return ranges between stated edges, or thirds of some values; numbers in front keep their order in any list."""
    if edges:
        between = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)]
        names = [f"below {edges[0]:g}", *between, f"{edges[-1]:g} or more"]
        width = _width(len(names))
        return _Cut(edges, [f"{place:0{width}}: {name}" for place, name in enumerate(names, 1)], "right")
    thirds = [f"1: {ends[0]} third", "2: middle third", f"3: {ends[1]} third"]
    found = np.quantile(values, (1 / 3, 2 / 3)).tolist() if values else []
    return _Cut(found, thirds, "left")


def _width(num_ranges: int) -> int:
    """Return with how many digits ranges are numbered, so that 10 does not come before 2 where names are sorted, as in JSON."""
    return len(str(num_ranges))


def _gather(cases: Sequence[CaseMetrics], places: Iterable[str | None]) -> dict[str, list[CaseMetrics]]:
    groups: dict[str, list[CaseMetrics]] = {}
    for case, place in zip(cases, places, strict=True):
        if place is not None:
            groups.setdefault(place, []).append(case)
    return dict(sorted(groups.items(), key=lambda item: _order(item[0])))


def _order(name: str) -> tuple[bool, float, str]:
    """Return what groups are sorted by: numbers by their size, before any text."""
    number = _number(name)
    return number is None, 0.0 if number is None else number, name


def _list(edges: Sequence[float]) -> str:
    return " and ".join(f"{edge:.4g}" for edge in edges) or "no edge"


def _offered(attributes: Attributes) -> str:
    columns = dict.fromkeys((*(name for found in attributes.values() for name in found), SIZE))
    return f"expected one of {', '.join(columns)}"


def by_label(cases: Iterable[CaseMetrics]) -> dict[str, list[CaseMetrics]]:
    """Return the scores of each label or region, in the order in which these first appear."""
    found: dict[str, list[CaseMetrics]] = {}
    for case in cases:
        found.setdefault(case.label, []).append(case)
    return found
