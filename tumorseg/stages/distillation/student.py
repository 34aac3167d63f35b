"""The student's own plan: the one that was given, which is trained alone, with what is said of learning from teachers."""

from pathlib import Path

from tumorseg.errors import PlanError
from tumorseg.planning.options import check_plan_name
from tumorseg.schema.base import Record, parse_record, record_hash
from tumorseg.schema.distillation import Distillation
from tumorseg.schema.plan import Plan, Reason
from tumorseg.stages.opening.loaded import read_plan
from tumorseg.storage.json_files import write_record

FIELD = "training.distillation"
HINTS = 0.1
"""Weight of hints where they are asked for: on normalised features the term is at most 4, and soon far below 1."""


class LessonOptions(Record):
    """What `distill` is told of how to learn; None: the plan's own value, or else the default."""

    weight: float | None = None
    """Share of the teachers' term."""
    temperature: float | None = None
    """Of their term."""
    hints: bool | None = None
    """Whether features are drawn to the first teacher's."""


def student_path(plan: Path) -> Path:
    """Return where the plan of a student is written unless stated otherwise: beside the one that was given."""
    return plan.with_name(f"{plan.stem}__distilled.json")


def student_plan(plan: Plan, options: LessonOptions, *, name: str) -> Plan:
    """Return a plan that learns from teachers; one that does already stays as it is.

    Args:
        plan: that was given.
        options: what was told of how to learn.
        name: of the student's plan, the stem of its file.

    Raises:
        PlanError: the plan says otherwise already, a value is impossible, or the name is none of a file.
    """
    given = options.model_dump(exclude_none=True)
    if "hints" in given:
        given["hints"] = HINTS if given["hints"] else 0.0
    own = plan.training.distillation
    if own is not None:
        if any(getattr(own, field) != value for field, value in given.items()):
            raise PlanError(
                f"plan {plan.name} says already how it learns from teachers ({_told(own)}); give the plan that it was made from, and another -o"
            )
        return plan
    check_plan_name(name)
    asked = parse_record(Distillation, given, source="distill", error=PlanError)
    reason = Reason(
        source="user",
        rule="learns from teachers, as `distill` was asked to",
        inputs=asked.model_dump(),
        alternative="training.distillation=null, which learns from the reference alone",
    )
    fields = {field: getattr(plan, field) for field in Plan.model_fields}
    fields |= {
        "name": name,
        "parent": record_hash(plan),
        "training": plan.training.changed(distillation=asked),
        "reasons": {**plan.reasons, FIELD: reason},
    }
    return parse_record(Plan, fields, source=name, error=PlanError)


def keep_student(plan: Plan, path: Path) -> None:
    """Write a student's plan, unless it is there already.

    Raises:
        PlanError: the file holds another plan, which may have trainings of its own.
        StorageError: it cannot be written.
    """
    if not path.exists():
        write_record(path, plan)
        return
    there = read_plan(path)
    if record_hash(there) == record_hash(plan):
        return
    if there.parent != plan.parent:
        held = f"a plan that was made from another one ({there.parent}) than is given now ({plan.parent})"
    elif (own := there.training.distillation) is None:
        held = "another plan"
    else:
        held = f"a student's plan with {_told(own)}, which was edited or is not what is asked for now"
    raise PlanError(f"is there already and holds {held}; give another -o, or remove it", file=path)


def _told(spec: Distillation) -> str:
    return f"weight {spec.weight:g}, temperature {spec.temperature:g}, hints {spec.hints:g}"
