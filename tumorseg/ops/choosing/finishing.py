"""What is done to an ensemble's answer: thresholds of regions, and steps of postprocessing."""

from collections.abc import Iterator

from tumorseg.ops.choosing.protocol import HALF, Choice
from tumorseg.ops.choosing.rounds import Round, Search, Setting, Standing, take_best
from tumorseg.schema.ensembles import PostprocessingStep

THRESHOLDS = tuple(round(0.05 * count, 2) for count in range(2, 19))
""".1 to .9 in steps of .05."""
_SWEEPS = 3
"""Times that all regions are gone through at most; one rarely changes what is best for another."""


def improve_thresholds(standing: Standing, setting: Setting) -> Search:
    """Move the threshold of each region to where it scores best, if that harms no other, until nothing moves; of labels nothing."""
    if not setting.has_regions:
        return standing
    for _ in range(_SWEEPS):
        before = standing.choice
        for name in range(len(setting.names)):
            proposals = list(_thresholds(standing.choice, name, len(setting.names)))
            standing = yield from take_best(standing, Round("thresholds", proposals, name), setting)
        if standing.choice == before:
            break
    return standing


def _thresholds(choice: Choice, name: int, num_names: int) -> Iterator[Choice]:
    """Yield a choice for each threshold of one region."""
    found = choice.thresholds or (HALF,) * num_names
    for threshold in THRESHOLDS:
        yield choice._replace(thresholds=(*found[:name], threshold, *found[name + 1 :]))


def improve_steps(standing: Standing, setting: Setting) -> Search:
    """Append the step that improves the mean over names most, if it harms none, again and again.

    A step that gained nothing in one round is not tried in the next, and one of the same kind for the same labels not either: its
    volume was chosen.
    """
    open_steps = list(setting.options.steps)
    while open_steps and len(standing.choice.steps) < setting.options.most_steps:
        done = standing.choice.steps
        proposals = [standing.choice._replace(steps=(*done, step)) for step in open_steps]
        after = yield from take_best(standing, Round("steps", proposals), setting)
        if after.choice == standing.choice:
            return after
        open_steps = list(_still_open(standing, after))
        standing = after
    return standing


def _still_open(before: Standing, after: Standing) -> Iterator[PostprocessingStep]:
    """Yield the steps that gained in the last round, and differ from the one that was taken in more than a volume."""
    taken = _what(after.choice.steps[-1])
    for trial in after.trials[len(before.trials) :]:
        step = trial.choice.steps[-1]
        if trial.verdict != "no gain" and _what(step) != taken:
            yield step


def _what(step: PostprocessingStep) -> PostprocessingStep:
    """Return a step without its volume."""
    return step.changed(least_mm3=0) if step.kind in ("remove_small", "replace_small") else step
