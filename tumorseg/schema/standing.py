"""How trainings stand, as `status` tells it."""

from typing import Literal

from tumorseg.schema.base import Record

TrainingState = Literal[
    "preparing",
    "training",
    "validating",
    "silent",
    "stopped",
    "killed",
    "failed",
    "not validated",
    "finished",
    "broken",
]
"""preparing, training, validating: its process lives. silent: on another machine, without a sign for minutes. stopped: by a signal or
Ctrl-C, the same command goes on. killed: its process is gone without a word, the same command goes on. failed: it ended with an error. not
validated: trained to its end, but its held-out cases are not scored. broken: a file cannot be read."""
RUNNING: tuple[TrainingState, ...] = ("preparing", "training", "validating")


class TrainingStanding(Record):
    """One training below the work folder."""

    folder: str
    """Its folder."""
    dataset: str
    """Name of the dataset."""
    plan: str
    """Name of the plan."""
    configuration: str
    """Which configuration is trained."""
    fold: str
    """Number of the fold, or `all`."""
    state: TrainingState
    """What it does, or how it ended."""
    epoch: int | None = None
    """Epochs that are logged, the present one included while it trains."""
    num_epochs: int | None = None
    """Planned; null where that is not known yet."""
    iteration: int | None = None
    """Steps so far."""
    num_iterations: int | None = None
    """Planned."""
    dsc: float | None = None
    """Mean over labels or regions on held-out patches after the latest epoch; null where there were none."""
    best_dsc: float | None = None
    """The best of all epochs."""
    loss: float | None = None
    """Of the latest step, or mean of the latest epoch."""
    num_skipped: int = 0
    """Steps of its latest process that were not taken."""
    seconds_left: float | None = None
    """Until the planned end, without the final validation; null unless it trains."""
    seconds_silent: float | None = None
    """Since its last sign of life; null where it gave none."""
    host: str | None = None
    """Machine of its latest process."""
    process_id: int | None = None
    """Of that process."""
    note: str = ""
    """What there is to know or to do, in one line."""


class StatusReport(Record):
    """The result of `status`."""

    folders: tuple[str, ...]
    """Where was looked."""
    trainings: tuple[TrainingStanding, ...]
    """By dataset, plan, configuration and fold."""
    num_aside: int
    """Earlier trainings that `--restart` moved aside, and that are not listed."""
