"""Which trials are trained again and judged in the end."""

from collections.abc import Collection, Sequence

from tumorseg.schema.base import content_hash
from tumorseg.schema.tuning import Study, Trial
from tumorseg.tuning.objectives import sign_of

DEFAULT = 0
"""Number of the trial that has the plan's own values."""
MOST_CANDIDATES = 3
"""More would cost more training, and each would have to gain more to be told from luck."""


def choose_candidates(
    trials: Sequence[Trial], study: Study, pareto: Collection[int], *, most: int = MOST_CANDIDATES
) -> tuple[Trial, ...]:
    """Return the best trials that reached their end, by the first objective; never the plan's own values, and no values twice.

    Args:
        trials: of the study.
        study: its objectives.
        pareto: numbers of the trials that no other is better than in every objective; with several objectives, only these come into question.
        most: how many at most.
    """
    sign = sign_of(study.objectives[0])
    open_to = [trial for trial in trials if len(study.objectives) == 1 or trial.number in pareto]
    finished = [trial for trial in open_to if _is_finished(trial, study) and trial.number != DEFAULT]
    # Of trials that are alike the earlier one.
    ordered = sorted(finished, key=lambda trial: (-sign * trial.scores[-1].values[0], trial.number))
    known = {content_hash(trial.values) for trial in trials if trial.number == DEFAULT}
    chosen: list[Trial] = []
    for trial in ordered:
        found = content_hash(trial.values)
        if found not in known and len(chosen) < most:
            chosen.append(trial)
            known.add(found)
    return tuple(chosen)


def _is_finished(trial: Trial, study: Study) -> bool:
    has_end = bool(trial.scores) and trial.scores[-1].iteration == study.proxy.iterations
    return trial.state == "finished" and has_end
