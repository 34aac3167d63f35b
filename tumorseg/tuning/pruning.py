"""Whether a trial is stopped at a rung: by Optuna's pruners for one objective, by successive halving of ours for several."""

from collections.abc import Sequence

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner
from optuna.trial import FrozenTrial, TrialState, create_trial

from tumorseg.errors import PlanError
from tumorseg.schema.tuning import Study
from tumorseg.tuning.candidates import DEFAULT
from tumorseg.tuning.halving import ETA, goes_on, losses_of
from tumorseg.tuning.histories import Rung, last_rung, notes_of, rungs_of
from tumorseg.tuning.rehearsals import rehearsal

STARTUP = 4
"""Finished trials before a median says anything."""


def check_pruner(study: Study) -> None:
    """Check that a study's pruner goes with its objectives.

    Raises:
        PlanError: it does not.
    """
    if study.pruner == "hyperband" and len(study.objectives) > 1:
        raise PlanError(
            f"hyperband prunes by one objective, and the study has {', '.join(study.objectives)}; "
            "give the pruner median, which halves by ranks where there are several, or none"
        )


def judged(study: Study, trials: Sequence[FrozenTrial], number: int, index: int, values: tuple[float, ...]) -> Rung:
    """Return what a trial scored at a rung together with what follows from it.

    Args:
        study: whose pruner decides.
        trials: all so far, by number, without this score.
        number: of the trial.
        index: of the rung.
        values: that it scored, of the study's objectives.
    """
    rung = Rung(study.proxy.rungs[index], values, is_pruned=False, notes={})
    is_last = index == len(study.proxy.rungs) - 1
    # All others are measured against the plan as it was.
    if study.pruner == "none" or is_last or number == DEFAULT:
        return rung
    if len(study.objectives) == 1:
        return _by_optuna(study, trials, number, rung)
    others = [rungs_of(trial)[index].values for trial in trials if trial.number != number and index in rungs_of(trial)]
    return rung._replace(is_pruned=not goes_on(losses_of(study.objectives, [*others, values]), len(others)))


def _by_optuna(study: Study, trials: Sequence[FrozenTrial], number: int, rung: Rung) -> Rung:
    seen = [_seen(trial, rung if trial.number == number else None) for trial in trials]
    rehearsed = rehearsal(study, seen)
    is_pruned = _pruner(study).prune(rehearsed, rehearsed.get_trials(deepcopy=False)[number])
    after = rehearsed.get_trials(deepcopy=False)[number].system_attrs
    known = notes_of(trials[number])
    return rung._replace(
        is_pruned=bool(is_pruned), notes={name: note for name, note in after.items() if name not in known}
    )


def _pruner(study: Study) -> BasePruner:
    if study.pruner == "hyperband":
        first, last = study.proxy.rungs[0], study.proxy.rungs[-1]
        return HyperbandPruner(min_resource=first, max_resource=last, reduction_factor=_reduction(study))
    return MedianPruner(n_startup_trials=STARTUP)


def _reduction(study: Study) -> int:
    """Return the factor between rungs, which hyperband takes for the same everywhere."""
    rungs = study.proxy.rungs
    factor = (rungs[-1] / rungs[0]) ** (1 / (len(rungs) - 1)) if len(rungs) > 1 else ETA
    return max(2, round(factor))


def _seen(trial: FrozenTrial, new: Rung | None) -> FrozenTrial:
    """Return a trial as Optuna's pruner sees it, with a score that is new."""
    rungs = [*rungs_of(trial).values(), *([] if new is None else [new])]
    last = last_rung(trial)
    is_complete = trial.state is TrialState.COMPLETE
    return create_trial(
        state=trial.state,
        values=last.values if is_complete and last else None,
        system_attrs=notes_of(trial),
        intermediate_values={rung.iteration: rung.values[0] for rung in rungs},
    )
