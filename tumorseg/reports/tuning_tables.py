"""Tables of the report of a study."""

from collections.abc import Callable, Iterator

from pydantic import JsonValue

from tumorseg.reports.explanation import plain_text
from tumorseg.reports.results.sections import Cell, Table
from tumorseg.reports.tables import NOTHING
from tumorseg.reports.tuning_words import (
    changes,
    difference_text,
    ended_trials,
    objective_title,
    ordered_fields,
    saved_by_pruning,
    trial_title,
    value_text,
    values_text,
)
from tumorseg.schema.plan import Plan
from tumorseg.schema.quantities import duration_text
from tumorseg.schema.tuning import (
    MAXIMISED,
    AnyParameter,
    ChoiceParameter,
    Judged,
    Objective,
    Trial,
    TuningResult,
    Verdict,
)

MOST_TRIALS, MOST_VALUES = 50, 6
"""Rows of the table of trials, and fields in each; tuning.json has all."""
VALUES = "Values of the most important fields"
STATES = ("finished", "pruned", "failed", "running")


def judged_table(result: TuningResult) -> Table:
    """Return the plan as it was and each candidate, with its gain."""
    first = result.study.objectives[0]
    verdicts = {verdict.number: verdict for verdict in result.verdicts}
    rows = []
    for judged in result.judged:
        spread = [value_text(first, value) for value in judged.by_training.values()]
        mean = Cell(value_text(first, judged.mean), f"{min(spread)} to {max(spread)}" if len(spread) > 1 else "")
        cells = [Cell(judged.title, is_text=True), Cell(str(judged.number)), mean, Cell(str(len(judged.by_training)))]
        rows.append(
            [*cells, *_verdict_cells(verdicts.get(judged.number), first, is_chosen=judged.number == result.chosen)]
        )
    columns = ["Plan", "Trial", objective_title(first), "Trainings", "Gain", "p", "Adjusted p", "Verdict"]
    caption = "Below the score its range over trainings; below the gain its 95 % interval."
    return Table(columns, rows, caption)


def _verdict_cells(verdict: Verdict | None, first: Objective, *, is_chosen: bool) -> list[Cell]:
    if verdict is None:
        return [Cell(NOTHING)] * 3 + [Cell(NOTHING, is_text=True)]
    bounds = [difference_text(first, bound) for bound in verdict.ci95 or ()]
    gain = Cell(difference_text(first, verdict.gain), " to ".join(bounds))
    told = "a gain" if verdict.is_gain else "no gain shown"
    return [
        gain,
        Cell(_p(verdict.p)),
        Cell(_p(verdict.p_holm)),
        Cell(f"{told}; chosen" if is_chosen else told, is_text=True),
    ]


