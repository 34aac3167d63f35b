"""Training steps of a plan as `tumorseg train` takes them, with a clock around each.

    python -m benchmarks.training_steps -p PLAN --work WORK --data-root DATA [--precision bf16] [--num-workers 0]

A process of its own, as `tumorseg train` is one. Fold 0 is trained without held-out batches, checkpoints and logs, and stopped. The
last line tells of each timed step how long it took from the end of the step before, and how much of that was waiting.
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tumorseg.engine.feed import Data, open_feeds
from tumorseg.engine.learner import Inputs, Learner, StepResult
from tumorseg.engine.loop import Fit
from tumorseg.engine.observers import Observer, Step
from tumorseg.engine.stopwatch import Stopwatch
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.opening.loaded import Roots, read_plan
from tumorseg.stages.training.preprocess import PreprocessRequest, preprocess
from tumorseg.storage.cases import CaseStore
from tumorseg.workers.pages import keep_freed_pages

CONFIGURATION = "3d_fullres"
FOLD = 0
FURTHER = 20
"""Steps that are planned beyond the timed ones, or there would be nothing to read ahead during the last of these."""


class Span(NamedTuple):
    """A step, in s of one clock."""

    began: float
    ended: float


class Beside(Observer):
    """Keeps what the threads beside the steps had done by the end of each step."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        """Watch the stopwatch of those who read."""
        self._stopwatch = stopwatch
        self.seconds: list[dict[str, float]] = []

    def on_step(self, step: Step) -> None:
        """Keep it."""
        self.seconds.append(self._stopwatch.seconds.copy())

    def a_step(self, name: str, warm_up: int) -> float:
        """Return what a part took, divided by the number of steps since some at the beginning."""
        first, last = self.seconds[warm_up - 1], self.seconds[-1]
        return (last.get(name, 0.0) - first.get(name, 0.0)) / (len(self.seconds) - warm_up)


def timed(learner: Learner) -> list[Span]:
    """Have a learner note when each step begins and ends, in a list that grows."""
    spans: list[Span] = []
    step = learner.step

    def noted(inputs: Inputs, iteration: int) -> StepResult:
        began = time.perf_counter()
        result = step(inputs, iteration)
        spans.append(Span(began, time.perf_counter()))
        return result

    learner.step = noted  # type: ignore[method-assign]
    return spans


def open_fit(options: argparse.Namespace) -> Fit:
    """Return a training of a plan's fold 0, opened as `tumorseg train` opens it."""
    plan = read_plan(options.plan)
    roots = Roots(data_root=options.data_root, work=options.work)
    stored = preprocess(PreprocessRequest(roots=roots, plan=plan, configurations=(CONFIGURATION,)))[CONFIGURATION]
    # A set of one case has no folds.
    others = plan.not_trained_on(FOLD) if plan.folds else frozenset()
    keys = {case_id: key for case_id, key in stored.keys.items() if case_id not in others}
    data = Data(CaseStore(stored.folder, keys), None)
    configuration = plan.configurations[CONFIGURATION]
    if options.no_augmentation:
        configuration = configuration.changed(augmentation=AugmentationSpec())
    precision = plan.training.precision.changed(cpu=options.precision)
    steps = options.warm_up + options.iterations + FURTHER
    training = plan.training.changed(epochs=1, iterations_per_epoch=steps, precision=precision)
    targets = targets_of(plan.dataset)
    channels = num_inputs(configuration, targets)
    learner = Learner(configuration, training, num_channels=channels, targets=targets, device="cpu")
    feeds = open_feeds(data, configuration, training, learner, num_workers=options.num_workers)
    return Fit(learner, training, feeds)


def time_steps(fit: Fit, *, warm_up: int, iterations: int) -> dict[str, Any]:
    """Take steps of a training that is planned to be longer, and return what each of the timed ones took.

    Args:
        fit: the training, which is stopped in the end.
        warm_up: steps before the timed ones, at least one.
        iterations: timed steps.
    """
    beside, spans = Beside(fit.feeds.training.reader.stopwatch), timed(fit.learner)
    fit.observers = (beside,)
    fit.should_stop = lambda: len(spans) == warm_up + iterations
    fit.run()
    # What a step waits for begins with the end of the one before.
    pairs = list(pairwise(spans[warm_up - 1 :]))
    return {
        "steps_s": [span.ended - before.ended for before, span in pairs],
        "waiting_s": [span.began - before.ended for before, span in pairs],
        "reading_s": beside.a_step("reading", warm_up),
        "augmentation_s": beside.a_step("augmentation", warm_up),
        "threads": torch.get_num_threads(),
        "readers": fit.feeds.reading.num_workers,
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Open a training and time its steps."""
    if not options.no_kept_pages:
        keep_freed_pages()
    return time_steps(open_fit(options), warm_up=options.warm_up, iterations=options.iterations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-p", "--plan", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--num-workers", type=int, help="as of `tumorseg train`")
    parser.add_argument("--iterations", type=int, default=12, help="timed steps")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before them, at least one")
    parser.add_argument("--no-augmentation", action="store_true", help="take patches as they are")
    parser.add_argument("--no-kept-pages", action="store_true", help="give freed memory back to the system")
    print("RESULT" + json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
