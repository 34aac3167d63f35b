"""Hours into iterations: a few real steps are timed before the training proper."""

import time

from tumorseg.engine.feed import PatchFeed
from tumorseg.engine.learner import Learner
from tumorseg.schema.plan import Training

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


def seconds_per_step(learner: Learner, feed: PatchFeed) -> float:
    """Return the mean time of a training step, reading and augmentation included.

    Args:
        learner: whose weights the steps change.
        feed: patches of the training.
    """
    times: list[float] = []
    for number in range(WARM_UP + MOST_STEPS):
        started = time.perf_counter()
        learner.step(feed.inputs(feed.load(number)), 0)
        times.append(time.perf_counter() - started)
        # Asked in all processes alike: each step needs all of them.
        if number >= WARM_UP and learner.ranks.any(sum(times[WARM_UP:]) > TIMED_S):
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
    return training.changed(**length)
