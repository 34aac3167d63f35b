"""The report of a study: what may be claimed, what was changed, how the trials went, what it cost, how to read it."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from markupsafe import Markup

from tumorseg.reports.page import Picture, render_page
from tumorseg.reports.results.policy import content_policy, script_json
from tumorseg.reports.results.sections import Section
from tumorseg.reports.tuning_figures import (
    differences_png,
    gains_png,
    history_png,
    importances_png,
    parallel_png,
    pareto_png,
)
from tumorseg.reports.tuning_tables import (
    changes_table,
    cost_table,
    failed_table,
    front_table,
    judged_table,
    space_table,
    trials_table,
)
from tumorseg.reports.tuning_value import study_value
from tumorseg.reports.tuning_words import difference_text, finished_trials, objective_title
from tumorseg.schema.plan import Plan
from tumorseg.schema.quantities import duration_text
from tumorseg.schema.tuning import Sampler, Study, TuningResult
from tumorseg.tuning.candidates import DEFAULT

LEAST_FOR_AXES = 2
"""Finished trials below which there is nothing to compare."""
Differences = Mapping[int, Mapping[str, float]]
"""Number of a candidate's trial to case_id to its gain over the plan as it was; positive is better."""
_HERE = Path(__file__).parent / "results"
_SCRIPTS = ("core.js", "axes.js", "tuning.js", "ready.js")
DRAWN: dict[Sampler, str] = {
    "tpe": "values are drawn near the centre at first and every fourth time after that, the others where scores were good",
    "gp": "values are drawn near the centre at first and every fourth time after that, the others where scores promise most",
    "nsga2": "values are drawn near the centre at first, later ones are crossed and mutated from those of good trials",
    "random": "values are drawn evenly from all of it, wherever the centre is",
}
"""Where a sampler draws values."""
READING = {
    "Trial": "A short training with values of its own, scored on cases that it does not train on. Trial 0 has the plan's values, the next "
    "ones published settings; all others are drawn.",
    "Pruned": "Stopped at a rung, since others were better there. Its score is of fewer steps than those of finished trials.",
    "Best so far": "The best finished trial by the first objective. It is the best of many, and too good for that reason alone: it is "
    "no estimate of anything.",
    "Judged": "The best trials and the plan as it was, trained again for longer, with other seeds, without the cases of the judging folds, "
    "and compared on these alone. No trial saw them.",
    "Gain": "Mean over these cases of the candidate's score minus that of the plan as it was; of objectives of which less is better the "
    "other way round.",
    "95 % interval": "Of the gain, over cases (patients as wholes) and over what the luck of a seed adds.",
    "Adjusted p": "One-sided, of no gain; adjusted by Holm for the number of candidates.",
    "Share of the spread": "What part of the differences between trials goes with a field. A field that was hardly varied has a small "
    "share, whatever it could do.",
}


def tuning_page(result: TuningResult, plan: Plan, differences: Differences | None = None) -> str:
    """Return the page.

    Args:
        result: what the study found.
        plan: as it was before.
        differences: gains case by case; left out if None.

    Raises:
        PlanError: the plan is another one than the study's, so that it cannot have the values.
    """
    data = {"study": study_value(result), "scores": None}
    scripts = [_read(name) for name in _SCRIPTS]
    return render_page(
        "tuning.html",
        title=f"Tuning of {result.study.plan_name}",
        subtitle=result.claim,
        policy=content_policy(scripts),
        style=Markup(_read("results.css")),
        scripts=[Markup(script) for script in scripts],
        data=Markup(script_json(data)),
        tiles=_tiles(result),
        facts=_facts(result, plan),
        judged=_shown([_gains(result, differences or {}), _changes(result, plan)]),
        pictures=_pictures(result),
        details=_shown(
            [_importances(result), _front(result), _cost(result), _failed(result), _space(result), _trials(result)]
        ),
        reading=READING,
    )


def _shown(sections: list[Section]) -> list[Section]:
    """Return the sections that have something to show."""
    return [section for section in sections if section.tables or section.pictures]


def _tiles(result: TuningResult) -> list[tuple[str, str, str]]:
    """Return above, figure and below of what is taken in first."""
    first = result.study.objectives[0]
    found = []
    chosen = next((verdict for verdict in result.verdicts if verdict.number == result.chosen), None)
    if chosen is not None:
        found.append(
            ("Gain", difference_text(first, chosen.gain), f"{objective_title(first)}, on cases that no trial saw")
        )
    else:
        found.append(("Gain", "none", "was shown; the child plan has the values of its parent"))
    count = len(result.trials)
    found.append(("Trials", str(count), f"{len(finished_trials(result))} of them trained to their end"))
    found.append(("Time", duration_text(result.seconds), f"{duration_text(result.worker_seconds)} of all workers"))
    return found


