"""Doubts about labels that were found in files and stated nowhere: one structure written in several ways.

What each case holds is all that is looked at. Nothing is decided here: a person says what is meant.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Literal, NamedTuple

from tumorseg.schema.dataset import LabelDoubt

Label = int | str
"""A label's value, or its name where files know no values."""
FileFault = Literal["lossy", "smeared", "grainy", "crowded"]
"""Why the values of a file are no labels, as `FAULTS` puts it."""
MANY_LABELS = 24
"""Two dozen labels that nothing names are more often numbers of objects, or intensities, than structures."""
FEW_CASES, NEARLY_ALL = 10, 0.9
"""Share of so many cases or more that tells what the rule is, whatever a stray file holds."""
LEAST_GREY = 100
"""Least value that the greatest of some evenly spaced grey levels has; below, even values may be any labels."""
MOST_LISTED = 5
"""Cases or labels that a message lists at most."""

FAULTS: dict[FileFault, tuple[str, str]] = {
    "lossy": (
        "more values than the background and one label in a lossy format (JPEG), which makes up values of its own",
        "write the masks as PNG, TIFF or NIfTI with one value per label",
    ),
    "smeared": (
        "few values and further ones between them along edges, as masks have whose edges were smoothed",
        "if they are such masks, write them without smoothing, such as by a threshold halfway between two values",
    ),
    "grainy": (
        "many values that change from pixel to pixel, as intensities do",
        "put label maps in the place of images",
    ),
    "crowded": (
        "over a thousand values, from which no labels were taken",
        "put label maps in the place of images, and classes in the place of numbered objects",
    ),
}
"""What is found in the label files of some cases, and what to do."""


class Held(NamedTuple):
    """Contents of the label files of one case."""

    case_id: str
    labels: frozenset[Label]
    """Without the background."""
    fault: FileFault | None = None
    """Why they are no labels."""
    has_background: bool = True
    """Whether some voxel is 0."""
    is_flat: bool = False
    """Whether it is a picture, not a volume."""


class _Group(NamedTuple):
    """Cases that hold some of these labels, and none of other groups."""

    labels: frozenset[Label]
    cases: tuple[Held, ...]


def question_labels(cases: Iterable[Held]) -> tuple[LabelDoubt, ...]:
    """Return what speaks against the labels of a dataset.

    Args:
        cases: with labels that were found in files.
    """
    held = list(cases)
    sound = [case for case in held if case.fault is None and case.labels]
    alike = _alike_names(sound)
    return (
        *_faulty_files(held),
        *_spellings(alike, sound),
        *_numbered_objects(sound),
        *_shifted_values(sound),
        *_separate_groups(alike, sound),
    )


def _faulty_files(cases: Sequence[Held]) -> Iterator[LabelDoubt]:
    for fault, (found, advice) in FAULTS.items():
        faulty = [case for case in cases if case.fault == fault]
        if not faulty:
            continue
        values = _labels_of(faulty)
        listed = f" (labels {_called(values)})" if values else ""
        yield _doubt(f"the label files of {_counted(faulty)} hold {found}{listed}; {advice}", faulty)


def _labels_of(cases: Iterable[Held]) -> frozenset[Label]:
    return frozenset[Label]().union(*(case.labels for case in cases))


def _spellings(alike: Sequence[frozenset[str]], cases: Sequence[Held]) -> Iterator[LabelDoubt]:
    for names in alike:
        groups = []
        for name in sorted(names):
            holders = tuple(case for case in cases if name in case.labels)
            groups.append(_Group(frozenset({name}), holders))
        message = (
            f"names that are spelled almost alike may mean one structure: {_listed_groups(groups)}; if they do, give "
            "it one name in all files"
        )
        yield _doubt(message, [case for case in cases if not names.isdisjoint(case.labels)])


