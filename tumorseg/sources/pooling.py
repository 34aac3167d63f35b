"""Several datasets as one: channels and labels that all have, under one name each."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.matching.channels import common_channels, kind_of
from tumorseg.ops.matching.common import Common, Party, common_structures, stated_structures
from tumorseg.ops.matching.numbering import Numbering, number_labels
from tumorseg.schema.base import parse_record
from tumorseg.schema.codes import LabelCode
from tumorseg.schema.dataset import Case, Channel, Dataset, DatasetDescription, Reading, repeated_values
from tumorseg.schema.mapping import LabelMapping
from tumorseg.sources.regions import select_channels
from tumorseg.sources.shared_files import require_files_of_their_own

logger = logging.getLogger(__name__)

DATASET = "dataset"
"""Column of a pool's cases: the dataset that they come from."""
OWN_DATASET = "own_dataset"
"""Column of a pool's cases: what a dataset's own column `dataset` said."""


class Member(NamedTuple):
    """One dataset of a pool."""

    dataset: Dataset
    """With the channels in common only, in the pool's order, and cases as the pool calls them."""
    channels: dict[str, str]
    """Name of each channel in the pool to the dataset's own."""
    dropped: tuple[str, ...]
    """Its other channels."""
    values: dict[int, int]
    """Its own label values to the pool's."""

    @property
    def keeps_labels(self) -> bool:
        """Return whether label files mean in the pool what they mean in the dataset."""
        return all(own == value for own, value in self.values.items())


class Pool(NamedTuple):
    """Datasets in one."""

    description: DatasetDescription
    members: tuple[Member, ...]
    left_out: tuple[str, ...]
    """What cannot be mapped, one sentence each."""


def pool_datasets(name: str, datasets: Sequence[Dataset], stated: LabelMapping | None = None) -> Pool:
    """Return several datasets as one.

    Channels are called as in the first dataset. Case ids that stand in several datasets, and all groups and sites, begin with their
    dataset's name; a case without site has that for its site. The column `dataset` names it; a dataset's own one is called `own_dataset`.

    Args:
        name: of the pool.
        datasets: at least two.
        stated: labels that are the same, by the datasets' names; by name of the label where nothing is stated.

    Raises:
        InputError: the datasets have no channel or no label in common, share an image, or are read in ways that one manifest cannot
            state.
    """
    named = _with_names(datasets)
    require_files_of_their_own(named)
    matches = common_channels([one.description() for one in named])
    common = _common(named, stated)
    numbering = number_labels([one.description() for one in named], common)
    fields = {
        "name": name,
        "channels": _joint_channels(named, matches),
        "labels": numbering.labels,
        "optional_labels": _optional(named, numbering),
        "regions": numbering.regions,
        "ignore_label": numbering.ignore_label,
        "reading": _joint_reading(named, matches),
        "codes": _joint_codes(named, numbering),
    }
    description = parse_record(DatasetDescription, fields, source=f"pool {name}", error=InputError)
    cases = _joint_cases(named)
    members = []
    for number, (one, match) in enumerate(zip(named, matches, strict=True)):
        chosen = select_channels(one.changed(cases=cases[number]), list(match.values()))
        dropped = tuple(channel.name for channel in one.channels if channel.name not in match.values())
        members.append(Member(chosen, match, dropped, numbering.values[number]))
    return Pool(description, tuple(members), common.left_out)


def _common(datasets: Sequence[Dataset], stated: LabelMapping | None) -> Common:
    descriptions = [one.description() for one in datasets]
    if stated is None:
        return common_structures(descriptions)
    return stated_structures([Party(one, (one.name,), one.name) for one in descriptions], stated)


def _with_names(datasets: Sequence[Dataset]) -> list[Dataset]:
    """Return datasets of which no two have one name."""
    found: list[Dataset] = []
    used: set[str] = set()
    for one in datasets:
        name = _free(one.name, used)
        found.append(one if name == one.name else one.changed(name=name))
    return found


def _free(name: str, used: set[str]) -> str:
    """Return a name that is not used yet, and note it."""
    number, free = 1, name
    while free in used:
        number += 1
        free = f"{name}_{number}"
    used.add(free)
    return free


def _joint_channels(datasets: Sequence[Dataset], matches: Sequence[Mapping[str, str]]) -> tuple[Channel, ...]:
    """Return the channels of a pool: what one dataset does not state of them, another may."""
    joint = []
    for name in matches[0]:
        alike = [_channel(one, match[name]) for one, match in zip(datasets, matches, strict=True)]
        kinds = sorted({kind for channel in alike if (kind := kind_of(channel)) not in (None, "other")})
        if len(kinds) > 1:
            raise InputError(
                f"channel {name} is {' in one dataset and '.join(map(str, kinds))} in another; expected one kind; rename one"
            )
        outside = {channel.outside_value for channel in alike}
        # Left to be decided where datasets disagree.
        value = next(iter(outside)) if len(outside) == 1 else None
        joint.append(Channel(name=name, kind=kinds[0] if kinds else alike[0].kind, outside_value=value))
    return tuple(joint)


