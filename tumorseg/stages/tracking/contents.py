"""What a training's folder says, as MLflow keeps it: parameters, points of metrics, files, datasets."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tumorseg.reports.figures import losses_png
from tumorseg.reports.progress_figure import progress_png
from tumorseg.schema.base import record_hash
from tumorseg.schema.environments import Environment
from tumorseg.schema.logs import TrainingEvent
from tumorseg.schema.metrics import MetricsReport
from tumorseg.schema.plan import Plan
from tumorseg.stages.opening.fold_folders import Run
from tumorseg.storage.layout import FoldFolder
from tumorseg.tracking.mlflow_runs import DatasetRecord, Point

EPOCHS = "epochs_logged"
"""The metric that comes last of an epoch: what it says is there in full."""
SAMPLES = "samples_logged"
"""The same of the load of the machine."""
METRICS = "metrics.json"
"""The file whose arrival says that the scores of the held-out cases are there in full."""
MODEL_FOLDER = "model"
MOST_DIGEST = 36
"""Characters of a dataset's digest that MLflow takes."""
NUMBERS = ("train_loss", "validation_loss", "lr", "seconds", "data_wait_fraction", "memory_bytes")
GROUPS = {"train_losses": "loss", "loss_weights": "loss_weight", "dsc": "dsc", "seconds_by_part": "seconds_of"}
"""Field of an epoch's log to the group of metrics that it becomes; no group has the name of a metric, which would be a file in a folder's
place where MLflow keeps files."""


def parameters(plan: Plan, configuration: str) -> dict[str, str]:
    """Return every value of a training and its configuration, by dotted name."""
    document = plan.model_dump(mode="json")
    found = dict(_leaves(document["configurations"][configuration], ""))
    found |= dict(_leaves(document["training"], "training."))
    return found


def _leaves(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}{key}.")
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{prefix}{number}.")
    else:
        yield prefix.removesuffix("."), value if isinstance(value, str) else json.dumps(value)


def epoch_points(epochs: Iterable[Mapping[str, Any]], environment: Environment) -> Iterator[Point]:
    """Yield the points of epochs, of each the one that says that it is there last."""
    ended = environment.started_at
    for log in epochs:
        # Logs of earlier versions tell how long an epoch took, but not when that was.
        ended = log.get("ended_at") or ended + log["seconds"]
        step, time_ms = log["epoch"], round(1000 * ended)
        for name, value in (*_epoch_values(log), (EPOCHS, log["epoch"] + 1)):
            yield Point(name, float(value), step, time_ms)


def _epoch_values(log: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name in NUMBERS:
        if log.get(name) is not None:
            yield name, log[name]
    for field, group in GROUPS.items():
        # Logs of earlier versions have no seconds by part, or null.
        for name, value in (log.get(field) or {}).items():
            if value is not None:
                yield f"{group}/{name}", value
    scores = [value for value in log.get("dsc", {}).values() if value is not None]
    if scores:
        yield "dsc/mean", sum(scores) / len(scores)


def system_points(samples: Sequence[Mapping[str, float]], first: int) -> Iterator[Point]:
    """Yield the points of samples of the machine's load from number `first` on."""
    for step, sample in enumerate(samples[first:], start=first):
        if not sample:
            continue
        time_ms = round(1000 * sample["time"])
        for name, value in sample.items():
            if name != "time":
                yield Point(f"system/{name}", value, step, time_ms)
        yield Point(SAMPLES, step + 1.0, step, time_ms)


def score_points(report: MetricsReport, step: int, time_ms: int) -> Iterator[Point]:
    """Yield the scores of the held-out cases: mean and 95 % interval of every metric and label."""
    for label, summary in report.summary.items():
        for metric, found in summary.metrics.items():
            low, high = found.ci95 or (None, None)
            for name, value in (("mean", found.mean), ("ci95_low", low), ("ci95_high", high)):
                if value is not None and math.isfinite(value):
                    yield Point(f"final/{metric}/{label}/{name}", value, step, time_ms)


def documents(folder: FoldFolder, fingerprint: Path) -> dict[str, bytes]:
    """Return the records of a training, by name of the file to be sent."""
    files = {
        "plan.json": folder.plan,
        "run.json": folder.run,
        "init.json": folder.init,
        "environment.json": folder.environment,
        "fingerprint.json": fingerprint,
        METRICS: folder.metrics,
    }
    return {name: path.read_bytes() for name, path in files.items() if path.is_file()}


def figures(epochs: Sequence[Mapping[str, Any]], events: Iterable[TrainingEvent]) -> dict[str, bytes]:
    """Return the pictures of a training so far, with what befell it, by name of the file to be sent."""
    progress = progress_png(epochs, events=[event.model_dump() for event in events])
    return {"figures/progress.png": progress, "figures/losses.png": losses_png(epochs)}


def model_document(folder: FoldFolder, run: Run) -> bytes:
    """Return the artifact by which a model is found: its folder, and the hashes of what it is made of."""
    files = {}
    for path in (folder.plan, folder.best, folder.latest):
        if path.is_file():
            files[path.name] = {"sha256": _file_hash(path), "bytes": path.stat().st_size}
    document = {
        "kind": "tumorseg model",
        "folder": str(folder.root.resolve()),
        "plan": run.plan_name,
        "plan_hash": run.plan_hash,
        "configuration": run.configuration,
        "fold": run.fold,
        "tumorseg_version": run.tumorseg_version,
        "files": files,
    }
    return json.dumps(document, indent=2).encode()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def datasets(plan: Plan, fold: str, location: str) -> list[DatasetRecord]:
    """Return the dataset of a plan twice: what is trained on, and what is held out."""
    dataset = plan.dataset
    schema = {
        "channels": [channel.name for channel in dataset.channels],
        "labels": dict(dataset.labels),
        "regions": [region.name for region in dataset.regions],
    }
    num_cases = plan.fingerprint.num_cases
    held_out = 0 if fold == "all" else len(plan.folds[int(fold)])
    trained = num_cases if fold == "all" else num_cases - len(plan.not_trained_on(int(fold)))
    found = []
    for context, count in (("training", trained), ("validation", held_out)):
        if count:
            # The two have one content; a digest of its own keeps MLflow from taking them for one.
            own = hashlib.sha256(f"{dataset.content_hash} {record_hash(plan)} {fold} {context}".encode()).hexdigest()[
                :MOST_DIGEST
            ]
            source = {"location": location, "content_hash": dataset.content_hash}
            found.append(DatasetRecord(dataset.name, own, source, schema, {"num_cases": count}, context))
    return found
