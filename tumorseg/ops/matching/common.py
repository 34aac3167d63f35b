"""Structures that several datasets have in common, by name or as a user states them."""

from collections.abc import Collection, Sequence, Set
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.matching.doubts import contradictions
from tumorseg.ops.matching.spelling import spelled
from tumorseg.ops.matching.structures import Structures, has_all_parts, structures_of
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.mapping import LabelMapping

LABELS_ADVICE = "state which labels are the same with --labels FILE"


class Common(NamedTuple):
    """Structures in common."""

    names: tuple[str, ...]
    """As scores call them."""
    values: tuple[tuple[tuple[int, ...], ...], ...]
    """For each dataset and each structure, the label values that make it up, sorted."""
    left_out: tuple[str, ...]
    """What the datasets have besides, one sentence each."""


class Party(NamedTuple):
    """A dataset, and what a mapping may call it."""

    description: DatasetDescription
    keys: tuple[str, ...]
    """The first that a structure of the mapping has counts."""
    title: str
    """What the user knows it by."""


def common_structures(
    descriptions: Sequence[DatasetDescription], *, is_one: bool = False, advice: str = LABELS_ADVICE
) -> Common:
    """Return the structures that all datasets name, as far as their names leave no doubt.

    Regions come before labels; where not all regions are in common, labels that are follow.

    Args:
        descriptions: of two datasets or more.
        is_one: whether the caller knows all to be of one dataset, as by their content. Names of folders do not tell: `data` is many.
        advice: what the user can do where nothing is in common.

    Raises:
        InputError: there are none; the message says what each has.
    """
    tables = [(one.labels, one.regions) for one in descriptions]
    is_same = is_one and all(table == tables[0] for table in tables)
    are_gliomas = all(map(has_all_parts, descriptions))
    sides = [structures_of(one, is_same=is_same, are_gliomas=are_gliomas) for one in descriptions]
    common = set.intersection(*(set(side.values) for side in sides))
    doubts = contradictions(sides, common)
    chosen = _chosen(sides, common - doubts.keys())
    told = [sentence for key, sentence in doubts.items() if any(key in side.own for side in sides)]
    if not chosen:
        raise InputError(f"{_nothing(descriptions, sides, told)}; {advice}")
    values = tuple(tuple(tuple(sorted(side.values[key])) for key in chosen) for side in sides)
    left_out = list(told)
    for side in sides:
        left_out += _left_out(side, chosen, sides, doubts)
    return Common(tuple(chosen.values()), values, tuple(left_out))


def _chosen(sides: Sequence[Structures], common: Set[str]) -> dict[str, str]:
    """Return the keys of the structures in common, and their names."""
    chosen: dict[str, str] = {}
    for side in sorted(sides, key=lambda side: not side.has_regions):
        for key, name in side.own.items():
            if key in common and key not in chosen and name not in chosen.values():
                chosen[key] = name
        # All that one dataset scores is there: what the others call its parts would only say it twice.
        if side.own and set(side.own) <= common:
            break
    return chosen


def _left_out(
    side: Structures, chosen: dict[str, str], sides: Sequence[Structures], doubts: Collection[str]
) -> list[str]:
    """Return what of a dataset is not among the structures in common, in words; of what is in doubt is told elsewhere."""
    told = []
    inside = _wholes(side, chosen)
    lost = [key for key in side.own if key not in chosen and key not in doubts]
    parts = [key for key in lost if set(side.values[key]) <= inside.keys()]
    if merged := [key for key in parts if side.has_regions or not _is_told_apart(side.values[key], inside)]:
        wholes = dict.fromkeys(inside[value][0] for key in merged for value in side.values[key])
        told.append(f"{_names(side, merged)} of {side.dataset}: only as part of {', '.join(wholes)}")
    for key in lost:
        if key not in parts:
            lacking = [other.dataset for other in sides if key not in other.values]
            told.append(
                f"{side.own[key]} of {side.dataset}: {', '.join(lacking) or 'another dataset'} has no such label"
            )
    if side.speechless:
        told.append(f"{', '.join(side.speechless)} of {side.dataset}: the names do not say what they are")
    if side.repeated:
        told.append(f"{', '.join(side.repeated)} of {side.dataset}: the names mean the same")
    return told


