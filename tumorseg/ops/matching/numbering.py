"""One numbering for the labels of several datasets, in which their common structures can be told apart."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.matching.common import Common
from tumorseg.ops.matching.spelling import is_telling
from tumorseg.schema.dataset import DatasetDescription, Region

Pattern = frozenset[int]
"""Numbers of the structures that some voxels belong to."""


class Numbering(NamedTuple):
    """Labels and regions of pooled datasets."""

    labels: dict[str, int]
    """Name to value, the background and an ignored label included."""
    regions: tuple[Region, ...]
    """Outer ones first; empty where no two structures overlap."""
    ignore_label: int | None
    values: tuple[dict[int, int], ...]
    """For each dataset, its own label values to those of the pool; what is in no common structure becomes background."""


class _Candidate(NamedTuple):
    """A label that alone makes up a pattern in some dataset."""

    name: str
    value: int


def number_labels(descriptions: Sequence[DatasetDescription], common: Common) -> Numbering:
    """Give each combination of common structures one label.

    Values and names are those of the first dataset that has one label for it, so that its files can stay as they are.

    Args:
        descriptions: the datasets.
        common: their common structures.

    Raises:
        InputError: structures overlap in such ways that regions, painted and read back, would be others.
    """
    sides = [_patterns(values) for values in common.values]
    patterns = list(dict.fromkeys(pattern for side in sides for pattern in side.values()))
    candidates = {pattern: _candidate(pattern, descriptions, sides) for pattern in patterns}
    ignored = next((one for one in descriptions if one.ignore_label is not None), None)
    values = _values(candidates)
    overlap = any(len(pattern) > 1 for pattern in patterns)
    names = _names(common, candidates) if overlap else {pattern: common.names[min(pattern)] for pattern in patterns}
    labels = {"background": 0} | {names[pattern]: values[pattern] for pattern in patterns}
    ignore_label = None if ignored is None else _free(ignored.ignore_label or 0, labels.values())
    if ignored is not None and ignore_label is not None:
        labels[_ignore_name(ignored, labels)] = ignore_label
    maps = []
    for description, side in zip(descriptions, sides, strict=True):
        mapped = {value: values[side[value]] if value in side else 0 for value in description.foreground.values()}
        own_ignore = {} if description.ignore_label is None else {description.ignore_label: ignore_label or 0}
        maps.append({0: 0} | mapped | own_ignore)
    regions = _regions(common, values) if overlap else ()
    return Numbering(labels, regions, ignore_label, tuple(maps))


def _patterns(structures: Sequence[Sequence[int]]) -> dict[int, Pattern]:
    """Return which structures each label value of a dataset belongs to; values of none are left out."""
    found: dict[int, set[int]] = {}
    for number, members in enumerate(structures):
        for value in members:
            found.setdefault(value, set()).add(number)
    return {value: frozenset(found[value]) for value in sorted(found)}


def _candidate(
    pattern: Pattern, descriptions: Sequence[DatasetDescription], sides: Sequence[Mapping[int, Pattern]]
) -> _Candidate | None:
    """Return the label of the first dataset that has just one for a pattern."""
    for description, side in zip(descriptions, sides, strict=True):
        own = [label for label in description.foreground.items() if side.get(label[1]) == pattern]
        if len(own) == 1:
            return _Candidate(*own[0])
    return None


def _values(candidates: Mapping[Pattern, _Candidate | None]) -> dict[Pattern, int]:
    """Return a label value for each pattern, the candidates' own as far as they are free."""
    values: dict[Pattern, int] = {}
    wanted = {pattern: candidate.value if candidate else 0 for pattern, candidate in candidates.items()}
    # Those with a value of their own first, lest a made-up one takes it.
    for pattern in sorted(wanted, key=lambda one: wanted[one] <= 0):
        values[pattern] = _free(wanted[pattern], values.values())
    return values


def _free(wanted: int, taken: Iterable[int]) -> int:
    """Return a value that is wanted, or the least positive one, if it is taken or cannot be painted."""
    used = {0, *taken}
    if wanted > 0 and wanted not in used:
        return wanted
    return next(value for value in count(1) if value not in used)


def _names(common: Common, candidates: Mapping[Pattern, _Candidate | None]) -> dict[Pattern, str]:
    """Return a name of its own for each pattern."""
    names: dict[Pattern, str] = {}
    for pattern, candidate in candidates.items():
        joined = " and ".join(common.names[number] for number in sorted(pattern))
        name = candidate.name if candidate is not None and is_telling(candidate.name) else joined
        names[pattern] = name if name not in ("background", *names.values()) else f"{joined} alone"
    return names


def _ignore_name(description: DatasetDescription, labels: Mapping[str, int]) -> str:
    own = (name for name, value in description.labels.items() if value == description.ignore_label)
    name = next(own, "ignore")
    return name if name not in labels else f"{name} (ignored)"


def _regions(common: Common, values: Mapping[Pattern, int]) -> tuple[Region, ...]:
    """Return the structures as regions in the order in which they are painted."""
    found = []
    for number, pattern in _painting(common, values):
        labels = tuple(sorted(value for one, value in values.items() if number in one))
        found.append(Region(name=common.names[number], labels=labels, value=values[pattern]))
    return tuple(found)


def _painting(common: Common, values: Mapping[Pattern, int]) -> list[tuple[int, Pattern]]:
    """Return the structures in the order of painting, outer ones first, and the pattern that each is painted as.

    Raises:
        InputError: no order restores every pattern when what was painted is read.
    """
    inside = {n: [one for one in values if n in one] for n in range(len(common.names))}
    left, waiting, tops = list(values), list(inside), []
    # From the top down: what covers all that is left of it can only be painted as one pattern, so it must belong to just one.
    while left:
        owners = {n: [one for one in left if n in one] for n in waiting}
        single = [n for n in waiting if len(owners[n]) == 1]
        if not single:
            raise InputError(_unpaintable(common, left))
        top = min(single, key=lambda n: (len(inside[n]), -n))
        tops.append((top, owners[top][0]))
        left.remove(owners[top][0])
        waiting.remove(top)
    # Others paint over all of these; what belongs to fewest other structures tells one best.
    outer = sorted(waiting, key=lambda n: -len(inside[n]))
    below = [(n, min(inside[n], key=lambda one: (len(one), values[one]))) for n in outer]
    return below + tops[::-1]


def _unpaintable(common: Common, patterns: Iterable[Pattern]) -> str:
    found = [" and ".join(common.names[number] for number in sorted(pattern)) for pattern in patterns]
    return (
        f"labels lie in {'; in '.join(found)}: of regions that are painted over each other, one of these would be read back as another, "
        "so that no model could be right; expected structures that lie in or beside each other alike in all datasets; leave one out "
        "with --labels FILE"
    )


def regions_in_common(description: DatasetDescription, common: Common, number: int) -> tuple[Region, ...]:
    """Return the common structures as regions over a dataset's own labels, outer ones first.

    Args:
        description: the dataset.
        common: the structures.
        number: which of their datasets it is.
    """
    patterns = _patterns(common.values[number])
    own = {region.name: region.value for region in description.regions}
    found = []
    for name, members in zip(common.names, common.values[number], strict=True):
        # As the dataset paints it, if it does; else by the label that belongs to fewest other structures.
        outermost = min(members, key=lambda value: (len(patterns[value]), value))
        value = own[name] if own.get(name) in members else outermost
        found.append(Region(name=name, labels=members, value=value))
    return tuple(sorted(found, key=lambda region: -len(region.labels)))