def _numbered_objects(cases: Sequence[Held]) -> Iterator[LabelDoubt]:
    """Yield whether the values of pictures count what is in each of them: 1, 2, …, to another end in every file."""
    counted = [case for case in cases if case.is_flat and case.labels == frozenset(range(1, len(case.labels) + 1))]
    ends = {len(case.labels) for case in counted}
    # Other ends alone mean little: some pictures lack the last classes. Only objects are numbered this far.
    if len(counted) == len(cases) and len(ends) > 1 and max(ends) >= MANY_LABELS:
        message = (
            f"the label files of {_counted(counted)} hold the values from 1 to another number each ({min(ends)} to "
            f"{max(ends)}), as where single objects are numbered; write one value per class"
        )
        yield _doubt(message, counted)


def _shifted_values(cases: Sequence[Held]) -> Iterator[LabelDoubt]:
    """Yield whether some files count from 1, the background too, where others count from 0."""
    shifted = [case for case in cases if not case.has_background]
    with_zero, without = _labels_of(case for case in cases if case.has_background), _labels_of(shifted)
    lowered = {label - 1 for label in without if isinstance(label, int)}
    # Their background is 1 and becomes 0, which `labels` of the other files leave out.
    if with_zero and lowered - {0} == with_zero:
        message = (
            f"the label files of {_counted(shifted)} hold no 0 and the values {_called(without)}, those of other cases "
            f"0 and {_called(with_zero)}, as where some count from 1 and others from 0; let the background be 0 in all "
            "files"
        )
        yield _doubt(message, shifted)


def _separate_groups(alike: Sequence[frozenset[str]], cases: Sequence[Held]) -> Iterator[LabelDoubt]:
    """Yield whether cases hold one label each, but not the same, or values of others stretched.

    Such as 1 in some and 255 in others; or 1 and 2 in some, 127 and 255 in others.
    """
    single = [case for case in cases if len(case.labels) == 1]
    is_nearly_all = len(cases) >= FEW_CASES and len(single) >= NEARLY_ALL * len(cases)
    if len(single) == len(cases) or is_nearly_all:
        groups, found = _groups(single, joined=alike), "labelled cases hold one label each, but not all the same"
    else:
        groups, found = _stretched(_groups(cases)), "some cases hold values that are those of others, stretched"
    if len(groups) > 1:
        message = (
            f"{found}: {_listed_groups(groups)}; if these are one structure written in several ways, write it in one "
            "way in all files"
        )
        members = chain.from_iterable(group.cases for group in groups)
        yield _doubt(message, sorted(members, key=_id_of))


def _stretched(groups: Sequence[_Group]) -> list[_Group]:
    """Return the groups whose values are 1, 2, …, n, or these stretched to grey levels, if both exist for some n."""
    for group in groups:
        number = len(group.labels)
        # Single values that never meet are common where cases hold several labels, and mostly sound.
        if number > 1 and group.labels == frozenset(range(1, number + 1)):
            grey = [other for other in groups if len(other.labels) == number and _are_grey_levels(other.labels)]
            return [group, *grey]
    return []


def _are_grey_levels(labels: Collection[Label]) -> bool:
    """Tell whether values lie evenly between 0 and the greatest, such as 127 and 255."""
    values = sorted(label for label in labels if isinstance(label, int))
    if len(values) < len(labels) or values[-1] < LEAST_GREY:
        return False
    step = values[-1] / len(values)
    # Half of 255 is written as 127 or as 128.
    return all(abs(value - number * step) <= 1 for number, value in enumerate(values, start=1))


def _groups(cases: Iterable[Held], *, joined: Iterable[frozenset[str]] = ()) -> list[_Group]:
    """Return which labels are connected by cases that have both, or by being `joined`; the largest group first."""
    groups: list[_Group] = [_Group(frozenset(labels), ()) for labels in joined]
    for case in cases:
        labels, members, apart = case.labels, [case], []
        for group in groups:
            if group.labels.isdisjoint(case.labels):
                apart.append(group)
            else:
                labels |= group.labels
                members += group.cases
        groups = [*apart, _Group(labels, tuple(members))]
    # Labels that were joined beforehand may be in none of these cases.
    found = [_Group(group.labels, tuple(sorted(group.cases, key=_id_of))) for group in groups if group.cases]
    return sorted(found, key=lambda group: (-len(group.cases), _id_of(group.cases[0])))


