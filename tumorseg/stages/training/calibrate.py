"""Hours into iterations: a few real steps are timed before the training proper."""

import time
from contextlib import closing
from itertools import count, islice

from tumorseg.engine.batches import TRAINING
from tumorseg.engine.feed import Feeds, Place
from tumorseg.engine.learner import Learner
from tumorseg.errors import Stopped
from tumorseg.schema.training import Training
from tumorseg.stages.opening.stopping import is_stop_asked

# Steps that are not timed, most that are, and seconds after which a slow machine has shown enough.
WARM_UP, MOST_STEPS, TIMED_S = 2, 12, 12.0
FEWEST_EPOCHS = 20
"""Epochs that a short training still has, so that the schedule can react; fewer if epochs would get too short."""
FEWEST_STEPS = 10
"""Steps that an epoch has at least, so that held-out batches and checkpoints do not eat the time."""
VALIDATION_COST = 0.4
"""Time of a held-out batch against that of a training step: forward against forward and backward."""
EPOCH_OVERHEAD_S = 1.0
"""Checkpoint, log and picture at the end of an epoch."""
# A step may take longer than those that were timed, and a job that is cut off at its limit gives no model.
SAFETY = 0.95


def seconds_per_step(learner: Learner, feeds: Feeds) -> float:
    """Return the mean time of a training step, waiting for its batch included, as patches are read and augmented beside it.

    Args:
        learner: whose weights the steps change.
        feeds: batches of the training.

    Raises:
        Stopped: a signal asked to.
    """
    times: list[float] = []
    # Without an end, so that patches are read beside the last steps as beside the first.
    places = (Place(TRAINING, number) for number in count())
    with closing(feeds.batches(places)) as batches:
        ended = time.perf_counter()
        for batch in islice(batches, WARM_UP + MOST_STEPS):
            learner.step(batch.inputs, 0)
            began, ended = ended, time.perf_counter()
            times.append(ended - began)
            # Asked in all processes alike: each step needs all of them.
            if learner.ranks.any(is_stop_asked()):
                raise Stopped("steps were only timed, and there is no checkpoint yet")
            if learner.ranks.any(sum(times[WARM_UP:]) > TIMED_S):
                break
    timed = times[WARM_UP:]
    return learner.ranks.of_first(sum(timed) / len(timed))


def fit_to_hours(training: Training, step_s: float, *, has_validation: bool) -> Training:
    """Return the training with its length set so that it takes `max_hours`.

    The share of held-out batches stays the plan's. Short trainings have shorter epochs first, and fewer ones then.

    Args:
        training: with `max_hours` set.
        step_s: seconds of a training step.
        has_validation: whether each epoch ends with held-out batches.
    """
    assert training.max_hours is not None
    budget = training.max_hours * 3600 * SAFETY
    share = training.validation_iterations / training.iterations_per_epoch
    cost = step_s * (1 + VALIDATION_COST * share) if has_validation else step_s
    in_fewest = int((budget / FEWEST_EPOCHS - EPOCH_OVERHEAD_S) / cost)
    steps = max(1, min(training.iterations_per_epoch, max(FEWEST_STEPS, in_fewest)))
    epochs = max(1, int(budget / (steps * cost + EPOCH_OVERHEAD_S)))
    # FEWEST_STEPS may be more than there is time for.
    if epochs == 1:
        steps = max(1, min(steps, int((budget - EPOCH_OVERHEAD_S) / cost)))
    validation = max(1, round(share * steps))
    length = {"epochs": epochs, "iterations_per_epoch": steps, "validation_iterations": validation}
    # The hours are those of the whole training, in one piece.
    return training.changed(extension=None, **length)
