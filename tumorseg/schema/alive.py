"""A training's sign of life, as `alive.json` holds it."""

from typing import Literal

from tumorseg.schema.base import Record

Phase = Literal["preparing", "training", "validating", "finished", "stopped", "failed"]
"""What a training does, or how it ended."""
ENDS: tuple[Phase, ...] = ("finished", "stopped", "failed")
"""Those after which no further sign follows."""


class Process(Record):
    """The process that trains, as told from every other."""

    host: str
    """Name of the machine."""
    process_id: int
    """On that machine."""
    started_ticks: int | None
    """When the system started it, in its own ticks, as numbers of processes are given out again; null where it does not tell."""
    machine: str | None
    """Which running system the number is of: its boot and its space of process numbers; null where it does not tell."""


class SignOfLife(Record):
    """Where a training stands, rewritten every few seconds while its process lives."""

    phase: Phase
    """What is done now, or how it ended."""
    message: str = ""
    """One line on how it ended; empty where there is nothing to say."""
    process: Process
    """Whose sign it is."""
    began_at: float
    """Unix time at which this process began, s."""
    beat_at: float
    """Unix time of this sign, s, by the clock of its machine."""
    num_beats: int
    """Signs that this process has given."""
    moved_at: float
    """Unix time of the latest step, or change of phase, s."""
    iteration: int | None = None
    """Steps so far; null before the first one of this process, as are the fields below."""
    num_iterations: int | None = None
    """Steps until the planned end."""
    epoch: int | None = None
    """Present epoch, from 1."""
    num_epochs: int | None = None
    """Epochs until the planned end."""
    loss: float | None = None
    """Of the latest step; null where it is not finite."""
    best_dsc: float | None = None
    """The best mean of an epoch's DSC over labels or regions on held-out patches; null where there were none."""
    seconds_left: float | None = None
    """Until the planned end, without the final validation."""
    num_skipped: int = 0
    """Steps of this process that were not taken."""
    has_validation: bool = True
    """Whether held-out cases are predicted and scored in the end."""