def _alike_names(cases: Sequence[Held]) -> list[frozenset[str]]:
    """Return names that differ in case, blanks and marks only.

    Or in the order of words, or a last number that one lacks, if no case has both.
    """
    names = sorted(label for label in _labels_of(cases) if isinstance(label, str))
    spelled = _like(names, _letters)
    found = list(spelled)
    # Spellings of one name count as that name: a case with either of them joins the same group.
    found += [group for group in _like(names, _words) if len(_groups(_only(cases, group), joined=spelled)) > 1]
    found += [group for group in _like(names, _stem) if _lack_number(group, cases)]
    largest = []
    for group in dict.fromkeys(found):
        # Part of a larger group would be the same question once more.
        if not any(group < other for other in found):
            largest.append(group)
    return largest


def _like(names: Sequence[str], key: Callable[[str], str]) -> list[frozenset[str]]:
    """Return the names that have a key in common."""
    keys: dict[str, set[str]] = {}
    for name in names:
        # Names of marks alone, such as `?` and `--`, have an empty key, which makes them no more alike.
        keys.setdefault(key(name) or name, set()).add(name)
    return [frozenset(group) for group in keys.values() if len(group) > 1]


def _only(cases: Iterable[Held], names: frozenset[str]) -> list[Held]:
    """Return the cases that have some of the names, without their other labels."""
    return [case._replace(labels=case.labels & names) for case in cases if not names.isdisjoint(case.labels)]


def _lack_number(names: frozenset[str], cases: Iterable[Held]) -> bool:
    """Tell whether some names lack the number that others end in, and no case holds both."""
    # Without a bare name there are only numbers that differ, which mean something: `GTV 1` beside `GTV 2`.
    bare = {name for name in names if _letters(name) == _stem(name)}
    met = any(case.labels & bare and case.labels & (names - bare) for case in cases)
    return 0 < len(bare) < len(names) and not met


def _word_list(name: str) -> list[str]:
    # A plus means something, as in `ER+` beside `ER-`; other marks and blanks part words.
    return re.findall(r"[^\W_]+|\+", unicodedata.normalize("NFKC", name).casefold())


def _letters(name: str) -> str:
    return "".join(_word_list(name))


def _stem(name: str) -> str:
    return _letters(name).rstrip("0123456789")


def _words(name: str) -> str:
    return " ".join(sorted(_word_list(name)))


def _doubt(message: str, cases: Iterable[Held]) -> LabelDoubt:
    return LabelDoubt(message=message, case_ids=tuple(case.case_id for case in cases))


def _counted(cases: Sequence[Held]) -> str:
    """Return cases as text: `3 cases (a, b, c)`."""
    return f"{len(cases)} case{'' if len(cases) == 1 else 's'} ({_listed([case.case_id for case in cases])})"


def _listed_groups(groups: Iterable[_Group]) -> str:
    """Return groups as text: `1 in 3 cases (a, b, c); 255 in 1 case (d)`."""
    return _listed([f"{_called(group.labels)} in {_counted(group.cases)}" for group in groups], between="; ")


def _called(labels: Collection[Label]) -> str:
    """Return labels as text; names in quotes, so that blanks and odd letters show."""
    numbers = sorted(label for label in labels if isinstance(label, int))
    names = sorted(label for label in labels if isinstance(label, str))
    return _listed([*numbers, *map(repr, names)])


def _listed(entries: Sequence[object], between: str = ", ") -> str:
    more = f" and {len(entries) - MOST_LISTED} more" if len(entries) > MOST_LISTED else ""
    return between.join(map(str, entries[:MOST_LISTED])) + more


def _id_of(case: Held) -> str:
    return case.case_id
