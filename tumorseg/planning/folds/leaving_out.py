"""Folds that each leave one part of a dataset out, such as a site, with whole patients."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.errors import PlanError
from tumorseg.planning.folds.patients import suggest_patients
from tumorseg.planning.folds.split_lists import Division
from tumorseg.schema.base import parse_record, record_hash
from tumorseg.schema.plan import Plan, Reason


class LeftOut(NamedTuple):
    """A plan that leaves each part out in turn."""

    plan: Plan
    """A child of the one that it was made from."""
    parts: tuple[str, ...]
    """Name of the part that each fold holds out."""


def leave_out(plan: Plan, parts: Mapping[str, str | None], groups: Mapping[str, str | None], *, by: str) -> LeftOut:
    """Return a plan whose folds each hold out one part; all else stays.

    A patient with cases in several parts is kept from the training of each fold that tests on one of them.

    Args:
        plan: of a dataset of which every case is in some part.
        parts: case_id to the part that it is in, of the cases that the plan uses.
        groups: case_id to its patient; where none is stated, ids tell of patients.
        by: what the parts are, such as `site`; becomes part of the plan's name.

    Raises:
        PlanError: a case is in no part, there is only one, or a fold has nothing left to train on.
    """
    names = _names(parts, by)
    stated = {case_id: group for case_id, group in groups.items() if group is not None and case_id in parts}
    patients = stated or suggest_patients(parts)
    folds, kept = [], []
    for name in names:
        held_out = {case_id for case_id, part in parts.items() if part == name}
        tested = {patients[case_id] for case_id in held_out if case_id in patients}
        others = {case_id for case_id, patient in patients.items() if patient in tested} - held_out
        if len(held_out | others) == len(parts):
            raise PlanError(
                f"--leave-out {by}: without {name} and its patients no case is left to train on; expected parts that "
                "have patients of their own"
            )
        folds.append(tuple(sorted(held_out)))
        kept.append(tuple(sorted(others)))
    return LeftOut(_child(plan, Division(tuple(folds), tuple(kept) if any(kept) else ()), names, by), names)


def _names(parts: Mapping[str, str | None], by: str) -> tuple[str, ...]:
    """Return the parts in the order of their names."""
    if unknown := sorted(case_id for case_id, part in parts.items() if not part):
        raise PlanError(
            f"--leave-out {by}: {len(unknown)} cases have no {by}: {', '.join(unknown[:5])}; name it in the manifest"
        )
    names = tuple(sorted({part for part in parts.values() if part}))
    if len(names) < 2:
        raise PlanError(
            f"--leave-out {by}: all cases are of the {by} {', '.join(names) or 'none'}; expected two or more"
        )
    return names


def _child(plan: Plan, division: Division, names: Sequence[str], by: str) -> Plan:
    sizes: dict[str, JsonValue] = {name: len(fold) for name, fold in zip(names, division.folds, strict=True)}
    reason = Reason(
        source="user",
        rule=f"--leave-out {by}: each fold holds out one {by}, and trains on no patient of it",
        inputs=sizes,
        alternative=f"the folds of {plan.name}",
    )
    reasons = {field: found for field, found in plan.reasons.items() if field not in ("folds", "kept_from_training")}
    reasons["folds"] = reason
    if division.kept_from_training:
        rule = f"--leave-out {by}: a patient that a fold tests on is not trained on either, wherever its cases are"
        counts: list[JsonValue] = [len(cases) for cases in division.kept_from_training]
        reasons["kept_from_training"] = Reason(source="user", rule=rule, inputs={"num_cases": counts})
    fields = {field: getattr(plan, field) for field in Plan.model_fields}
    fields |= {
        "name": f"{plan.name}__leave_out_{by}",
        "parent": record_hash(plan),
        "folds": division.folds,
        "kept_from_training": division.kept_from_training,
        "reasons": reasons,
    }
    return parse_record(Plan, fields, source=f"--leave-out {by}", error=PlanError)
