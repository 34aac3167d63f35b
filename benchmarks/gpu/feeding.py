"""Steps fed while they are taken: how long they wait for patches that are read, carried over and augmented beside them."""

import time
from contextlib import closing
from functools import cache, partial
from itertools import count, islice

import numpy as np

from benchmarks.gpu.reference_plans import Planned, learner_of, planned
from benchmarks.gpu.sizes import Row, Size, Tell, Timing, attempt, forget, rounded
from tumorseg.engine.batches import TRAINING
from tumorseg.engine.feed import Data, Feeds, Place, open_feeds
from tumorseg.engine.learner import Learner
from tumorseg.engine.stopwatch import EpochClock
from tumorseg.ops.cropping import box_slices, inside
from tumorseg.types import Box, Image, Segmentation

PLANS = ("BrainTumour__nnunet", "BrainTumour__fast_prototyping")
"""A large patch, and a small one whose steps are done soonest."""
NUM_CASES, SHAPE = 4, (140, 172, 140)
"""Voxels of a case of BraTS, cropped to the head."""
TINY_SHAPE = (21, 23, 39)
NUM_WORKERS = (None, 1, 4)
"""None for as many as the machine allows."""
TIMING = Timing(6, 10, 100, 4.0)
ONCE = Timing(1, 1, 1, 0.0)


class NoiseCases:
    """Cases of noise with a ball of each class, in main memory: nothing of their reading is decompression."""

    def __init__(self, shape: tuple[int, int, int], num_channels: int, num_classes: int) -> None:
        """Make one case, which stands for several."""
        rng = np.random.default_rng(0)
        self._image = rng.standard_normal((num_channels, *shape), np.float32)
        offsets = [np.arange(size) - size / 2 for size in shape]
        distance = np.sqrt(sum(part**2 for part in np.meshgrid(*offsets, indexing="ij")))
        # Ball in ball, so that each class has voxels.
        radii = np.linspace(min(shape) / 2, min(shape) / 8, num_classes - 1)
        self._segmentation = sum(distance < radius for radius in radii).astype(np.int8)
        self._locations = [np.argwhere(self._segmentation == number) for number in range(num_classes)]

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Return the cases."""
        return tuple(f"case {number}" for number in range(NUM_CASES))

    def shape(self, case_id: str) -> tuple[int, int, int]:
        """Return a case's voxels (Z, Y, X)."""
        depth, height, width = self._segmentation.shape
        return depth, height, width

    def supervised_classes(self, case_id: str) -> tuple[int, ...]:
        """Return no classes: patches may lie anywhere."""
        return ()

    def num_locations(self, case_id: str, class_index: int) -> int:
        """Return how many voxels of a class are known."""
        return len(self._locations[class_index])

    def num_voxels(self, case_id: str, class_index: int) -> int:
        """Return how many voxels of a class there are."""
        return len(self._locations[class_index])

    def location(self, case_id: str, class_index: int, number: int) -> tuple[int, int, int]:
        """Return one of them."""
        z, y, x = self._locations[class_index][number].tolist()
        return z, y, x

    def read(self, case_id: str, box: Box) -> tuple[Image, Segmentation]:
        """Return the part of a box inside the case."""
        index = box_slices(inside(box, self.shape(case_id)))
        return self._image[index], self._segmentation[index[1:]]

    def read_previous(self, case_id: str, box: Box) -> Segmentation:
        """Return the reference itself."""
        return self.read(case_id, box)[1]


def measure(size: Size, tell: Tell) -> None:
    """Tell a row for each plan and number of reading threads."""
    for name in PLANS[-1:] if size.is_tiny else PLANS:
        found = planned(name, "3d_fullres", size)
        for num_workers in NUM_WORKERS:
            known = found.row() | {"asked_for": "as many as allowed" if num_workers is None else num_workers}
            attempt(tell, known, partial(feeding_row, found, num_workers, size), size=size, takes_s=5.0)


@cache
def cases_of(num_channels: int, num_classes: int, shape: tuple[int, int, int]) -> NoiseCases:
    """Return cases, made once for all rows."""
    return NoiseCases(shape, num_channels, num_classes)


def feeding_row(found: Planned, num_workers: int | None, size: Size) -> Row:
    """Return seconds of a step, the share of time in which steps wait, and what else a batch takes in other threads."""
    forget(size.device)
    training, targets = found.plan.training, found.setting.targets
    learner = learner_of(found, training, size.device)
    cases = cases_of(found.setting.num_channels, targets.num_classes, TINY_SHAPE if size.is_tiny else SHAPE)
    feeds = open_feeds(Data(cases, None), found.configuration, training, learner, num_workers=num_workers)
    row: Row = {"workers": feeds.reading.num_workers, "ahead": feeds.reading.num_ahead}
    return row | fed(feeds, learner, ONCE if size.is_tiny else TIMING)


def fed(feeds: Feeds, learner: Learner, timing: Timing) -> Row:
    """Take steps, and return where the time of one went, by the clock of a training."""
    clock, stopwatch = EpochClock(), feeds.training.reader.stopwatch
    num_steps, began = 0, 0.0
    with closing(feeds.batches(Place(TRAINING, number) for number in count())) as batches:
        for batch in islice(batches, timing.warm_up):
            learner.step(batch.inputs, 0)
        stopwatch.lap()
        clock.begin()
        began = time.perf_counter()
        for batch in islice(batches, timing.most_runs):
            with clock.part("step"):
                learner.step(batch.inputs, 0)
            num_steps += 1
            if num_steps >= timing.least_runs and time.perf_counter() - began > timing.most_s:
                break
        seconds = clock.lap(stopwatch)
    parts = ("step", "waiting", "reading", "augmentation", "transfer")
    figures = {f"{name}_s": rounded(getattr(seconds, name) / num_steps) for name in parts}
    share = seconds.waiting / (seconds.step + seconds.waiting)
    return {"steps": num_steps, "waiting_share": round(share, 4)} | figures