def _p(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def changes_table(judged: Judged, plan: Plan, result: TuningResult) -> Table:
    """Return what a candidate changes, field by field.

    Raises:
        PlanError: the plan cannot have its values.
    """
    rows = []
    for change in changes(plan, result.study.configuration, judged.values):
        words = (change.field, change.before, change.after, change.meaning)
        rows.append([Cell(word, is_text=True) for word in words])
    mark = " (chosen)" if judged.number == result.chosen else ""
    return Table(["Field", "Before", "After", "Meaning"], rows, heading=f"{judged.title}{mark}")


def front_table(result: TuningResult) -> Table:
    """Return the trials of the Pareto front, the best by the first objective on top."""
    names = result.study.objectives
    fields = ordered_fields(result, MOST_VALUES)
    front = [trial for trial in result.trials if trial.number in result.pareto and trial.scores]
    rows = []
    for trial in sorted(front, key=_rank(names[0])):
        scores = [Cell(text) for text in _scores(trial, names)]
        rows.append(
            [Cell(trial_title(trial), is_text=True), *scores, Cell(values_text(trial.values, fields), is_text=True)]
        )
    return Table(["Trial", *map(objective_title, names), VALUES], rows)


def cost_table(result: TuningResult) -> Table:
    """Return what the study took, and what pruning saved of it."""
    rows = [[Cell(name, is_text=True), Cell(text)] for name, text in _cost(result)]
    return Table(["What", "Amount"], rows)


def _cost(result: TuningResult) -> Iterator[tuple[str, str]]:
    for state in STATES:
        count = sum(trial.state == state for trial in result.trials)
        if count:
            yield f"trials that {'are' if state == 'running' else 'were'} {state}", str(count)
    # Of a trial that failed or still runs it cannot be told what it would have taken.
    saved = saved_by_pruning(result)
    if saved is not None:
        steps = sum(trial.scores[-1].iteration for trial in ended_trials(result))
        yield "steps of finished and pruned trials", f"{steps:,}"
        yield "saved by pruning", f"{100 * saved:.0f} %"
    trainings = sum(len(judged.by_training) for judged in result.judged)
    yield "trainings that judge", str(trainings)
    yield "steps of these", f"{trainings * result.study.final_iterations:,}"
    yield "time of trials, all workers", duration_text(sum(trial.seconds for trial in result.trials))
    yield "time of all workers", duration_text(result.worker_seconds)
    yield "time from beginning to end", duration_text(result.seconds)


def failed_table(result: TuningResult) -> Table:
    """Return the trials that failed or were left out, with the reason."""
    rows = []
    fields = ordered_fields(result, MOST_VALUES)
    for trial in result.trials:
        if trial.state == "failed":
            words = (trial_title(trial), trial.message or "not told", values_text(trial.values, fields))
            rows.append([Cell(word, is_text=True) for word in words])
    return Table(["Trial", "Reason", VALUES], rows)


def space_table(result: TuningResult) -> Table:
    """Return what trials may change."""
    rows = []
    for parameter in result.study.space.parameters:
        when = "" if parameter.when is None else f"{parameter.when.field} is {_either(parameter.when.values)}"
        share = result.importances.get(parameter.field)
        words = (parameter.field, _range_text(parameter), plain_text(parameter.center), when or "always")
        shown = Cell(NOTHING if share is None else f"{100 * share:.0f} %")
        rows.append([*(Cell(word, is_text=True) for word in words), shown])
    return Table(["Field", "Values", "Centre", "Counts where", "Share of the spread"], rows)


def _range_text(parameter: AnyParameter) -> str:
    if isinstance(parameter, ChoiceParameter):
        return _either(parameter.options)
    scale = ", log" if parameter.scale == "log" else ""
    return f"{parameter.low:g} to {parameter.high:g}{scale}"


def _either(values: tuple[JsonValue, ...]) -> str:
    return " | ".join(plain_text(value) for value in values)


def trials_table(result: TuningResult) -> Table:
    """Return the trials that got furthest, the best by the first objective on top."""
    names = result.study.objectives
    fields = ordered_fields(result, MOST_VALUES)
    scored = [trial for trial in result.trials if trial.scores]
    # Scores of different rungs cannot be compared.
    scored.sort(key=lambda trial: (-trial.scores[-1].iteration, _rank(names[0])(trial)))
    rows = []
    for trial in scored[:MOST_TRIALS]:
        figures = [Cell(text) for text in _scores(trial, names)]
        cells = [
            Cell(trial_title(trial), is_text=True),
            Cell(trial.state, is_text=True),
            Cell(str(trial.scores[-1].iteration)),
        ]
        rows.append(
            [
                *cells,
                *figures,
                Cell(duration_text(trial.seconds)),
                Cell(values_text(trial.values, fields), is_text=True),
            ]
        )
    return Table(["Trial", "State", "Steps", *map(objective_title, names), "Time", VALUES], rows)


def _scores(trial: Trial, names: tuple[Objective, ...]) -> list[str]:
    return [value_text(name, value) for name, value in zip(names, trial.scores[-1].values, strict=True)]


def _rank(first: Objective) -> Callable[[Trial], float]:
    """Return what trials are sorted by, the best by an objective in front."""
    sign = -1.0 if first in MAXIMISED else 1.0
    return lambda trial: sign * trial.scores[-1].values[0]