def _channel(dataset: Dataset, name: str) -> Channel:
    return next(channel for channel in dataset.channels if channel.name == name)


def _joint_reading(datasets: Sequence[Dataset], matches: Sequence[Mapping[str, str]]) -> Reading:
    """Return how files of a pool are read.

    Structures that overlap are painted when its label files are written, so that no order is left to be stated.
    """
    orientations = {one.reading.assumed_orientation for one in datasets}
    if len(orientations) > 1:
        has = [f"{one.name} {one.reading.assumed_orientation or 'nothing'}" for one in datasets]
        raise InputError(
            f"files without orientation are taken for different ones: {', '.join(has)}; one manifest states one for all; write "
            "headers that state it with `tumorseg data import --to manifest`, and merge the result"
        )
    grids = set()
    for one, match in zip(datasets, matches, strict=True):
        own = {name: pooled for pooled, name in match.items()}
        grids.add(own.get(one.reading.grid_channel or ""))
    # Where they differ, the grid that each label lies on counts.
    grid = next(iter(grids)) if len(grids) == 1 else None
    return Reading(assumed_orientation=next(iter(orientations)), grid_channel=grid)


def _optional(datasets: Sequence[Dataset], numbering: Numbering) -> tuple[str, ...]:
    """Return the labels that may be in no case: those made up of such alone."""
    needed: set[int] = set()
    for one, values in zip(datasets, numbering.values, strict=True):
        needed.update(values[value] for name, value in one.foreground.items() if name not in one.optional_labels)
    spared = (0, numbering.ignore_label, *needed)
    return tuple(name for name, value in numbering.labels.items() if value not in spared)


def _joint_codes(datasets: Sequence[Dataset], numbering: Numbering) -> dict[str, LabelCode]:
    """Return the coded terms of a pool's labels: those on which the datasets agree that have one label for them, and a code for that."""
    stated: dict[int, list[LabelCode]] = {}
    for one, values in zip(datasets, numbering.values, strict=True):
        count = Counter(values.values())
        for name, code in one.codes.items():
            # Of several labels that the pool joins, none says what they are together.
            if count[values[one.labels[name]]] == 1:
                stated.setdefault(values[one.labels[name]], []).append(code)
    agreed = {value: codes[0] for value, codes in stated.items() if all(code == codes[0] for code in codes)}
    return {name: agreed[value] for name, value in numbering.labels.items() if value in agreed and value != 0}


def _joint_cases(datasets: Sequence[Dataset]) -> list[tuple[Case, ...]]:
    """Return the cases of each dataset as a pool calls them."""
    ids = [case.case_id for one in datasets for case in one.cases]
    shared = set(repeated_values(ids))
    # Ids that stay as they are go first, so that none of the new ones takes them.
    new_id = _namer({case_id for case_id in ids if case_id not in shared})
    new_group, new_site = _namer(set()), _namer({one.name for one in datasets})
    renamed = _own_column(datasets)
    joint = []
    for one in datasets:
        cases = []
        for case in one.cases:
            columns = {renamed if name == DATASET else name: text for name, text in case.columns.items()}
            changes = {
                "case_id": new_id(one.name, case.case_id) if case.case_id in shared else case.case_id,
                "group": None if case.group is None else new_group(one.name, case.group),
                "site": one.name if case.site is None else new_site(one.name, case.site),
                "columns": {**columns, DATASET: one.name},
            }
            fields = {field: getattr(case, field) for field in Case.model_fields}
            cases.append(parse_record(Case, fields | changes, source=one.name, error=InputError))
        joint.append(tuple(sorted(cases, key=lambda case: case.case_id)))
    return joint


def _own_column(datasets: Sequence[Dataset]) -> str:
    """Return what a pool calls the column `dataset` that datasets have themselves, such as pools that are pooled again."""
    used = {name for one in datasets for case in one.cases for name in case.columns}
    own = _free(OWN_DATASET, used)
    if DATASET in used:
        logger.warning("the datasets' own column %s is called %s in the pool", DATASET, own)
    return own


def _namer(used: set[str]) -> Callable[[str, str], str]:
    """Return what names a thing of a dataset, each one differently, the same one alike."""
    known: dict[tuple[str, str], str] = {}

    def name_of(dataset: str, own: str) -> str:
        key = (dataset, own)
        if key not in known:
            known[key] = _free(f"{dataset}-{own}", used)
        return known[key]

    return name_of
