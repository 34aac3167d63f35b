"""One training mirrored to MLflow: whatever its folder says and MLflow lacks is sent."""

import hashlib
import logging
import statistics
from pathlib import Path
from typing import NamedTuple

from tumorseg.engine.ending import logged_num_iterations
from tumorseg.errors import TumorsegError
from tumorseg.schema.base import load_json
from tumorseg.schema.metrics import MetricsReport
from tumorseg.schema.plan import Plan
from tumorseg.stages.evaluation.overlays import case_overlay
from tumorseg.stages.opening.environment import read_environment, require_same
from tumorseg.stages.opening.fold_folders import fold_plan, read_run
from tumorseg.stages.opening.loaded import Roots, SourceNote, open_planned_dataset
from tumorseg.stages.tracking.contents import (
    EPOCHS,
    METRICS,
    MODEL_FOLDER,
    SAMPLES,
    datasets,
    documents,
    epoch_points,
    figures,
    model_document,
    parameters,
    score_points,
    system_points,
)
from tumorseg.storage.json_files import read_record
from tumorseg.storage.layout import FoldFolder, WorkFolder, work_folder
from tumorseg.tracking.epochs import read_epochs
from tumorseg.tracking.events import read_events
from tumorseg.tracking.mlflow_runs import RunKey, Status, Tracker

logger = logging.getLogger(__name__)

NUM_OVERLAYS = 3
"""The worst, the median and the best of the held-out cases."""


class Sent(NamedTuple):
    """How a training stands on MLflow."""

    run: str
    """Id of its run."""
    num_epochs: int
    """Epochs that are there."""
    is_finished: bool
    """Whether it was trained to its planned end."""


class Mirror:
    """A training's folder and its place on MLflow."""

    def __init__(self, folder: FoldFolder, roots: Roots, uri: str, dataset: str | None = None) -> None:
        """Read what does not change.

        Args:
            folder: of one fold.
            roots: where data and work folder are.
            uri: as MLflow takes it.
            dataset: where the dataset is, if it moved; its images are drawn under the overlays.

        Raises:
            PlanError: the folder holds no training.
        """
        self.folder, self._roots, self._uri, self._dataset = folder, roots, uri, dataset
        self._record, self._plan = read_run(folder), fold_plan(folder)
        self._environment = read_environment(folder)
        self._work = work_folder(roots.work, self._plan.dataset.name)
        self._tracker: Tracker | None = None
        self._run = self._parent = ""

    def send(self, *, is_running: bool, with_pictures: bool = True) -> Sent:
        """Send what is missing.

        Args:
            is_running: whether the training goes on.
            with_pictures: draw and send figures too.

        Raises:
            StorageError: MLflow does not answer; what arrived stays, the rest is sent next time.
        """
        self.check_there()
        tracker = self._connected()
        epochs = read_epochs(self.folder.log)
        there = tracker.last_step(self._run, EPOCHS)
        missing = [point for point in epoch_points(epochs, self._environment) if point.step > there]
        tracker.add_points(self._run, missing)
        self._send_samples(tracker)
        logged = epochs[-1].get("num_iterations") if epochs else None
        is_finished = bool(epochs) and epochs[-1]["iteration"] >= logged_num_iterations(self._plan.training, logged)
        files = documents(self.folder, self._work.fingerprint)
        if with_pictures and epochs:
            files |= figures(epochs, read_events(self.folder.events))
        # Not before it has ended: the checkpoint of the last epoch is written after its line of the log.
        has_model = is_finished and not is_running
        if has_model:
            files[f"{MODEL_FOLDER}/tumorseg.json"] = model_document(self.folder, self._record)
            files |= self._overlays()
        hashed = {name: (hashlib.sha256(data).hexdigest(), data) for name, data in files.items()}
        if METRICS in hashed:
            self._send_scores(tracker, hashed[METRICS][0], epochs[-1]["epoch"] if epochs else 0)
        tracker.add_files(self._run, hashed)
        if has_model:
            name = f"{self._plan.dataset.name}.{self._record.plan_name}.{self._record.configuration}"
            alias = f"fold-{self._record.fold}"
            tracker.register(self._run, name, alias=alias, folder=MODEL_FOLDER)
        status = _status(is_running=is_running, is_finished=is_finished)
        tracker.set_status(self._run, status, _end_ms(epochs))
        tracker.set_parent_status(self._parent)
        return Sent(self._run, len(epochs), is_finished)

    def check_there(self) -> None:
        """Check that the folder still holds the same training; `--restart` moves it aside and begins another in its place.

        Raises:
            StorageError: it does not.
        """
        require_same(self.folder, self._environment, "training")

    def _connected(self) -> Tracker:
        """Connect, and begin the runs of plan and fold, unless that was done before."""
        if self._tracker is not None:
            return self._tracker
        record, plan, environment = self._record, self._plan, self._environment
        tracker = Tracker(self._uri, plan.dataset.name, _artifacts(self._roots, plan))
        start = round(1000 * environment.started_at)
        tags = {"tumorseg.plan": record.plan_name, "tumorseg.plan_hash": record.plan_hash}
        parent = tracker.run(RunKey(record.plan_hash, record.plan_name, start), tags=tags)
        tracker.set_parameters(parent, {"dataset": plan.dataset.name, "plan": record.plan_name})
        git = environment.git
        own = {
            "tumorseg.configuration": record.configuration,
            "tumorseg.fold": record.fold,
            "tumorseg.folder": str(self.folder.root.resolve()),
            "tumorseg.host": environment.host,
            "tumorseg.device": environment.device,
            "tumorseg.version": record.tumorseg_version,
            **(
                {} if git is None else {"mlflow.source.git.commit": git.commit, "tumorseg.git_dirty": str(git.is_dirty)}
            ),
        }
        key = RunKey(environment.training_id, f"{record.configuration} fold {record.fold}", start)
        self._parent, self._run = parent, tracker.run(key, tags=tags | own, parent=parent)
        tracker.set_parameters(self._run, parameters(plan, record.configuration))
        tracker.add_datasets(self._run, datasets(plan, record.fold, _location(self._work)))
        self._tracker = tracker
        return tracker

    def _send_samples(self, tracker: Tracker) -> None:
        if not self.folder.system.is_file():
            return
        # The last line may be half written: it is sent next time.
        lines = self.folder.system.read_text("utf-8", errors="replace").split("\n")[:-1]
        samples = [_sample_of(line) for line in lines]
        first = tracker.last_step(self._run, SAMPLES) + 1
        tracker.add_points(self._run, list(system_points(samples, first)))

    def _send_scores(self, tracker: Tracker, digest: str, step: int) -> None:
        """Send the scores of the held-out cases; scored again, as after a repair of the dataset, they are sent again."""
        if tracker.sent_files(self._run).get(METRICS) == digest:
            return
        report = read_record(MetricsReport, self.folder.metrics)
        time_ms = round(1000 * self.folder.metrics.stat().st_mtime)
        tracker.add_points(self._run, list(score_points(report, step, time_ms)))

    def _overlays(self) -> dict[str, bytes]:
        """Return pictures of some of the held-out cases, by name of the file."""
        if not self.folder.metrics.is_file():
            return {}
        report = read_record(MetricsReport, self.folder.metrics)
        try:
            dataset = open_planned_dataset(self._plan, self._roots, self._dataset)
            cases = {case.case_id: case for case in dataset.cases}
            pictures = {}
            for rank, case_id in _worst_to_best(report).items():
                drawn = case_overlay(self._plan.dataset, cases[case_id], self.folder.prediction(case_id))
                pictures[f"figures/overlays/{rank}_{case_id}.png"] = drawn
        except (TumorsegError, KeyError) as error:
            # The dataset may have moved since; scores and curves do not depend on it.
            logger.warning("no overlays are sent: %s", error)
            return {}
        return pictures


