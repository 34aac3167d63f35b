"""What the next trial tries: drawn from the study's seed and the trial's number, and from the scores so far, by nothing else.

Optuna's samplers work on shares of the prior instead of on values: whatever they draw without knowing better (their first
draws, mutations, parameters that they have not seen) then follows the prior around the plan's own values.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from pydantic import JsonValue

from tumorseg.schema.tuning import AnyParameter, ChoiceParameter, Sampler, Space, Study, Values
from tumorseg.tuning.conditions import counts
from tumorseg.tuning.distributions import Held, distribution_of, held, texts_of, value_of
from tumorseg.tuning.histories import last_rung, notes_of
from tumorseg.tuning.priors import even_value, prior_share, prior_value
from tumorseg.tuning.rehearsals import rehearsal

STARTUP = 8
"""Scored trials, the default and the starts among them, before scores decide what is tried."""
EVERY = 4
"""One trial of so many is drawn from the prior ever after, in case scores have led astray."""
CANDIDATES = 64
"""Draws of which TPE takes the likeliest to be good."""
POPULATION = 12
"""Trials of a generation of NSGA-II."""
SHARES = FloatDistribution(0.0, 1.0)
"""In which Optuna sees numbers: shares of the prior."""


class Drawn(NamedTuple):
    """The values of a trial, and what Optuna's sampler noted about it for its next draws."""

    values: Values
    notes: dict[str, Any]


def drawn(study: Study, trials: Sequence[FrozenTrial]) -> Drawn:
    """Return the values of the next trial.

    Args:
        study: whose sampler draws.
        trials: all so far, by number.
    """
    number = len(trials)
    shares = np.random.default_rng([study.seed, number]).random(len(study.space.parameters))
    by_field = {parameter.field: float(share) for parameter, share in zip(study.space.parameters, shares, strict=True)}
    if study.sampler == "random":
        return Drawn(gathered(study.space, lambda one: even_value(one, by_field[one.field])), {})
    # NSGA-II counts generations, so that it must see every draw; its first ones follow the prior anyway.
    if study.sampler != "nsga2" and _is_turn_of_the_prior(number, trials):
        return Drawn(gathered(study.space, lambda one: prior_value(one, by_field[one.field])), {})
    return _by_optuna(study, trials)


def gathered(space: Space, value_of: Callable[[AnyParameter], JsonValue]) -> Values:
    """Return a value of each parameter that counts, asked for one after the other."""
    values: Values = {}
    for parameter in space.parameters:
        if counts(parameter, values):
            values[parameter.field] = value_of(parameter)
    return values


def _is_turn_of_the_prior(number: int, trials: Sequence[FrozenTrial]) -> bool:
    num_scored = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    return num_scored < STARTUP or number % EVERY == EVERY - 1


def _by_optuna(study: Study, trials: Sequence[FrozenTrial]) -> Drawn:
    seed = int(np.random.default_rng([study.seed, len(trials), 1]).integers(2**31))
    seen = [_seen(study, trial) for trial in trials]
    rehearsed = rehearsal(study, seen, _sampler(study.sampler, seed))
    trial = rehearsed.ask()
    if study.sampler == "gp":
        for parameter in study.space.parameters:
            _suggested(trial, parameter)
    values = gathered(study.space, lambda one: _suggested(trial, one))
    notes = rehearsed.get_trials(deepcopy=False)[-1].system_attrs
    return Drawn(values, dict(notes) if study.sampler == "nsga2" else {})


def _sampler(name: Sampler, seed: int) -> BaseSampler:
    if name == "gp":
        return GPSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)
    if name == "nsga2":
        return NSGAIISampler(seed=seed, population_size=POPULATION)
    return TPESampler(seed=seed, n_startup_trials=1, n_ei_candidates=CANDIDATES, multivariate=True)


def _suggested(trial: Trial, parameter: AnyParameter) -> JsonValue:
    if isinstance(parameter, ChoiceParameter):
        text = trial.suggest_categorical(parameter.field, texts_of(parameter))
        return value_of(parameter, text)
    return prior_value(parameter, trial.suggest_float(parameter.field, SHARES.low, SHARES.high))


def _seen(study: Study, trial: FrozenTrial) -> FrozenTrial:
    """Return a trial as Optuna's sampler sees it: in shares of the prior, told in the way that the sampler learns most from."""
    rung = last_rung(trial)
    state = _state(study.sampler, trial, has_score=rung is not None)
    # Only of one objective does Optuna take scores on the way.
    is_on_the_way = state is TrialState.PRUNED and len(study.objectives) == 1
    params, distributions = _shares(study, trial)
    return create_trial(
        state=state,
        values=rung.values if rung and state is TrialState.COMPLETE else None,
        params=params,
        distributions=distributions,
        system_attrs=notes_of(trial),
        intermediate_values={rung.iteration: rung.values[0]} if is_on_the_way and rung else None,
    )


def _state(sampler: Sampler, trial: FrozenTrial, has_score: bool) -> TrialState:
    """Return how a trial is told: of those that did not reach their end only TPE learns as such."""
    if sampler == "tpe":
        # Beyond the memory budget: one to keep away from.
        return TrialState.PRUNED if trial.constraints else trial.state
    if trial.state is TrialState.PRUNED:
        # The others take what it scored for its end, which is hardly ever better.
        return TrialState.COMPLETE if has_score else TrialState.FAIL
    return trial.state


def _shares(study: Study, trial: FrozenTrial) -> tuple[dict[str, Held], dict[str, BaseDistribution]]:
    """Return the values of a trial in shares of the prior, and what they are drawn from."""
    params: dict[str, Held] = {}
    distributions: dict[str, BaseDistribution] = {}
    for parameter in study.space.parameters:
        field = parameter.field
        if field in trial.params:
            params[field] = _share(parameter, value_of(parameter, trial.params[field]))
        elif study.sampler == "gp":
            # A Gaussian process needs a value of every parameter: where one does not count, it stays where the prior is highest.
            params[field] = _share(parameter, parameter.center)
        if field in params:
            distributions[field] = distribution_of(parameter) if isinstance(parameter, ChoiceParameter) else SHARES
    return params, distributions


def _share(parameter: AnyParameter, value: JsonValue) -> Held:
    if isinstance(parameter, ChoiceParameter):
        return held(parameter, value if value in parameter.options else parameter.options[0])
    return 0.5 if not isinstance(value, int | float) else prior_share(parameter, value)
