"""A study's copy in memory, in which Optuna draws and prunes.

Optuna's samplers and pruners write down what they draw and decide while they do. In a copy this harms nothing: the storage is told
of all of it in one write afterwards, so that a kill in between leaves nothing half drawn.
"""

from collections.abc import Iterable
from typing import Literal

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from tumorseg.schema.tuning import Study
from tumorseg.tuning.objectives import sign_of


def directions_of(study: Study) -> list[Literal["maximize", "minimize"]]:
    """Return where better is, for each objective."""
    return ["maximize" if sign_of(objective) > 0 else "minimize" for objective in study.objectives]


def rehearsal(study: Study, trials: Iterable[FrozenTrial], sampler: BaseSampler | None = None) -> optuna.Study:
    """Return a study in memory that holds some trials.

    Args:
        study: whose name and objectives it has.
        trials: in their order; each has the number of its place.
        sampler: that draws the next one; an idle one if null.
    """
    found = optuna.create_study(
        study_name=study.name,
        directions=directions_of(study),
        sampler=sampler or RandomSampler(seed=study.seed),
        pruner=NopPruner(),
    )
    found.add_trials(trials)
    return found
