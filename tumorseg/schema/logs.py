"""One line of a training's log, and of what befell it."""

from typing import Literal

from tumorseg.schema.base import Record


class EpochSeconds(Record):
    """Where the time of an epoch went.

    The thread that takes the steps spends `step`, `waiting` and `validation`, which add up to the epoch's seconds. The other three are
    those of all threads that read, augment and transfer beside it; with `--num-workers 0` it waits for them.
    """

    reading: float
    """Drawing, unpacking and checking patches, and measuring distances where that is done while reading."""
    augmentation: float
    """Of the patches."""
    transfer: float
    """To a GPU; next to nothing on a CPU."""
    step: float
    """Forward, loss, backward and update."""
    waiting: float
    """All else between two steps: for batches, for observers, for the files of the epoch before."""
    validation: float
    """Held-out batches, waits for them included."""


class EpochLog(Record):
    """Log entry at the end of an epoch."""

    epoch: int
    """From 0."""
    iteration: int
    """Steps so far."""
    train_loss: float
    """Mean over the epoch, steps whose loss was not finite left out."""
    train_losses: dict[str, float]
    """The same by component, unweighted."""
    loss_weights: dict[str, float]
    """Weight of each component."""
    validation_loss: float | None
    """Mean over held-out batches, those whose loss was not finite left out; null with `--fold all`."""
    dsc: dict[str, float | None]
    """Pooled over held-out patches, by label or region; null where neither prediction nor reference had any."""
    lr: float
    """Learning rate of the epoch's last step."""
    seconds: float
    """Wall time since the epoch before was logged, or since the training was started."""
    data_wait_fraction: float
    """Share of this time, without that of held-out batches, in which no step was taken."""
    memory_bytes: int
    """Peak memory: reserved on a CUDA device, else of the process."""
    num_skipped: int = 0
    """Steps of the epoch that were not taken, as loss or gradient was not finite."""
    num_parts: int = 1
    """Parts in which a batch went through the network at the epoch's end."""
    num_iterations: int | None = None
    """Steps of the whole training as it was known then: fewer than planned once it is ending sooner; null in logs of earlier versions."""
    ended_at: float | None = None
    """Unix time of the epoch's end, s; null in logs of earlier versions."""
    seconds_by_part: EpochSeconds | None = None
    """Where the time went; null in logs of earlier versions."""


EventKind = Literal["skipped", "divided", "collapsed", "restarted", "ends_early", "extended"]
"""skipped: a step whose loss was not finite. divided: batches go through the network in more parts. collapsed: labels that are not found
after half of the training. restarted: with another seed. ends_early: on a plateau. extended: by a tail."""


class TrainingEvent(Record):
    """What befell a training between two lines of its log."""

    kind: EventKind
    """What it was."""
    iteration: int
    """Steps so far, one that was left out included."""
    message: str
    """It in a sentence."""
    case_ids: tuple[str, ...] = ()
    """Cases of the batch, where it was about one."""
    at: float | None = None
    """Unix time, s."""