def _wholes(side: Structures, chosen: dict[str, str]) -> dict[int, list[str]]:
    """Return the names of the structures in common that each label value is in."""
    found: dict[int, list[str]] = {}
    for key, name in chosen.items():
        for value in side.values[key]:
            found.setdefault(value, []).append(name)
    return found


def _is_told_apart(values: Sequence[int], inside: dict[int, list[str]]) -> bool:
    """Tell whether no other label is in the same structures as a label, as edema is what WT has beside TC."""
    return [wholes for wholes in inside.values() if wholes == inside[values[0]]] == [inside[values[0]]]


def _names(side: Structures, keys: Sequence[str]) -> str:
    return ", ".join(side.own[key] for key in keys)


def _nothing(descriptions: Sequence[DatasetDescription], sides: Sequence[Structures], doubts: Sequence[str]) -> str:
    """Return why datasets have nothing in common."""
    has = [f"{one.name} has {_scored(one)}" for one in descriptions]
    why = "".join(f"; {sentence}" for sentence in doubts)
    if any(side.speechless for side in sides):
        why += "; names such as label_1 do not say what they are, and one number means different things in different datasets"
    return f"found no label or region in common: {'; '.join(has)}{why}; expected one at least"


def _scored(description: DatasetDescription) -> str:
    names = [region.name for region in description.regions] or list(description.foreground)
    return ", ".join(names) or "no label"


def stated_structures(parties: Sequence[Party], stated: LabelMapping) -> Common:
    """Return the structures that a mapping states of all datasets.

    Raises:
        InputError: a dataset has not the labels that it states, or no structure is stated of all.
    """
    names, columns, left_out = [], [], []
    for name, members in stated.structures.items():
        keys = [next((key for key in party.keys if key in members), None) for party in parties]
        if None in keys:
            lacking = [party.title for party, key in zip(parties, keys, strict=True) if key is None]
            left_out.append(f"{name}: the mapping states nothing of {', '.join(lacking)}")
            continue
        names.append(name)
        pairs = zip(parties, keys, strict=True)
        columns.append([_resolved(name, party, members[key or ""]) for party, key in pairs])
    if not names:
        wanted = ", ".join(
            " or ".join(party.keys if party.title in party.keys else party.keys[:1]) for party in parties
        )
        raise InputError(
            f"--labels states no structure of all of {wanted}; it names {', '.join(stated.sides()) or 'none'}; add what is missing"
        )
    return Common(tuple(names), tuple(zip(*columns, strict=True)), tuple(left_out))


def _resolved(structure: str, party: Party, members: Sequence[int | str]) -> tuple[int, ...]:
    """Return the label values that a mapping means."""
    found: set[int] = set()
    description = party.description
    for member in members:
        values = _values_of(member, description)
        if not values:
            known = [f"{name}={value}" for name, value in description.foreground.items()]
            regions = [region.name for region in description.regions]
            raise InputError(
                f"--labels: {structure} names {member!r}, which {party.title} does not have; its labels are "
                f"{', '.join(known) or 'none'}{', its regions ' if regions else ''}{', '.join(regions)}; correct the file"
            )
        found.update(values)
    return tuple(sorted(found))


def _values_of(member: int | str, description: DatasetDescription) -> tuple[int, ...]:
    """Return the values of a label, or of a region; empty where there is no such, or a name is not beyond doubt."""
    labels = description.foreground
    if isinstance(member, int):
        return (member,) if member in labels.values() else ()
    named = {name: (value,) for name, value in labels.items()} | {one.name: one.labels for one in description.regions}
    alike = [values for name, values in named.items() if spelled(name) == spelled(member)]
    return named.get(member) or (alike[0] if len(alike) == 1 else ())
