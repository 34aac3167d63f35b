"""What a study's folder says, as MLflow keeps it: parameters, tags, points of metrics."""

import json
from collections.abc import Iterator, Sequence

from tumorseg.schema.tuning import Study, Trial, TrialState, TuningResult
from tumorseg.tracking.mlflow_runs import Point, Status
from tumorseg.tuning.objectives import is_better

RUNGS = "rungs_logged"
"""The metric that comes last of a rung of a trial: what it says is there in full."""
TRIALS = "trials_logged"
"""The same of a trial, in the run of its study."""
STATUS: dict[TrialState, Status] = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
}
DRAWN = "drawn"
"""Source of values that nobody published."""


def study_parameters(study: Study) -> dict[str, str]:
    """Return what a study is, by name; of its space each field with what it may be."""
    document = study.model_dump(mode="json", exclude={"space", "split"})
    found = {}
    for name, value in document.items():
        found[name] = value if isinstance(value, str) else json.dumps(value)
    for parameter in study.space.parameters:
        found[f"space.{parameter.field}"] = json.dumps(parameter.model_dump(mode="json", exclude={"field"}))
    return found


def trial_name(trial: Trial) -> str:
    """Return what a trial's run is called."""
    title = f" {trial.title}" if trial.title else ""
    return f"trial {trial.number}{title}"


def trial_parameters(trial: Trial) -> dict[str, str]:
    """Return the values of a trial by dotted field."""
    return {field: value if isinstance(value, str) else json.dumps(value) for field, value in trial.values.items()}


def trial_tags(trial: Trial, study: Study) -> dict[str, str]:
    """Return what a trial is and what became of it."""
    published = {start.title: start.source for start in study.space.starts}
    source = "plan" if trial.number == 0 else published.get(trial.title, DRAWN)
    tags = {"tumorseg.trial": str(trial.number), "tumorseg.state": trial.state, "tumorseg.source": source}
    return tags | ({"tumorseg.message": trial.message} if trial.message else {})


def trial_points(trial: Trial, study: Study, started_ms: int) -> Iterator[Point]:
    """Yield the points of a trial: of each rung its objectives at its number of steps, and the one that says that they are there last.

    Times follow from what trainings took, so that the same trial always gives the same points.
    """
    passed = 0.0
    for rung, score in enumerate(trial.scores):
        passed += score.seconds
        time_ms = started_ms + round(1000 * passed)
        for name, value in (*zip(study.objectives, score.values, strict=True), ("rung_seconds", score.seconds)):
            yield Point(name, value, score.iteration, time_ms)
        yield Point(RUNGS, rung + 1.0, score.iteration, time_ms)


def study_points(trials: Sequence[Trial], study: Study, started_ms: int) -> Iterator[Point]:
    """Yield the best value of the first objective after each trial, as far as all trials before it are over."""
    first = study.objectives[0]
    best: float | None = None
    passed = 0.0
    for number, trial in enumerate(trials):
        if trial.state == "running" or trial.number != number:
            return
        passed += trial.seconds
        time_ms = started_ms + round(1000 * passed)
        if trial.state == "finished" and trial.scores:
            value = trial.scores[-1].values[0]
            best = value if best is None or is_better(first, value, best) else best
        if best is not None:
            yield Point(f"best/{first}", best, number, time_ms)
        yield Point(TRIALS, number + 1.0, number, time_ms)


def judged_points(result: TuningResult, started_ms: int) -> Iterator[Point]:
    """Yield what came of the candidates: the mean of each, its gain over the plan as it was, and how sure that is."""
    time_ms = started_ms + round(1000 * result.seconds)
    for judged in result.judged:
        yield Point(f"judged/trial_{judged.number}/{result.study.objectives[0]}", judged.mean, 0, time_ms)
    for verdict in result.verdicts:
        low, high = verdict.ci95 or (None, None)
        figures = {"gain": verdict.gain, "ci95_low": low, "ci95_high": high, "p_holm": verdict.p_holm}
        for name, value in figures.items():
            if value is not None:
                yield Point(f"judged/trial_{verdict.number}/{name}", value, 0, time_ms)