def _sample_of(line: str) -> dict[str, float]:
    """Return a sample; one that a full disk or a power cut left half is empty, and keeps its number."""
    try:
        found = load_json(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "time" in found else {}


def _worst_to_best(report: MetricsReport) -> dict[str, str]:
    """Return the held-out cases of the lowest, the median and the highest mean DSC, by rank; each case once."""
    scores: dict[str, list[float]] = {}
    for found in report.cases:
        dsc = found.scores["dsc"]
        if dsc is not None:
            scores.setdefault(found.case_id, []).append(dsc)
    ordered = sorted(scores, key=lambda case_id: (statistics.fmean(scores[case_id]), case_id))
    if not ordered:
        return {}
    places = {"worst": 0, "median": len(ordered) // 2, "best": len(ordered) - 1}
    ranked = {ordered[place]: rank for rank, place in places.items()}
    return {rank: case_id for case_id, rank in ranked.items()}


def _status(*, is_running: bool, is_finished: bool) -> Status:
    if is_running:
        return "RUNNING"
    return "FINISHED" if is_finished else "KILLED"


def _end_ms(epochs: list[dict[str, object]]) -> int | None:
    ended = epochs[-1].get("ended_at") if epochs else None
    return round(1000 * ended) if isinstance(ended, float) else None


def _location(work: WorkFolder) -> str:
    """Return where the dataset was read, as `plan` noted it; nothing if it did not."""
    if not work.source.is_file():
        return ""
    return str(read_record(SourceNote, work.source).dataset)


def default_uri(work: Path) -> str:
    """Return the database below the work folder, which needs no server."""
    return f"sqlite:///{(work / 'mlflow.db').resolve()}"


def _artifacts(roots: Roots, plan: Plan) -> Path:
    return roots.work / "mlflow" / plan.dataset.name
