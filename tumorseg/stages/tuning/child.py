"""The child plan: the plan that was refined, with the values that gained or with its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from tumorseg.errors import PlanError
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.totals import predict_memory
from tumorseg.planning.options import check_plan_name
from tumorseg.schema.base import parse_record, record_hash
from tumorseg.schema.fields import values_at
from tumorseg.schema.plan import Plan, Reason
from tumorseg.schema.tuning import TuningResult, Verdict
from tumorseg.stages.planning.written_plans import Place, write_plan
from tumorseg.tuning.soundness import check_changed
from tumorseg.tuning.trial_plans import with_values

RULE = "of the trial that gained most on cases that no trial has seen (reasons.parent)"
"""Why a field has a trial's value."""


def child_path(plan: Path) -> Path:
    """Return where the child of a plan is written unless stated otherwise: beside it."""
    return plan.with_name(f"{plan.stem}__tuned.json")


def write_child(
    parent: Plan, result: TuningResult, *, place: Place, counter: MemoryCounter, force: bool = False
) -> Plan:
    """Write the child plan of a study, and return it.

    Args:
        parent: the plan that was refined.
        result: what the study found.
        place: where to, the dataset's work folder, and the parent's file.
        counter: of memory; that of the trials knows the plan already.
        force: whether any file may be replaced.

    Raises:
        PlanError: the plan is unsound, or the file was edited or is another's.
        StorageError: it cannot be written.
    """
    child = child_plan(parent, result, name=place.output.stem, counter=counter)
    write_plan(child, place, force=force)
    return child


def child_plan(parent: Plan, result: TuningResult, *, name: str, counter: MemoryCounter) -> Plan:
    """Return the child plan: with the chosen trial's values, each with its evidence, or with the parent's own.

    Args:
        parent: the plan that was refined.
        result: what the study found.
        name: of the child, the stem of its file.
        counter: of memory.

    Raises:
        PlanError: the name is none of a file, or the plan is unsound.
    """
    check_plan_name(name)
    content = parent if result.chosen is None else _tuned(parent, result, result.chosen)
    fields = {field: getattr(content, field) for field in Plan.model_fields}
    fields |= {
        "name": name,
        "parent": record_hash(parent),
        "reasons": {**content.reasons, "parent": _reason_of_all(result)},
    }
    child = parse_record(Plan, fields, source=name, error=PlanError)
    if result.chosen is not None:
        child = _counted(child, parent, counter)
    check_changed(child, parent)
    return child


def _tuned(parent: Plan, result: TuningResult, chosen: int) -> Plan:
    """Return the parent with a trial's values, and a reason for each that changed something."""
    values = next(one.values for one in result.judged if one.number == chosen)
    verdict = _verdict(result, chosen)
    changed = with_values(parent, result.study.configuration, values)
    before, after = (plan.model_dump(mode="json", exclude={"reasons"}) for plan in (parent, changed))
    reasons = {}
    for field, reason in changed.reasons.items():
        known = parent.reasons.get(field)
        is_same = list(values_at(before, field.split("."))) == list(values_at(after, field.split(".")))
        if reason == known or reason.source != "user":
            reasons[field] = reason
        elif not is_same:
            reasons[field] = _reason(field, before, after, _evidence(result, verdict))
        elif known is not None:
            # Set only to hold its value against a change around it.
            reasons[field] = known
    return changed.changed(reasons=reasons)


def _reason(field: str, before: Mapping[str, Any], after: Mapping[str, Any], evidence: dict[str, JsonValue]) -> Reason:
    """Return why one field has a trial's value."""
    value = next(values_at(after, field.split(".")))
    # Of another loss or schedule the parent has no such field.
    planned = next(values_at(before, field.split(".")), None)
    alternative = None if planned is None else f"the parent's: {planned}"
    return Reason(source="tuned", rule=RULE, inputs={"value": value, **evidence}, alternative=alternative)


def _reason_of_all(result: TuningResult) -> Reason:
    """Return what the study says of the plan as a whole."""
    if result.chosen is not None:
        inputs = _evidence(result, _verdict(result, result.chosen))
        return Reason(source="tuned", rule=result.claim, inputs=inputs, alternative="the parent's own values")
    best = max(result.verdicts, key=lambda verdict: verdict.gain, default=None)
    alternative = None if best is None else f"the values of trial {best.number}, whose gain is not certain"
    return Reason(source="tuned", rule=result.claim, inputs=_evidence(result, best), alternative=alternative)


def _verdict(result: TuningResult, number: int) -> Verdict:
    return next(verdict for verdict in result.verdicts if verdict.number == number)


def _evidence(result: TuningResult, verdict: Verdict | None) -> dict[str, JsonValue]:
    """Return the figures that a reason rests on."""
    study = result.study
    found: dict[str, JsonValue] = {
        "study": study.name,
        "objective": study.objectives[0],
        "iterations": study.final_iterations,
        "folds": list(study.judges),
        "num_trials": len(result.trials),
    }
    if verdict is not None:
        found["trial"] = verdict.number
        found["gain"] = verdict.gain
        found["ci95"] = None if verdict.ci95 is None else list(verdict.ci95)
        found["p_holm"] = verdict.p_holm
    return found


def _counted(child: Plan, parent: Plan, counter: MemoryCounter) -> Plan:
    """Return a plan with its memory counted again; what was measured on a device counts where nothing has changed."""
    counted = predict_memory(child, counter)
    if counted.budget.counts == parent.budget.counts or counted.budget.measured_bytes is None:
        return counted
    return counted.changed(budget=counted.budget.changed(measured_bytes=None, device="predicted", versions=None))
