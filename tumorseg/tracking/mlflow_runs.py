"""Trainings as runs of MLflow. Its types stay in this file, and no other file imports it.

Runs are found again by a tag, points by the last step that is there: to send the same once more changes nothing.
"""

import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock

from tumorseg.errors import StorageError

IDENTITY = "tumorseg.identity"
"""Tag by which a run is found again."""
FILES = "tumorseg.files"
"""Tag with the hash of every file that was sent."""
SETTLE_S = 2.0
"""In which a server has been told of all runs that processes make at the same moment."""
MOST_POINTS, MOST_PARAMETERS = 1000, 100
"""What MLflow takes in one request."""
MOST_CHARACTERS = 6000
"""Of a parameter; MLflow refuses longer ones."""
SQLITE = "sqlite:///"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Has MLflow's pages open on training runs rather than on those of language models."""
# Short, as what is not sent now is sent later: MLflow by itself tries for minutes.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "GIT_PYTHON_REFRESH": "quiet",
}

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
FIRST_OF_CHILDREN: tuple[Status, ...] = ("RUNNING", "FINISHED")
"""What a parent run is if a child is, in this order."""


class RunKey(NamedTuple):
    """A run, and what it is called."""

    identity: str
    name: str
    start_ms: int
    """Unix time."""


