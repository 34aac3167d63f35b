"""What a study tells, in words: objectives, values, what a candidate changes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tumorseg.errors import PlanError
from tumorseg.reports.explanation import plain_text
from tumorseg.reports.tables import NOTHING
from tumorseg.schema.fields import Place
from tumorseg.schema.plan import Plan
from tumorseg.schema.tuning import Objective, Trial, TuningResult, Values
from tumorseg.tuning.changes import document_of, places_in, set_values
from tumorseg.tuning.objectives import is_better

TITLES: dict[Objective, str] = {"dsc": "DSC", "nsd": "NSD", "hd95": "HD95 (mm)", "seconds": "Seconds a case"}
DECIMALS: dict[Objective, int] = {"dsc": 4, "nsd": 4, "hd95": 2, "seconds": 2}
MOST_LETTERS = 28
"""Of the name of a field where it stands beside many others."""


class Change(NamedTuple):
    """A field that a candidate has another value of than the plan."""

    field: str
    """Dotted, within the configuration."""
    before: str
    """A dash where the plan has no such field."""
    after: str
    meaning: str
    """What the schema says of it; empty where it says nothing."""


def objective_title(name: Objective) -> str:
    """Return what an objective is called."""
    return TITLES[name]


def value_text(name: Objective, value: float) -> str:
    """Return a value of an objective with its own number of decimals."""
    return f"{value:.{DECIMALS[name]}f}"


def difference_text(name: Objective, value: float) -> str:
    """Return a gain, or a bound of one, with its sign."""
    return f"{value:+.{DECIMALS[name]}f}"


def finished_trials(result: TuningResult) -> list[Trial]:
    """Return the trials that were scored at their planned end."""
    return [trial for trial in result.trials if trial.state == "finished" and trial.scores]


def saved_by_pruning(result: TuningResult) -> float | None:
    """Return the share of the steps of finished and pruned trials that pruning saved; None without such trials."""
    ended = ended_trials(result)
    full = result.study.proxy.iterations * len(ended)
    return 1 - sum(trial.scores[-1].iteration for trial in ended) / full if ended else None


def ended_trials(result: TuningResult) -> list[Trial]:
    """Return the trials that came to their planned end, or were pruned on the way."""
    return [trial for trial in result.trials if trial.state in ("finished", "pruned") and trial.scores]


def best_so_far(result: TuningResult) -> list[tuple[int, float]]:
    """Return number and first objective of each finished trial that was better than all finished ones before it."""
    first = result.study.objectives[0]
    found: list[tuple[int, float]] = []
    for trial in finished_trials(result):
        value = trial.scores[-1].values[0]
        if not found or is_better(first, value, found[-1][1]):
            found.append((trial.number, value))
    return found


def trial_title(trial: Trial) -> str:
    """Return the number of a trial, and what it is called."""
    return f"{trial.number} ({trial.title})" if trial.title else str(trial.number)


def values_text(values: Values, fields: Sequence[str]) -> str:
    """Return some values of a trial on one line; fields that did not count in it are left out."""
    return "; ".join(f"{short_field(field)} {plain_text(values[field])}" for field in fields if field in values)


def short_field(field: str) -> str:
    """Return the last parts of a dotted field that say what it is, in few letters."""
    # `augmentation.transforms.blur.probability` and `optimizer.lr` are told by their last two parts.
    tail = ".".join(field.split(".")[-2:])
    return tail if len(tail) <= MOST_LETTERS else f"…{tail[-MOST_LETTERS + 1 :]}"


def ordered_fields(result: TuningResult, most: int) -> list[str]:
    """Return the fields that trials have values of, those first that account for most of what trials differ in."""
    used = set().union(*(trial.values for trial in result.trials))
    fields = [parameter.field for parameter in result.study.space.parameters if parameter.field in used]
    weight = result.importances
    return sorted(fields, key=lambda field: (-weight.get(field, 0.0), fields.index(field)))[:most]


def changes(plan: Plan, configuration: str, values: Values) -> list[Change]:
    """Return what values change in a plan, field by field; one that the plan has already is left out.

    Args:
        plan: as it was.
        configuration: that the fields are of.
        values: of a trial.

    Raises:
        PlanError: the plan cannot have these values.
    """
    before = document_of(plan)
    changed = set_values(before, configuration, values)
    found = []
    for field, value in changed.values.items():
        meaning = _meaning(places_in(changed.document, configuration, field))
        found.append(Change(field, _value_before(before, configuration, field), plain_text(value), meaning))
    return found


def _value_before(document: Mapping[str, Any], configuration: str, field: str) -> str:
    """Return what a plan has; a dash where another branch of it would have the field."""
    try:
        return plain_text(places_in(document, configuration, field)[-1].value)
    except PlanError:
        return NOTHING


def _meaning(found: Sequence[Place]) -> str:
    """Return what the schema says of the last of the places."""
    record = found[-2].record if len(found) > 1 else None
    info = None if record is None else record.model_fields.get(found[-1].path[-1])
    return " ".join((info.description or "").split()) if info is not None else ""
