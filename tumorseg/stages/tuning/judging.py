"""The honest end of a study: candidates and the plan as it was, trained again with other seeds on folds that no trial has seen."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from tumorseg.schema.tuning import Judged, Score, Study, Task, Trial, Verdict
from tumorseg.tuning.candidates import DEFAULT
from tumorseg.tuning.judged_folds import Contender, Means, Training, means_of
from tumorseg.tuning.objectives import WORDS, case_value
from tumorseg.tuning.verdicts import best_gain, case_gains, verdicts


class FinalTask(NamedTuple):
    """A training that is judged."""

    number: int
    """Of the trial whose values it has."""
    fold: int
    seed: int
    task: Task


class Judgement(NamedTuple):
    """What came of the honest end."""

    judged: tuple[Judged, ...]
    """The plan as it was first."""
    verdicts: tuple[Verdict, ...]
    chosen: int | None
    """Trial whose values the child plan is to carry; None where none gained."""
    claim: str
    """The same in a sentence."""
    differences: dict[int, dict[str, float]]
    """Of each candidate to the plan as it was, by its number and case_id; above 0 where it is better."""


def final_tasks(study: Study, contenders: Sequence[Trial]) -> tuple[FinalTask, ...]:
    """Return the trainings that are judged: of all contenders on one fold with one seed first, so that whatever is done can be compared.

    Args:
        study: its judging folds, seeds and length.
        contenders: the plan as it was (trial 0), then the candidates.
    """
    found = []
    for seed, fold, trial in product(study.final_seeds, study.judges, contenders):
        task = Task(
            tumorseg_version=study.tumorseg_version,
            stem=f"final-{trial.number:04d}-fold{fold}-seed{seed}",
            # The plan as it was, to the last field.
            values={} if trial.number == DEFAULT else trial.values,
            fold=fold,
            seed=seed,
            rungs=(study.final_iterations,),
        )
        found.append(FinalTask(trial.number, fold, seed, task))
    return tuple(found)


def judge(
    study: Study, contenders: Sequence[Trial], scores: Mapping[str, Score], patients: Mapping[str, str]
) -> Judgement:
    """Compare the candidates with the plan as it was.

    Args:
        study: what is judged by.
        contenders: as for `final_tasks`.
        scores: of the trainings that reached their end, by the task's stem; those that failed, or for which there was no time, are missing.
        patients: of cases, by case_id.
    """
    objective = study.objectives[0]
    trainings: dict[int, list[Training]] = {trial.number: [] for trial in contenders}
    for final in final_tasks(study, contenders):
        if (score := scores.get(final.task.stem)) is not None:
            values = {case_id: case_value(found, objective) for case_id, found in score.cases.items()}
            trainings[final.number].append(Training(final.fold, final.seed, values))
    default, *candidates = (Contender(number, tuple(found)) for number, found in trainings.items())
    gains = case_gains(default, candidates, objective=objective)
    found = verdicts(default, candidates, objective=objective, patients=patients)
    best = best_gain(found)
    return Judgement(
        judged=tuple(_judged(contenders, means_of([default, *candidates], objective))),
        verdicts=found,
        chosen=None if best is None else best.number,
        claim=_claim(study, found, trainings, gains),
        differences=gains,
    )


def _judged(contenders: Sequence[Trial], means: Mapping[int, Means]) -> Iterator[Judged]:
    for trial in contenders:
        if (found := means.get(trial.number)) is not None:
            by_training = {f"fold {fold}, seed {seed}": value for (fold, seed), value in found.by_training.items()}
            title = trial.title or f"trial {trial.number}"
            yield Judged(
                title=title, number=trial.number, values=trial.values, mean=found.mean, by_training=by_training
            )


def _claim(
    study: Study,
    found: Sequence[Verdict],
    trainings: Mapping[int, Sequence[Training]],
    gains: Mapping[int, Mapping[str, float]],
) -> str:
    """Return what can be said, in a sentence or two."""
    if not found:
        return (
            "Nothing can be said: no candidate and the plan as it was were both trained again on a judging fold; the child plan carries the "
            "plan's own values."
        )
    chosen = best_gain(found)
    told = chosen or max(found, key=lambda verdict: verdict.gain)
    measured = _measured(study, trainings[told.number], frozenset(gains[told.number]))
    where = f"{measured}{_luck(trainings)}"
    if chosen is not None:
        return (
            f"Trial {told.number} gains {_figures(study, told, len(found))} {where} The child plan carries its values."
        )
    return (
        f"No candidate gains for certain: the best of {len(found)}, trial {told.number}, differs by {_figures(study, told, len(found))} {where} "
        "The child plan carries the plan's own values."
    )


def _figures(study: Study, verdict: Verdict, num_candidates: int) -> str:
    """Return a gain with what speaks for it."""
    interval = "no interval, of fewer than two cases or patients"
    if verdict.ci95 is not None:
        interval = f"95 % interval {verdict.ci95[0]:+.4f} to {verdict.ci95[1]:+.4f}"
    p = "" if verdict.p_holm is None else f", p {verdict.p_holm:.3g} after Holm's correction for {num_candidates}"
    return f"{verdict.gain:+.4f} {WORDS[study.objectives[0]]} ({interval}{p})"


def _measured(study: Study, trainings: Sequence[Training], case_ids: frozenset[str]) -> str:
    """Return on what a candidate was compared: only these cases are in its gain."""
    folds = sorted({training.fold for training in trainings if not case_ids.isdisjoint(training.values)})
    cases = "1 case" if len(case_ids) == 1 else f"{len(case_ids)} cases"
    plural = "s" if len(folds) > 1 else ""
    numbers = ", ".join(map(str, folds))
    return (
        f"on {cases} of fold{plural} {numbers} that no trial has seen, after {study.final_iterations} steps of training, predicted "
        "without mirroring."
    )


def _luck(trainings: Mapping[int, Sequence[Training]]) -> str:
    """Return a warning where nothing shows how much is the luck of a seed."""
    for found in trainings.values():
        # Two of one fold are enough: their spread is pooled.
        if len({training.fold for training in found}) < len(found):
            return ""
    return " Each was trained once on a fold: only the luck of the cases is in the interval, not that of the seed, so nothing is claimed."
