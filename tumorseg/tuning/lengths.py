"""How long trials and the trainings that judge take: by the plan's own length, or by the time there is."""

from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.schema.training import Training
from tumorseg.schema.tuning import Proxy

ETA = 3
"""From rung to rung a trial is trained so many times as long (Li et al., Hyperband, JMLR 2018)."""
NUM_RUNGS = 3
LEAST_FIRST = 3
"""Steps of trials are multiples of so many times a ninth, so that rungs are ends of epochs, which schedules go by, of any length."""
SHARE_OF_PLANNED = 100
"""A trial takes one of so many of the planned steps, within these bounds."""
LEAST_ITERATIONS, MOST_ITERATIONS = 108, 1809
FINAL_FACTOR = 2
"""What judges is trained so many times as long as a trial: nearer to the planned length, where the order may be another."""
MOST_CASES = 24
"""Cases at most that a trial is scored on, at each of its rungs."""
FINAL_EPOCHS = 20
"""Of what judges: its steps are a multiple."""
NUM_TRIALS, FULL_SHARE = 40, 0.6
"""Trials that a given time should be enough for, and what they take on average of one that is not stopped."""
NUM_JUDGED = 3
"""Two candidates and the plan as it was, for which there should be time in the end."""
SLACK = 1.15
"""Times what a trial takes for as many steps: folds that judge hold out more cases than trials are scored on."""
SCORING = 1.3
"""Times the steps: scores, start and end of a trial."""


class Time(NamedTuple):
    """What time a study has, and how fast it goes."""

    hours: float
    step_s: float
    """Of a training step with all cores."""
    num_each: int
    """Trainings that judge of each contender: folds times seeds."""


def proxy_of(training: Training, *, asked: int | None = None, time: Time | None = None) -> Proxy:
    """Return the length of trials, and where they are scored: a ninth and a third of the way, and at the end.

    Args:
        training: that is planned.
        asked: steps that the user wants.
        time: what there is of it, where it is to decide.

    Raises:
        PlanError: so few steps are asked for that nothing lies between them.
    """
    part = ETA ** (NUM_RUNGS - 1)
    if asked is not None and asked < part:
        raise PlanError(
            f"--proxy-iterations {asked}: expected at least {part}, as a trial is scored after a ninth of its steps"
        )
    wanted = asked or _planned_steps(training) // SHARE_OF_PLANNED
    if asked is None:
        if time is not None:
            wanted = _affordable(time)
        wanted = min(max(wanted, LEAST_ITERATIONS), MOST_ITERATIONS, max(_planned_steps(training), part))
    step = LEAST_FIRST if wanted >= LEAST_FIRST * part else 1
    first = wanted // part // step * step
    rungs = tuple(first * ETA**power for power in range(NUM_RUNGS))
    return Proxy(iterations=rungs[-1], rungs=rungs, most_cases=MOST_CASES)


def final_iterations_of(training: Training, proxy: Proxy, asked: int | None = None) -> int:
    """Return the steps of each training that judges: those asked for, or twice a trial's, but no more than are planned."""
    wanted = asked or max(proxy.iterations, min(FINAL_FACTOR * proxy.iterations, _planned_steps(training)))
    return wanted // FINAL_EPOCHS * FINAL_EPOCHS or wanted


def _planned_steps(training: Training) -> int:
    return training.epochs * training.iterations_per_epoch


def _affordable(time: Time) -> int:
    """Return the steps of a trial with which enough trials, and what judges them, fit into the time."""
    lengths = NUM_TRIALS * FULL_SHARE + SLACK * NUM_JUDGED * time.num_each * FINAL_FACTOR
    # Workers share the machine, so that more of them take no fewer seconds of it.
    return round(3600 * time.hours / (SCORING * time.step_s * lengths))
