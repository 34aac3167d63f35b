"""How a study stands, in words."""

from collections.abc import Sequence

from tumorseg.schema.tuning import Study, Trial
from tumorseg.tuning.objectives import is_better


def news(trials: Sequence[Trial], number: int, study: Study) -> str:
    """Return a line on a trial that has ended."""
    trial = trials[number]
    reached = (
        f"{study.objectives[0]} {_last(trial):.4f} after {trial.scores[-1].iteration} steps" if trial.scores else ""
    )
    return "; ".join(filter(None, [f"trial {number} {trial.state}", reached, trial.message]))


def best_trial(trials: Sequence[Trial], study: Study) -> Trial | None:
    """Return the finished trial that is best by the first objective."""
    best: Trial | None = None
    for one in trials:
        if one.state == "finished" and (best is None or is_better(study.objectives[0], _last(one), _last(best))):
            best = one
    return best


def _last(trial: Trial) -> float:
    """Return the first objective at the last rung."""
    return trial.scores[-1].values[0]


def best_words(trials: Sequence[Trial], study: Study) -> str:
    """Return the best trial so far in words; nothing while none has reached its end."""
    best = best_trial(trials, study)
    return "" if best is None else f"best {study.objectives[0]} {_last(best):.4f} (trial {best.number})"
