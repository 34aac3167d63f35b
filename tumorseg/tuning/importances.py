"""How much of the spread of the first objective each parameter accounts for."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState, create_trial

from tumorseg.schema.tuning import Study
from tumorseg.tuning.rehearsals import rehearsal

FEWEST = 8
"""Finished trials below which shares say nothing."""
BEST = 0.25
"""Share of the trials that count as good. Of the evaluator's own tenth, two of twenty trials would be left."""
FEWEST_OF_A_KIND = 2
"""Trials that have a parameter, and that do not where it is conditional."""


def importances_of(study: Study, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Return shares by field that sum to 1, highest first; nothing of too few finished trials.

    References:
        Watanabe et al. 2023, PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces.
    """
    finished = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    fields = [parameter.field for parameter in study.space.parameters if _is_judged(parameter.field, finished)]
    if len(finished) < FEWEST or not fields:
        return {}
    # Here, since it loads pandas and scikit-learn for the other evaluators.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    first = study.changed(objectives=study.objectives[:1])
    rehearsed = rehearsal(first, [_seen(trial) for trial in finished])
    evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST)
    return _floats(get_param_importances(rehearsed, evaluator=evaluator, params=fields))


def _is_judged(field: str, finished: Sequence[FrozenTrial]) -> bool:
    num_with = sum(field in trial.params for trial in finished)
    num_without = len(finished) - num_with
    return num_with >= FEWEST_OF_A_KIND and (num_without == 0 or num_without >= FEWEST_OF_A_KIND)


def _seen(trial: FrozenTrial) -> FrozenTrial:
    """Return a finished trial with its first objective alone."""
    return create_trial(values=trial.values[:1], params=trial.params, distributions=trial.distributions)


def _floats(found: dict[str, float]) -> dict[str, float]:
    return {field: float(share) for field, share in found.items()}
