"""Scores of a training at some moment: its held-out cases, predicted at full resolution and scored, and nothing kept."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from tumorseg.errors import StorageError, TrainingError
from tumorseg.schema.base import parse_record
from tumorseg.schema.cases import reading_of
from tumorseg.schema.dataset import Case
from tumorseg.schema.plan import Plan
from tumorseg.schema.score_rules import ScoreRules
from tumorseg.schema.targets import targets_of
from tumorseg.schema.tuning import CaseScores, Objective
from tumorseg.stages.evaluation.case_scoring import ScoreTask, Scoring, score_case
from tumorseg.stages.inference.case_report import CaseEntry
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.method import PredictOptions
from tumorseg.stages.inference.predict_cases import Predicted, predict_cases
from tumorseg.stages.inference.report_file import read_entries
from tumorseg.stages.inference.trained_model import Model, WeightFiles, load_networks
from tumorseg.stages.opening.fold_folders import fold_plan, read_run
from tumorseg.storage.checkpoints import load_network
from tumorseg.storage.images import read_geometry
from tumorseg.storage.layout import REPORT, FoldFolder
from tumorseg.tuning.objectives import case_scores, metrics_of

UNMIRRORED = PredictOptions(mirroring=False)
"""Mirrored views would take eight times as long, and help all plans alike."""
BESIDE = "network"
"""The part of a case's seconds that another part, `wait`, holds already."""


class Asked(NamedTuple):
    """What is asked of a training."""

    cases: Sequence[Case]
    """Which it is scored on."""
    objectives: Sequence[Objective]
    device: str
    masks: Path
    """Folder for its masks meanwhile."""
    should_stop: Callable[[], bool]
    """Asked at each pass of the network, and before each case that is scored."""


class _Stopping(Event):
    """Set once a task is to stop, so that the case that the network looks at is the last one."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        super().__init__()
        self._should_stop = should_stop

    def is_set(self) -> bool:
        """Return whether nothing more is to be done."""
        return super().is_set() or self._should_stop()


def score_cases(folder: FoldFolder, asked: Asked) -> dict[str, CaseScores] | None:
    """Score a training by its latest weights.

    Args:
        folder: of the training, with a checkpoint.
        asked: what is asked of it.

    Returns:
        Scores by case_id; None if it was stopped.

    Raises:
        TrainingError: cases cannot be predicted.
        TumorsegError: a reference cannot be read, or the disk cannot be written.
    """
    model = load_latest(folder, asked.device)
    model.runtime.stopped = _Stopping(asked.should_stop)
    try:
        predicted = predict_cases(alone(model), asked.cases, asked.masks, options=UNMIRRORED)
        if asked.should_stop():
            return None
        _check_predicted(predicted, asked)
        return _score_masks(predicted.files, model.plan, asked)
    finally:
        shutil.rmtree(asked.masks, ignore_errors=True)


def load_latest(folder: FoldFolder, device: str) -> Model:
    """Load a training as it is now, whether it has ended or not.

    Raises:
        PlanError: the folder holds no training.
        StorageError: the checkpoint is missing or damaged.
    """
    plan = fold_plan(folder)
    configuration = plan.configurations[read_run(folder).configuration]
    return load_networks(plan, configuration, WeightFiles([folder.latest], _read_weights), device)


def _read_weights(path: Path, _network: nn.Module) -> Mapping[str, Tensor]:
    return load_network(path)


def _check_predicted(predicted: Predicted, asked: Asked) -> None:
    if predicted.failures:
        first = predicted.failures[0]
        raise TrainingError(
            f"{len(predicted.failures)} of {len(asked.cases)} cases cannot be predicted, such as {first.case_id}: {first.message}"
        )


def _score_masks(files: Mapping[str, Path], plan: Plan, asked: Asked) -> dict[str, CaseScores] | None:
    """Return scores by case_id; None if stopped. Here rather than in processes of their own, which take seconds to start."""
    reading = reading_of(plan.dataset)
    scoring = Scoring(targets_of(plan.dataset), ScoreRules(metrics=metrics_of(asked.objectives)), reading)
    has_seconds, has_distances = "seconds" in asked.objectives, "hd95" in asked.objectives
    seconds = _seconds(asked.masks) if has_seconds else {}
    scores = {}
    for case in asked.cases:
        if asked.should_stop():
            return None
        found = score_case(ScoreTask(case.case_id, (str(files[case.case_id]),), case.label_files, scoring))
        diagonal = _diagonal_mm(case, reading.assumed_orientation) if has_distances else None
        scores[case.case_id] = case_scores(found.metrics, diagonal_mm=diagonal, seconds=seconds.get(case.case_id))
    return scores


def _seconds(masks: Path) -> dict[str, float]:
    """Return what each case took from its files to its mask, without what it waited for another case."""
    found = {}
    for case_id, text in read_entries(masks / REPORT, StorageError):
        parts = parse_record(CaseEntry, text, source=str(masks / REPORT), error=StorageError).seconds
        found[case_id] = sum(spent for part, spent in parts.items() if part != BESIDE)
    return found


def _diagonal_mm(case: Case, assumed_orientation: str | None) -> float:
    """Return the diagonal of a case's image."""
    geometry = read_geometry(case.images[0].path, assumed_orientation)
    edges_mm = np.linalg.norm(geometry.affine[:3, :3], axis=0) * geometry.shape[::-1]
    return float(np.linalg.norm(edges_mm))
