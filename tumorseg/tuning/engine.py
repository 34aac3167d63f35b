"""The study: gives out trials, is told of their scores, and forgets nothing when it is killed."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.trial import Trial as LiveTrial

from tumorseg.schema.tuning import Space, Study, Trial, Values
from tumorseg.tuning.candidates import DEFAULT
from tumorseg.tuning.conditions import completed, counting
from tumorseg.tuning.distributions import distribution_of, held
from tumorseg.tuning.halving import front, losses_of
from tumorseg.tuning.histories import HANDED_OUT, MESSAGE, TITLE, last_rung, record_of, rung_name, rungs_of, values_of
from tumorseg.tuning.importances import importances_of
from tumorseg.tuning.pruning import check_pruner, judged
from tumorseg.tuning.samplers import Drawn, drawn
from tumorseg.tuning.storages import answering, open_storage, open_study

DEFAULT_TITLE = "default"
"""Of the trial of the plan's own values."""
MEMORY = "bytes over the budget"
"""Name of the constraint that a trial breaks which the memory does not hold."""


class Asked(NamedTuple):
    """A trial to run."""

    number: int
    title: str
    """Of the default and the published starts; nothing for one that was drawn."""
    values: Values


class Engine:
    """A study on Optuna's storage, which one process at a time may hold.

    Whatever it is told twice, because a kill came before it was known to be done, counts once. All of its methods raise a
    StorageError where the storage does not answer.
    """

    def __init__(self, study: Study, plan_values: Values, storage: str) -> None:
        """Begin a study, or go on with it.

        Args:
            study: what it is.
            plan_values: the plan's own value of every parameter that counts: trial 0.
            storage: URL of a database, or path of a journal file.

        Raises:
            PlanError: the storage has another plan's study of that name; a value lies outside of its range; the pruner
                does not go with the objectives.
            StorageError: the storage does not answer.
        """
        check_pruner(study)
        self.study = study
        self._beginnings = _beginnings(study.space, plan_values)
        self._address = storage
        self._storage = open_storage(storage)
        with self._answering():
            self._optuna = open_study(study, self._storage)
            self._study_id = self._storage.get_study_id_from_name(study.name)

    def ask(self) -> Asked:
        """Return the next trial: the same one again until it is handed out, or has ended."""
        with self._answering():
            trials = self._trials()
            waiting = [trial for trial in trials if _is_running(trial) and HANDED_OUT not in trial.user_attrs]
            if not waiting:
                # Drawn and stored whole in one write, so that it is the same after any kill.
                self._optuna.add_trial(self._begun(trials))
                waiting = self._trials()[len(trials) :]
        return Asked(waiting[0].number, waiting[0].user_attrs[TITLE], values_of(waiting[0], self.study.space))

    def hand_out(self, number: int) -> None:
        """Note that a trial that was asked for is run."""
        with self._answering():
            if _is_running(self._trials()[number]):
                self._live(number).set_user_attr(HANDED_OUT, True)

    def report(self, number: int, rung_index: int, values: tuple[float, ...]) -> bool:
        """Note what a trial scored at a rung; return whether it is to be stopped there.

        A rung that was reported before stays as it was, and so does a trial that has ended.

        Args:
            number: of the trial.
            rung_index: of the study's rungs, from 0.
            values: of the study's objectives, in their order.
        """
        with self._answering():
            trials = self._trials()
            trial, known = trials[number], rungs_of(trials[number])
            if rung_index in known:
                return known[rung_index].is_pruned
            if not _is_running(trial):
                return trial.state is not TrialState.COMPLETE
            rung = judged(self.study, trials, number, rung_index, values)
            live = self._live(number)
            # The dashboard's curves, which there are of one objective only.
            if len(values) == 1 and rung.iteration not in trial.intermediate_values:
                live.report(values[0], rung.iteration)
            live.set_user_attr(rung_name(rung_index), rung.attribute())
            return rung.is_pruned

    def finish(self, number: int) -> None:
        """Note that a trial reached its end, with what it scored last."""
        with self._answering():
            trial = self._trials()[number]
            rung = last_rung(trial)
            if rung is None:
                raise ValueError(f"trial {number} ends without a score")
            if _is_running(trial):
                self._optuna.tell(number, list(rung.values))

    def prune(self, number: int) -> None:
        """Note that a trial was stopped."""
        with self._answering():
            if _is_running(self._trials()[number]):
                self._optuna.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, message: str, over_bytes: int = 0) -> None:
        """Note that a trial cannot be done.

        Args:
            number: of the trial.
            message: why, one line.
            over_bytes: that it would take beyond the memory budget; the sampler keeps away from there.
        """
        with self._answering():
            trial = self._trials()[number]
            if not _is_running(trial):
                return
            live = self._live(number)
            live.set_user_attr(MESSAGE, message)
            if over_bytes > 0 and not trial.constraints:
                live.set_constraint(MEMORY, float(over_bytes))
            self._optuna.tell(number, state=TrialState.FAIL)

    def running(self) -> dict[int, Values]:
        """Return the values of the trials that were handed out and have not ended, by number."""
        with self._answering():
            trials = self._trials()
        handed_out = [trial for trial in trials if _is_running(trial) and HANDED_OUT in trial.user_attrs]
        return {trial.number: values_of(trial, self.study.space) for trial in handed_out}

    def trials(self) -> tuple[Trial, ...]:
        """Return all trials, without seconds and scores of cases."""
        with self._answering():
            return tuple(record_of(trial, self.study.space) for trial in self._trials())

    def pareto(self) -> tuple[int, ...]:
        """Return the numbers of the finished trials that no other is better than; of one objective, of the best."""
        with self._answering():
            finished = [trial for trial in self._trials() if trial.state is TrialState.COMPLETE]
        losses = losses_of(self.study.objectives, [trial.values for trial in finished])
        return tuple(finished[place].number for place in front(losses))

    def importances(self) -> dict[str, float]:
        """Return the share of the spread of the first objective that each field accounts for; nothing of few trials."""
        with self._answering():
            return importances_of(self.study, self._trials())

    def _begun(self, trials: Sequence[FrozenTrial]) -> FrozenTrial:
        title, values = self._beginnings.get(len(trials), ("", None))
        found = drawn(self.study, trials)
        return _created(self.study.space, title, found if values is None else found._replace(values=values))

    def _trials(self) -> list[FrozenTrial]:
        return self._optuna.get_trials(deepcopy=False)

    def _live(self, number: int) -> LiveTrial:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        return LiveTrial(self._optuna, trial_id)

    def _answering(self) -> AbstractContextManager[None]:
        return answering(self._address)


def _is_running(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.RUNNING


def _beginnings(space: Space, plan_values: Values) -> dict[int, tuple[str, Values]]:
    """Return the title and the values of each trial that is not drawn, by number: the plan's own values, and the starts."""
    found = {DEFAULT: (DEFAULT_TITLE, counting(space, plan_values))}
    for number, start in enumerate(space.starts, start=DEFAULT + 1):
        found[number] = (start.title, completed(space, start.values, plan_values))
    for title, values in found.values():
        # Raises for a value that the space does not have, before there is a study.
        _created(space, title, Drawn(values, {}))
    return found


def _created(space: Space, title: str, found: Drawn) -> FrozenTrial:
    """Return a trial to be stored."""
    counted = [parameter for parameter in space.parameters if parameter.field in found.values]
    return create_trial(
        state=TrialState.RUNNING,
        params={parameter.field: held(parameter, found.values[parameter.field]) for parameter in counted},
        distributions={parameter.field: distribution_of(parameter) for parameter in counted},
        user_attrs={TITLE: title},
        system_attrs=found.notes,
    )
