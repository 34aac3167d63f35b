"""How a training has gone so far, by its log: what a step takes, and the best scores."""

import statistics
from typing import NamedTuple

from tumorseg.engine.loop import Fit
from tumorseg.storage.layout import FoldFolder
from tumorseg.tracking.epoch_lines import Bests
from tumorseg.tracking.epochs import read_epochs
from tumorseg.tracking.pace import Pace

NUM_RECENT = 5
"""Epochs that tell what a step takes; the median, as one of them may have begun in the middle."""


class Course(NamedTuple):
    """What a training knows of itself before its next step."""

    pace: Pace
    """Counts the steps."""
    bests: Bests
    """Of the epochs that the checkpoint holds."""


def course_of(fit: Fit, folder: FoldFolder) -> Course:
    """Return how a training has gone until the point where its fit stands."""
    length = fit.training.iterations_per_epoch
    # A log that ran ahead of its checkpoint tells of epochs that are trained again.
    epochs = read_epochs(folder.log)[: fit.num_epochs_done]
    bests = Bests()
    for epoch in epochs:
        bests.add(epoch["train_loss"], epoch["dsc"])
    seconds = [epoch["seconds"] / length for epoch in epochs[-NUM_RECENT:]]
    usual_s = statistics.median(seconds) if seconds else None
    return Course(Pace(fit.num_iterations, fit.progress.iteration, span=length, usual_s=usual_s), bests)
