"""A study mirrored to MLflow: a run of its own, and one below it for each trial; whatever its folder says and MLflow lacks is sent."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import PlanError, StorageError
from tumorseg.schema.plan import Plan
from tumorseg.schema.tuning import Study, Trial, TrialsSoFar, TuningResult
from tumorseg.stages.opening.environment import read_environment, require_same
from tumorseg.stages.tracking.study_contents import (
    RUNGS,
    STATUS,
    TRIALS,
    judged_points,
    study_parameters,
    study_points,
    trial_name,
    trial_parameters,
    trial_points,
    trial_tags,
)
from tumorseg.storage.json_files import read_record
from tumorseg.storage.study_folder import StudyFolder
from tumorseg.tracking.mlflow_runs import RunKey, Status, Tracker

STUDY_TAGS = {"tumorseg.kind": "study"}
TRIAL_TAGS = {"tumorseg.kind": "trial"}


class StudySent(NamedTuple):
    """How a study stands on MLflow."""

    run: str
    """Id of its run."""
    num_trials: int
    """Trials that are there."""
    is_finished: bool
    """Whether it has its result."""


class StudyMirror:
    """A study's folder and its place on MLflow."""

    def __init__(self, folder: StudyFolder, work: Path, uri: str) -> None:
        """Read what does not change.

        Args:
            folder: of the study.
            work: below which artifacts are kept that go into a database.
            uri: as MLflow takes it.

        Raises:
            PlanError: the folder holds no study.
        """
        self.folder, self._uri, self._work = folder, uri, work
        self._study = read_record(Study, folder.study, error=PlanError)
        self._plan = read_record(Plan, folder.plan, error=PlanError)
        self._environment = read_environment(folder)
        self._started_ms = round(1000 * self._environment.started_at)
        self._tracker: Tracker | None = None
        self._run = ""
        self._settled: set[int] = set()
        """Trials that are over and there in full."""

    @property
    def watched(self) -> Path:
        """Return the file that changes whenever there is something to send."""
        return self.folder.trials

    def send(self, *, is_running: bool) -> StudySent:
        """Send what is missing.

        Args:
            is_running: whether the study goes on.

        Raises:
            StorageError: MLflow does not answer, or the study was moved aside; what arrived stays, the rest is sent next time.
        """
        self.check_there()
        tracker = self._connected()
        result = self._result()
        trials = self._trials() if result is None else result.trials
        for trial in trials:
            if trial.number not in self._settled:
                self._send_trial(tracker, trial, is_running=is_running)
        there = tracker.last_step(self._run, TRIALS)
        points = study_points(trials, self._study, self._started_ms)
        tracker.add_points(self._run, [point for point in points if point.step > there])
        files = self._files()
        # Before the files, whose arrival says that what they hold was sent.
        if result is not None:
            self._send_result(tracker, result, files[self.folder.result.name][0])
        tracker.add_files(self._run, files)
        tracker.set_status(
            self._run, _status(is_running=is_running, is_finished=result is not None), self._end_ms(trials, result)
        )
        return StudySent(self._run, len(trials), result is not None)

    def check_there(self) -> None:
        """Check that the folder still holds the same study.

        Raises:
            StorageError: it does not.
        """
        require_same(self.folder, self._environment, "study")

    def _connected(self) -> Tracker:
        """Connect, and begin the study's run, unless that was done before."""
        if self._tracker is not None:
            return self._tracker
        study, dataset = self._study, self._plan.dataset.name
        tracker = Tracker(self._uri, dataset, self._work / "mlflow" / dataset)
        own = {
            "tumorseg.plan": study.plan_name,
            "tumorseg.plan_hash": study.plan_hash,
            "tumorseg.configuration": study.configuration,
            "tumorseg.folder": str(self.folder.root.resolve()),
            "tumorseg.host": self._environment.host,
            "tumorseg.version": study.tumorseg_version,
        }
        key = RunKey(self._environment.training_id, f"study {study.name}", self._started_ms)
        self._run = tracker.run(key, tags=STUDY_TAGS | own)
        tracker.set_parameters(self._run, study_parameters(study))
        self._tracker = tracker
        return tracker

    def _send_trial(self, tracker: Tracker, trial: Trial, *, is_running: bool) -> None:
        study = self._study
        key = RunKey(f"{self._environment.training_id}/{trial.number}", trial_name(trial), self._started_ms)
        run = tracker.run(key, tags=TRIAL_TAGS | trial_tags(trial, study), parent=self._run, is_alone=True)
        tracker.set_parameters(run, trial_parameters(trial))
        points = list(trial_points(trial, study, self._started_ms))
        there = tracker.last_step(run, RUNGS)
        rungs = [score.iteration for score in trial.scores]
        missing = set(rungs[there + 1 :])
        tracker.add_points(run, [point for point in points if point.step in missing])
        tracker.set_tags(run, trial_tags(trial, study))
        # A trial that runs in a study that does not waits for the next start.
        is_waiting = trial.state == "running" and not is_running
        tracker.set_status(run, "KILLED" if is_waiting else STATUS[trial.state], points[-1].time_ms if points else None)
        if trial.state != "running":
            self._settled.add(trial.number)

    def _send_result(self, tracker: Tracker, result: TuningResult, digest: str) -> None:
        """Send what came of the candidates; judged again, it is sent again."""
        if tracker.sent_files(self._run).get(self.folder.result.name) != digest:
            tracker.add_points(self._run, list(judged_points(result, self._started_ms)))
        chosen = "none" if result.chosen is None else str(result.chosen)
        tracker.set_tags(self._run, {"tumorseg.chosen": chosen, "mlflow.note.content": result.claim})

    def _trials(self) -> tuple[Trial, ...]:
        if not self.folder.trials.is_file():
            return ()
        return read_record(TrialsSoFar, self.folder.trials, error=StorageError).trials

    def _result(self) -> TuningResult | None:
        if not self.folder.result.is_file():
            return None
        return read_record(TuningResult, self.folder.result, error=StorageError)

    def _files(self) -> dict[str, tuple[str, bytes]]:
        """Return hash and content of the records of the study, by name."""
        folder = self.folder
        found = {}
        for path in (folder.study, folder.plan, folder.result, folder.report, folder.environment):
            if path.is_file():
                content = path.read_bytes()
                found[path.name] = (hashlib.sha256(content).hexdigest(), content)
        return found

    def _end_ms(self, trials: tuple[Trial, ...], result: TuningResult | None) -> int:
        passed = sum(trial.seconds for trial in trials) if result is None else result.seconds
        return self._started_ms + round(1000 * passed)


def _status(*, is_running: bool, is_finished: bool) -> Status:
    if is_finished:
        return "FINISHED"
    return "RUNNING" if is_running else "KILLED"