class Point(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    step: int
    time_ms: int


class DatasetRecord(NamedTuple):
    """A dataset that a run used."""

    name: str
    digest: str
    """36 characters at most."""
    source: Mapping[str, Any]
    schema: Mapping[str, Any]
    profile: Mapping[str, Any]
    context: str
    """`training` or `validation`."""


class Tracker:
    """One MLflow server or database, and one experiment on it."""

    def __init__(self, uri: str, experiment: str, artifacts: Path) -> None:
        """Connect, and make the experiment if there is none.

        Args:
            uri: `http://…`, `sqlite:///…`, `postgresql://…`, as MLflow takes it.
            experiment: its name.
            artifacts: folder of files for an experiment that this makes in a database; a server has its own place.

        Raises:
            StorageError: it cannot be reached, or MLflow cannot be imported.
        """
        self.uri = uri
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        with _told_in_one_line(self.uri), _one_at_a_time(uri):
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient

            # Importing it sets up a logger that tells of every table it makes.
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)

            self._client = MlflowClient(uri)
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                place = None if uri.startswith("http") else artifacts.resolve().as_uri()
                try:
                    self._experiment = self._client.create_experiment(experiment, artifact_location=place, tags=KIND)
                except MlflowException:
                    found = self._client.get_experiment_by_name(experiment)
                    if found is None:  # it was not that another process was quicker
                        raise
            if found is not None:
                self._experiment = found.experiment_id

    def run(self, key: RunKey, *, tags: Mapping[str, str], parent: str | None = None, is_alone: bool = False) -> str:
        """Return the id of a run; it is made if it is not there.

        In one SQLite file only one process makes runs at a time. On a server each that makes one waits until all that began
        at the same moment have made theirs; then all keep the one whose id sorts first.

        Args:
            key: by which it is found again.
            tags: of a run that this makes.
            parent: id of the run that it lies below.
            is_alone: whether no other process can make it now, so that there is nobody to wait for.
        """
        with _told_in_one_line(self.uri), _one_at_a_time(self.uri):
            if known := self._runs(key.identity):
                return known[0]
            own = {IDENTITY: key.identity} | ({} if parent is None else {"mlflow.parentRunId": parent})
            made = self._client.create_run(
                self._experiment, start_time=key.start_ms, tags={**tags, **own}, run_name=key.name
            )
            if not is_alone and not self.uri.startswith(SQLITE):
                time.sleep(SETTLE_S)
            chosen = self._runs(key.identity)[0]
            if chosen != made.info.run_id:
                self._client.delete_run(made.info.run_id)
            return chosen

    def _runs(self, identity: str) -> list[str]:
        found = self._client.search_runs([self._experiment], f"tags.`{IDENTITY}` = '{identity}'")
        # An order that all processes see alike.
        return sorted(run.info.run_id for run in found)

    def set_parameters(self, run: str, parameters: Mapping[str, str]) -> None:
        """Set the parameters that a run does not have yet; MLflow never changes one."""
        from mlflow.entities import Param

        with _told_in_one_line(self.uri):
            there = self._client.get_run(run).data.params
            named = {metric_name(name): value[:MOST_CHARACTERS] for name, value in parameters.items()}
            missing = [Param(name, value) for name, value in named.items() if name not in there]
            for chunk in _chunks(missing, MOST_PARAMETERS):
                self._client.log_batch(run, params=chunk)

    def last_step(self, run: str, name: str) -> int:
        """Return the last step of a metric that counts what was sent; -1 if there is none."""
        with _told_in_one_line(self.uri):
            # What counts something holds one more than its last step; a history grows for days.
            return round(self._client.get_run(run).data.metrics.get(metric_name(name), 0.0)) - 1

    def add_points(self, run: str, points: Sequence[Point]) -> None:
        """Add values of metrics, in their order; a database knows those again that it has."""
        from mlflow.entities import Metric

        metrics = [Metric(metric_name(point.name), point.value, point.time_ms, point.step) for point in points]
        with _told_in_one_line(self.uri):
            for chunk in _chunks(metrics, MOST_POINTS):
                self._client.log_batch(run, metrics=chunk)

    def sent_files(self, run: str) -> dict[str, str]:
        """Return the hash of every file that was sent, by name."""
        with _told_in_one_line(self.uri):
            found: dict[str, str] = json.loads(self._client.get_run(run).data.tags.get(FILES, "{}"))
            return found

    def add_files(self, run: str, files: Mapping[str, tuple[str, bytes]]) -> None:
        """Send files whose hash is another than that of what was sent before.

        Args:
            run: its id.
            files: hash and content by path.
        """
        sent = self.sent_files(run)
        with _told_in_one_line(self.uri), tempfile.TemporaryDirectory() as parent:
            for name, (digest, content) in files.items():
                if sent.get(name) == digest:
                    continue
                place = Path(parent) / Path(name).name
                place.write_bytes(content)
                folder = str(Path(name).parent)
                self._client.log_artifact(run, str(place), None if folder == "." else folder)
                sent[name] = digest
                self._client.set_tag(run, FILES, json.dumps(sent, sort_keys=True))

    def add_datasets(self, run: str, datasets: Sequence[DatasetRecord]) -> None:
        """Note what datasets a run used; those that are there are known by their digests."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = []
        for one in datasets:
            texts = {name: json.dumps(getattr(one, name)) for name in ("source", "schema", "profile")}
            dataset = Dataset(name=one.name, digest=one.digest, source_type="local", **texts)
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", one.context)]))
        with _told_in_one_line(self.uri):
            there = self._client.get_run(run).inputs
            known = {used.dataset.digest for used in ([] if there is None else there.dataset_inputs)}
            self._client.log_inputs(run, [used for used in inputs if used.dataset.digest not in known])

    def register(self, run: str, name: str, *, alias: str, folder: str) -> None:
        """Register a run's artifact folder as a version of a model, once, and give it an alias.

        Args:
            run: its id.
            name: of the model.
            alias: the version is found by; the latest run that has it gets it.
            folder: of the run's artifacts.
        """
        from mlflow.exceptions import MlflowException

        name = model_name(name)
        with _told_in_one_line(self.uri):
            try:
                self._client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            versions = self._client.search_model_versions(f"name = '{name}' and run_id = '{run}'")
            if versions:
                version = versions[0]
            else:
                source = f"{self._client.get_run(run).info.artifact_uri}/{folder}"
                version = self._client.create_model_version(name, source=source, run_id=run)
            # Apart from making it: a connection may have broken in between.
            if alias not in version.aliases:
                self._client.set_registered_model_alias(name, alias, version.version)

    def set_tags(self, run: str, tags: Mapping[str, str]) -> None:
        """Set the tags of a run that are others there, or not there."""
        with _told_in_one_line(self.uri):
            there = self._client.get_run(run).data.tags
            for name, value in tags.items():
                if there.get(name) != value:
                    self._client.set_tag(run, name, value)

    def set_status(self, run: str, status: Status, end_ms: int | None = None) -> None:
        """Set how a run stands."""
        with _told_in_one_line(self.uri):
            if status == "RUNNING":
                self._client.update_run(run, status=status)
            else:
                self._client.set_terminated(run, status=status, end_time=end_ms)

    def set_parent_status(self, parent: str) -> None:
        """Set how a parent run stands, by its children: running if one is, finished if one is and none runs."""
        with _told_in_one_line(self.uri):
            children = self._client.search_runs([self._experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
            standing = {child.info.status for child in children}
            ended = [child.info.end_time for child in children if child.info.end_time is not None]
        found = [one for one in FIRST_OF_CHILDREN if one in standing]
        self.set_status(parent, found[0] if found else "KILLED", max(ended, default=None))


@contextmanager
def _told_in_one_line(uri: str) -> Iterator[None]:
    """Turn whatever goes wrong with a server or a database into one line: MLflow lets many kinds of errors through."""
    try:
        yield
    except StorageError:
        raise
    except ImportError as error:
        # Drivers of databases are loaded when they are first needed.
        raise StorageError(
            without_password(f"MLflow at {uri} needs the package {error.name}")
            + "; install it (of PostgreSQL: pip install 'tumorseg[postgresql]'); then tumorseg track sends what is missing"
        ) from None
    except Exception as error:
        line = str(error).strip().partition("\n")[0] or type(error).__name__
        told = without_password(f"MLflow at {uri}: {line}")
        # Without its cause, whose text would have the password.
        raise StorageError(f"{told}; once it answers, tumorseg track sends what is missing") from None


def metric_name(name: str) -> str:
    """Return a name as MLflow takes it: letters and digits of any script, `_-. :`, and `/` between parts."""
    parts = (re.sub(r"[^\w\-. :]", "_", part).strip(" ") for part in name.split("/"))
    # MLflow takes names for paths: no empty part, and none of dots alone.
    return "/".join("_" if not part.strip(".") else part for part in parts)


def model_name(name: str) -> str:
    """Return the name of a registered model as MLflow takes it: without `/`, `:` and quotes."""
    return re.sub(r"[/:'\"%]", "_", name)


def _chunks(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _one_at_a_time(uri: str) -> AbstractContextManager[Any]:
    """Keep two processes from making the tables of one SQLite file at once, which neither would survive."""
    if not uri.startswith(SQLITE):
        return nullcontext()
    database = Path(uri.removeprefix(SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(database.with_name(f".{database.name}.lock"))


def without_password(text: str) -> str:
    """Return a text whose addresses have no user and password."""
    text = re.sub(r"://[^\s'\"]*@", "://…@", text)
    return re.sub(r"(password=)[^&\s'\"]*", r"\1…", text)
