"""Cross-validation folds.

References:
    The same cases as nnU-Net, which calls scikit-learn's `KFold(5, shuffle=True, random_state=12345)` on sorted
    case_ids.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from tumorseg.errors import PlanError
from tumorseg.planning.folds.patients import suggest_patients
from tumorseg.planning.folds.stratification import stratify
from tumorseg.schema.fingerprint import CaseMeasurement
from tumorseg.schema.planned_dataset import CaseLists
from tumorseg.types import FloatArray

NUM_FOLDS = 5
SEED = 12345


def split_folds(groups: Mapping[str, str | None], num_folds: int = NUM_FOLDS) -> CaseLists:
    """Return the held-out case_ids of each fold; fewer folds than asked for if there are fewer groups.

    Cases of one group stay together. A single group cannot be held out: no folds, only `--fold all`.

    Args:
        groups: each case_id's group; a case without one is a group of its own.
        num_folds: folds at most.
    """
    ordered = _whole_groups(groups)
    count = min(num_folds, len(ordered))
    if count < 2:
        return ()
    folds = []
    # The first parts take what does not divide, as scikit-learn's do.
    for part in np.array_split(_shuffled(len(ordered)), count):
        members = chain.from_iterable(ordered[index] for index in part)
        folds.append(tuple(sorted(members)))
    return tuple(folds)


def _whole_groups(groups: Mapping[str, str | None]) -> list[list[str]]:
    """Return the case_ids of each group; those without one are groups of their own and come first."""
    members: dict[tuple[bool, str], list[str]] = {}
    for case_id, group in sorted(groups.items()):
        # The flag also keeps a group apart from a case that is called like it.
        members.setdefault((group is not None, group or case_id), []).append(case_id)
    return [members[key] for key in sorted(members)]


def _shuffled(count: int) -> list[int]:
    indices = np.arange(count)
    # The old generator, not `default_rng`: it is the one that scikit-learn shuffles with.
    np.random.RandomState(SEED).shuffle(indices)
    return indices.tolist()


def split_stratified(cases: Sequence[CaseMeasurement], num_folds: int = NUM_FOLDS) -> CaseLists:
    """Return folds that hold out like numbers of cases, of cases with each label, and of small to large ones of it.

    Cases of one group stay together; fewer folds than asked for if there are fewer groups.

    Args:
        cases: measured, with `label_voxels`.
        num_folds: folds at most.

    Raises:
        PlanError: the fingerprint does not say which labels a case has.
    """
    if unknown := [case.case_id for case in cases if case.label_voxels is None]:
        raise PlanError(
            f"--splits stratified: the fingerprint has no label_voxels of {len(unknown)} cases "
            f"({', '.join(unknown[:5])}); measure the dataset anew, or leave the option out"
        )
    units = _whole_groups({case.case_id: case.group for case in cases})
    count = min(num_folds, len(units))
    if count < 2:
        return ()
    row_of = dict(zip((case.case_id for case in cases), _label_table(cases), strict=True))
    rows = []
    for unit in units:
        rows.append(np.sum([row_of[case_id] for case_id in unit], axis=0))
    held_out: list[list[str]] = [[] for _ in range(count)]
    for unit, fold in zip(units, stratify(np.stack(rows), count, _shuffled(len(units))), strict=True):
        held_out[fold] += unit
    return tuple(tuple(sorted(fold)) for fold in held_out)


def _label_table(cases: Sequence[CaseMeasurement]) -> FloatArray:
    """Return a row for each case: 1; for each label whether it is there, and whether it is small, medium or large."""
    counts = [case.label_voxels or {} for case in cases]
    names = sorted(set[str]().union(*counts))
    voxels = np.zeros((len(cases), len(names)))
    for row, held in enumerate(counts):
        voxels[row] = [held.get(name, 0) for name in names]
    volumes = voxels * np.array([np.prod(case.spacing_mm) for case in cases])[:, None]
    columns = [np.ones(len(cases))]
    for volume in volumes.T:
        is_there = volume > 0
        # Of the cases that hold the label: the others are all smallest, and would fill the first third.
        bounds = np.quantile(volume[is_there], (1 / 3, 2 / 3)) if volume.any() else (0.0, 0.0)
        third = np.searchsorted(bounds, volume)
        columns += [is_there, *(is_there & (third == number) for number in range(3))]
    return np.stack(columns, axis=1).astype(np.float64)


def split_whole_sites(cases: Sequence[CaseMeasurement]) -> CaseLists:
    """Return five folds of whole sites, fewer for fewer sites.

    Raises:
        PlanError: a case has no site, or there is only one.
    """
    sites = {case.case_id: case.site for case in cases}
    _check_sites(sites, "whole-sites")
    return split_folds(sites)


def _split_groups(cases: Sequence[CaseMeasurement]) -> CaseLists:
    """Return folds of whole groups: those that the dataset states, else those that ids suggest."""
    groups = {case.case_id: case.group for case in cases}
    if not any(groups.values()):
        groups |= suggest_patients(groups)
    if not any(groups.values()):
        raise PlanError("--splits group: no case has a group; name it in the manifest, or leave the option out")
    return split_folds(groups)


def split_sites(sites: Mapping[str, str | None]) -> CaseLists:
    """Return one fold per site, in the order of their names: each holds out all cases of its site.

    Args:
        sites: each case_id's site.

    Raises:
        PlanError: a case has no site, or there is only one.
    """
    names = _check_sites(sites, "site")
    folds = []
    for name in names:
        folds.append(tuple(sorted(case_id for case_id, site in sites.items() if site == name)))
    return tuple(folds)


def _check_sites(sites: Mapping[str, str | None], choice: str) -> list[str]:
    """Return the names of the sites."""
    if unknown := sorted(case_id for case_id, site in sites.items() if site is None):
        raise PlanError(
            f"--splits {choice}: {len(unknown)} cases have no site: {', '.join(unknown[:5])}; name it in the manifest"
        )
    names = sorted({site for site in sites.values() if site is not None})
    if len(names) < 2:
        raise PlanError(f"--splits {choice}: all cases are of the site {', '.join(names)}; leave the option out")
    return names


class NamedSplit(NamedTuple):
    """A way to split that has a name."""

    rule: str
    """What the plan says of it."""
    split: Callable[[Sequence[CaseMeasurement]], CaseLists]


NAMED_SPLITS = {
    "group": NamedSplit("five folds of whole groups", _split_groups),
    "site": NamedSplit(
        "each holds out one site", lambda cases: split_sites({case.case_id: case.site for case in cases})
    ),
    "whole-sites": NamedSplit("five folds of whole sites", split_whole_sites),
    "stratified": NamedSplit(
        "five folds with like numbers of cases, of cases with each label, and of small, medium and large ones of it",
        split_stratified,
    ),
}
"""What `--splits` knows by name."""
