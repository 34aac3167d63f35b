"""One line of a training's log."""

from tumorseg.schema.base import Record


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
    """Wall time of the epoch."""
    data_wait_fraction: float
    """Share of the training time spent waiting for patches."""
    memory_bytes: int
    """Peak memory: reserved on a CUDA device, else of the process."""
    ended_at: float | None = None
    """Unix time of the epoch's end, s; null in logs of earlier versions."""
