"""What `train` is asked for, and what it gives."""

from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from tumorseg.schema.base import Record
from tumorseg.schema.metrics import MetricsReport
from tumorseg.schema.plan import Plan
from tumorseg.stages.opening.fold_folders import TrainOptions
from tumorseg.stages.opening.loaded import Roots
from tumorseg.storage.layout import FoldFolder


class TrainRequest(Record):
    """Options of `train`."""

    roots: Roots = Roots()
    """Data and work folder."""
    plan: Plan
    """What to carry out."""
    fold: str
    """Number of the fold, or `all` for every case and no validation."""
    configuration: str | None = None
    """The plan's default if None."""
    options: TrainOptions = TrainOptions()
    """Overrides of the plan, resolved once into the fold's own plan."""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, …; the best there is if None."""
    init: Path | None = None
    """Model or file whose weights a training is begun with; one that goes on with a checkpoint needs it no more."""
    restart: bool = False
    """Move an earlier training aside."""
    has_validation: bool = True
    """Whether the held-out cases are predicted at full resolution in the end."""
    dataset: str | None = None
    """Where the dataset is, if it moved."""
    jobs: int | None = None
    """Processes for preprocessing."""
    num_workers: int | None = Field(default=None, ge=0)
    """Threads that read and augment beside the steps; 0: each batch is read when it is needed; as many as cores and memory allow if
    None."""
    mlflow: str | None = None
    """Where the training is mirrored to, as MLflow takes it; nowhere if None."""


class Trained(NamedTuple):
    """Result of a training."""

    folder: FoldFolder
    is_finished: bool
    """False if a signal ended it early; the same command goes on."""
    metrics: MetricsReport | None
    """Of the held-out cases; None with `--fold all`, without validation, or if not finished."""
    kept: str = ""
    """What a signal did not lose, in words; empty if it is finished, and of all processes that train together but the first."""
