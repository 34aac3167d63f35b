"""What the storage knows of a trial beyond its values: the rungs that it reached, its title and why it failed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from optuna.trial import FrozenTrial, TrialState

from tumorseg.schema.tuning import Score, Space, Trial, Values
from tumorseg.schema.tuning import TrialState as State
from tumorseg.tuning.distributions import value_of

TITLE = "title"
HANDED_OUT = "handed out"
MESSAGE = "message"
_RUNG = "rung "

STATES: Mapping[TrialState, State] = {
    TrialState.WAITING: "running",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
"""Optuna's states in our words."""


class Rung(NamedTuple):
    """What a trial scored at a rung, and what was decided: one attribute, so that a kill leaves all of it or nothing."""

    iteration: int
    values: tuple[float, ...]
    is_pruned: bool
    notes: dict[str, Any]
    """Of Optuna's pruner, for its next decisions."""

    def attribute(self) -> dict[str, Any]:
        """Return it as JSON."""
        found: dict[str, Any] = {"iteration": self.iteration, "values": list(self.values), "pruned": self.is_pruned}
        return found | ({"notes": self.notes} if self.notes else {})


def rung_name(index: int) -> str:
    """Return the name of the attribute that holds a rung."""
    return f"{_RUNG}{index}"


def rungs_of(trial: FrozenTrial) -> dict[int, Rung]:
    """Return the rungs that a trial reached, by index, ascending."""
    found = {}
    for name, held in trial.user_attrs.items():
        if name.startswith(_RUNG):
            values = tuple(held["values"])
            found[int(name.removeprefix(_RUNG))] = Rung(
                held["iteration"], values, held["pruned"], held.get("notes", {})
            )
    return dict(sorted(found.items()))


def last_rung(trial: FrozenTrial) -> Rung | None:
    """Return the last rung that a trial reached, if any."""
    return next(reversed(rungs_of(trial).values()), None)


def notes_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return what Optuna's sampler and pruner noted about a trial."""
    notes = dict(trial.system_attrs)
    for rung in rungs_of(trial).values():
        notes |= rung.notes
    return notes


def values_of(trial: FrozenTrial, space: Space) -> Values:
    """Return the values of a trial, in the order of the space."""
    found: Values = {}
    for parameter in space.parameters:
        if parameter.field in trial.params:
            found[parameter.field] = value_of(parameter, trial.params[parameter.field])
    return found


def record_of(trial: FrozenTrial, space: Space) -> Trial:
    """Return a trial as the report tells it, without the scores of cases."""
    scores = [Score(iteration=rung.iteration, values=rung.values) for rung in rungs_of(trial).values()]
    return Trial(
        number=trial.number,
        title=trial.user_attrs.get(TITLE, ""),
        state=STATES[trial.state],
        values=values_of(trial, space),
        scores=tuple(scores),
        message=trial.user_attrs.get(MESSAGE, ""),
    )