def _facts(result: TuningResult, plan: Plan) -> dict[str, list[tuple[str, str]]]:
    study = result.study
    judging = [f"fold {fold}, {len(plan.folds[fold])} cases" for fold in study.judges]
    cases = [
        ("dataset", plan.dataset.name),
        ("trials train on", f"{len(study.split.training)} cases"),
        ("trials are scored on", f"{len(study.split.scored)} others"),
        ("judged on", "; ".join(judging)),
    ]
    return {"Cases": cases, "Study": _study_facts(study)}


def _study_facts(study: Study) -> list[tuple[str, str]]:
    rungs = ", ".join(map(str, study.proxy.rungs))
    limits = [] if study.most_trials is None else [f"{study.most_trials} trials"]
    limits += [] if study.hours is None else [f"{study.hours:g} hours"]
    return [
        ("configuration", study.configuration),
        ("objectives", ", ".join(map(objective_title, study.objectives))),
        ("sampler, pruner", f"{study.sampler}, {study.pruner}"),
        ("steps of a trial", f"{study.proxy.iterations}, scored after {rungs}"),
        ("steps of a judged training", f"{study.final_iterations}, {len(study.final_seeds)} seeds a fold"),
        ("limit", ", ".join(limits) or "none"),
        ("seed", str(study.seed)),
        ("made with", f"tumorseg {study.tumorseg_version}"),
    ]


def _gains(result: TuningResult, differences: Differences) -> Section:
    pictures = []
    if result.verdicts:
        pictures.append(
            Picture("Gain of each candidate over the plan as it was, with its 95 % interval", gains_png(result))
        )
    titles = {judged.number: judged.title for judged in result.judged}
    first = objective_title(result.study.objectives[0])
    for number, gains in differences.items():
        caption = f"{titles.get(number, number)} against the plan as it was, case by case; above 0 it is better"
        pictures.append(Picture(caption, differences_png(gains, f"Gain, {first}")))
    text = (
        "Trained again with other seeds and compared on held-out cases that entered no trial, neither its training nor its scoring. A gain "
        "is one whose interval lies above 0 and whose adjusted p is below .025."
    )
    tables = [judged_table(result)] if result.judged else []
    return Section("What may be claimed", text, tables, pictures)


def _changes(result: TuningResult, plan: Plan) -> Section:
    tables = [changes_table(judged, plan, result) for judged in result.judged if judged.number != DEFAULT]
    text = "The child plan has those of the candidate that is marked as chosen. A dash stands where the plan has no such field."
    if result.chosen is None:
        text = "No candidate was shown to be better, so that the child plan has none of these values."
    return Section("What candidates change", text, tables)


def _pictures(result: TuningResult) -> list[Picture]:
    """Return what the trials' script draws as well, for those who allow no scripts."""
    found = []
    if any(trial.scores for trial in result.trials):
        first = objective_title(result.study.objectives[0])
        found.append(
            Picture(f"{first} of each trial at the last rung that it reached, and the best so far", history_png(result))
        )
    if len(finished_trials(result)) >= LEAST_FOR_AXES:
        caption = "Values of finished trials, the most important fields first; the brighter, the better. Below an axis: the field did not count"
        found.append(Picture(caption, parallel_png(result)))
    return found


def _importances(result: TuningResult) -> Section:
    if not any(result.importances.values()):
        return Section("Importances")
    caption = (
        f"Share of the spread of {objective_title(result.study.objectives[0])} over trials that a field accounts for"
    )
    return Section("Importances", pictures=[Picture(caption, importances_png(result))])


def _front(result: TuningResult) -> Section:
    if len(result.study.objectives) < LEAST_FOR_AXES or not result.pareto:
        return Section("Pareto front")
    text = "Trials that no other is better than in every objective. The first objective decides about the child plan."
    picture = Picture("Finished trials by two objectives each", pareto_png(result))
    return Section("Pareto front", text, [front_table(result)], [picture])


def _cost(result: TuningResult) -> Section:
    return Section("Cost", tables=[cost_table(result)])


def _failed(result: TuningResult) -> Section:
    table = failed_table(result)
    text = "Their values entered the search as ones that cannot be had."
    return Section("Failed trials", text, [table] if table.rows else [])


def _space(result: TuningResult) -> Section:
    drawn = DRAWN[result.study.sampler]
    text = f"What trials may change; {drawn}. The centre is the plan's own value unless the space says otherwise."
    return Section("Space", text, [space_table(result)])


def _trials(result: TuningResult) -> Section:
    table = trials_table(result)
    num_scored = sum(bool(trial.scores) for trial in result.trials)
    text = "Those that got furthest first, and among them the best by the first objective."
    if num_scored > len(table.rows):
        text += f" The first {len(table.rows)} of {num_scored}; tuning.json has all."
    return Section("Trials", text, [table] if table.rows else [])


@cache
def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
