"""Which cases trials see: none of those that judge in the end, and patients as wholes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from tumorseg.errors import PlanError
from tumorseg.planning.folds.patients import suggest_patients
from tumorseg.planning.folds.splits import split_folds, split_stratified
from tumorseg.schema.fingerprint import CaseMeasurement
from tumorseg.schema.plan import Plan
from tumorseg.schema.planned_dataset import CaseLists
from tumorseg.schema.tuning import InnerSplit

NUM_PARTS = 4
"""One of so many parts is scored; fewer where parts would be too small."""
LEAST_SCORED = 2
"""Cases below which a mean says nothing."""
LEAST_PATIENTS = 2
"""Patients below which there is nothing to learn from."""


class SplitRules(NamedTuple):
    """What the cases of trials are chosen by."""

    judges: tuple[int, ...]
    """Folds whose held-out cases judge in the end."""
    most_cases: int
    """Cases at most that trials are scored on."""
    seed: int
    """Decides which they are."""
    spared: tuple[int, ...] = ()
    """Folds whose held-out cases enter no trial either, and judge nothing."""


def patients_of(groups: Mapping[str, str | None]) -> dict[str, str]:
    """Return the patient of each case that has one: as the dataset states them, else as case ids suggest.

    Args:
        groups: of all cases of a dataset, by case_id.
    """
    stated = {case_id: group for case_id, group in groups.items() if group is not None}
    return stated or suggest_patients(groups)


def inner_split(
    plan: Plan, groups: Mapping[str, str | None], rules: SplitRules, measured: Sequence[CaseMeasurement] = ()
) -> InnerSplit:
    """Return the cases that trials train on, and those that they are scored on: about a quarter.

    What a fold that judges or is spared holds out or keeps from its training is in neither list, and nor is any other case of such a
    patient. Patients of whom no case is scored, as there would be too many, are trained on. All cases in neither list are kept from both.

    Args:
        plan: with its folds.
        groups: of all cases of the dataset that the plan uses, by case_id.
        rules: what counts.
        measured: cases of the fingerprint; where it counts the voxels of their labels, both lists hold similar shares of these.

    Raises:
        PlanError: there are no such folds, or too few cases are left.
    """
    _check_folds(plan, rules)
    patients = patients_of(groups)
    free = _free_cases(plan, groups, patients, rules)
    parts = _parts(free, patients, measured)
    # Any part would do; a small dataset may leave only some that have enough on both sides.
    for number in np.random.default_rng(rules.seed).permutation(len(parts)).tolist():
        others = chain.from_iterable(part for other, part in enumerate(parts) if other != number)
        split = _thinned(InnerSplit(training=tuple(sorted(others)), scored=parts[number]), patients, rules)
        if len(split.scored) >= LEAST_SCORED and _num_patients(split.training, patients) >= LEAST_PATIENTS:
            kept = groups.keys() - {*split.training, *split.scored}
            return split.changed(kept=tuple(sorted(kept)))
    raise PlanError(
        f"plan {plan.name}: outside the folds that judge or are spared {len(free)} cases of {_num_patients(free, patients)} patients are left, "
        f"expected {LEAST_PATIENTS} patients to train on and {LEAST_SCORED} cases of others to score; name fewer folds, or tune on more cases"
    )


def _check_folds(plan: Plan, rules: SplitRules) -> None:
    named = (*rules.judges, *rules.spared)
    if not plan.folds:
        raise PlanError(
            f"plan {plan.name} has no folds, so that no case could judge; plan a dataset of several cases, with folds"
        )
    if unknown := sorted(set(named) - set(range(len(plan.folds)))):
        raise PlanError(
            f"plan {plan.name} has no fold {unknown[0]}; it has folds 0 to {len(plan.folds) - 1}; name others to judge or to spare"
        )
    if not rules.judges:
        raise PlanError("no fold judges; name one at least, whose held-out cases no trial sees")
    if len(set(named)) < len(named):
        twice = next(number for number in named if named.count(number) > 1)
        raise PlanError(f"fold {twice} is named twice among those that judge or are spared; name it once")


def _free_cases(
    plan: Plan, groups: Mapping[str, str | None], patients: Mapping[str, str], rules: SplitRules
) -> list[str]:
    """Return the cases that neither judge nor are spared, themselves or by their patient, sorted."""
    shut = set[str]().union(*(plan.not_trained_on(number) for number in (*rules.judges, *rules.spared)))
    shut_patients = {patients[case_id] for case_id in shut if case_id in patients}
    return [case_id for case_id in sorted(groups) if case_id not in shut and patients.get(case_id) not in shut_patients]


def _parts(free: Sequence[str], patients: Mapping[str, str], measured: Sequence[CaseMeasurement]) -> CaseLists:
    """Return parts of whole patients, none if there is only one."""
    num_parts = min(NUM_PARTS, max(2, _num_patients(free, patients) // LEAST_SCORED))
    known = {case.case_id: case for case in measured if case.label_voxels is not None}
    if known.keys() >= set(free):
        return split_stratified([known[one].changed(group=patients.get(one)) for one in free], num_parts)
    return split_folds({case_id: patients.get(case_id) for case_id in free}, num_parts)


def _thinned(split: InnerSplit, patients: Mapping[str, str], rules: SplitRules) -> InnerSplit:
    """Return the split with no more scored cases than may be: of as many patients as possible."""
    if len(split.scored) <= rules.most_cases:
        return split
    seen: Counter[tuple[bool, str]] = Counter()
    turns: list[tuple[int, int, str]] = []
    for case_id in np.random.default_rng(rules.seed).permutation(split.scored).tolist():
        # One case of each patient comes before the second of any.
        turns.append((seen[_patient(case_id, patients)], len(turns), case_id))
        seen[_patient(case_id, patients)] += 1
    scored = sorted(case_id for *_, case_id in sorted(turns)[: rules.most_cases])
    scored_patients = {_patient(case_id, patients) for case_id in scored}
    unscored = [case_id for case_id in split.scored if _patient(case_id, patients) not in scored_patients]
    return InnerSplit(training=tuple(sorted((*split.training, *unscored))), scored=tuple(scored))


def _patient(case_id: str, patients: Mapping[str, str]) -> tuple[bool, str]:
    """Return what tells patients apart; a case without one is its own, and no patient that is called like it."""
    return case_id in patients, patients.get(case_id, case_id)


def _num_patients(case_ids: Sequence[str], patients: Mapping[str, str]) -> int:
    return len({_patient(case_id, patients) for case_id in case_ids})
