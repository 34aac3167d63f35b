"""Hours into iterations: a few real steps are timed on a copy that is thrown away."""

import copy
import time

from tumorseg.augmentation.pipeline import augment
from tumorseg.engine.batches import TRAINING, CaseReader, read_batch, torch_generator
from tumorseg.engine.learner import Learner
from tumorseg.engine.loop import patch_spec
from tumorseg.schema.plan import Configuration, Training

WARM_UP, MOST_STEPS, TIMED_S = 2, 12, 12.0
FEWEST_EPOCHS = 20
"""Epochs that a short training still has, so that the schedule can react."""
VALIDATION_COST = 0.4
"""Time of a held-out batch against that of a training step: forward against forward and backward."""
EPOCH_OVERHEAD_S = 1.0
"""Checkpoint, log and picture at the end of an epoch."""
SAFETY = 0.95


def seconds_per_step(learner: Learner, reader: CaseReader, configuration: Configuration, training: Training) -> float:
    """Time training steps, reading and augmentation included, without changing the learner."""
    state = copy.deepcopy(learner.state())
    spec = patch_spec(configuration, learner.targets, configuration.augmentation)
    times: list[float] = []
    for number in range(WARM_UP + MOST_STEPS):
        started = time.perf_counter()
        batch = read_batch(reader, spec, seed=training.seed, stream=TRAINING, number=number)
        images, segmentations = augment(
            batch.images.to(learner.device),
            batch.segmentations.to(learner.device),
            configuration.augmentation,
            patch_size=configuration.patch_size,
            generator=torch_generator(training.seed, TRAINING, number),
        )
        float(learner.step(images, segmentations, 0).total)
        times.append(time.perf_counter() - started)
        if number >= WARM_UP and sum(times[WARM_UP:]) > TIMED_S:
            break
    learner.restore(state)
    timed = times[WARM_UP:]
    return sum(timed) / len(timed)


def fit_to_hours(training: Training, step_s: float, *, has_validation: bool) -> Training:
    """Return the training with its length set so that it takes `max_hours`.

    Args:
        training: with `max_hours` set.
        step_s: seconds of a training step.
        has_validation: whether each epoch ends with held-out batches.
    """
    assert training.max_hours is not None
    budget = training.max_hours * 3600 * SAFETY
    per_epoch = EPOCH_OVERHEAD_S
    if has_validation:
        per_epoch += VALIDATION_COST * step_s * training.validation_iterations
    steps = max(1, min(training.iterations_per_epoch, int((budget / FEWEST_EPOCHS - per_epoch) / step_s)))
    epochs = max(1, int(budget / (steps * step_s + per_epoch)))
    return training.model_copy(update={"epochs": epochs, "iterations_per_epoch": steps})
