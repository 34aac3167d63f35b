"""Threads that read ahead: how many, how far, and each without helpers of its own.

Threads rather than processes: nothing has to be carried through shared memory, none of them can be killed by itself, and they begin at
once. What a thread reads must not depend on how many there are, nor on the cores of the machine: sums over voxels are taken in
another order by a team of helpers, so each reader computes alone.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from threading import Lock, Thread
from typing import NamedTuple, TypeVar

import torch

from tumorseg.workers.machine import available_bytes, num_cores

T = TypeVar("T")

CORES_PER_READER = 4
"""Cores that compute a network's steps for each one that reads and augments for them (decision 050)."""
MOST_READERS = 8
"""Beside a GPU, whose steps take patches as they are: two or three are usually enough."""
OWN_CORES = 2
"""Cores that are left to the threads that step and that feed a GPU."""
LEAST_AHEAD = 3
"""Batches that are read while the network computes, so that one slow read is not felt."""
MEMORY_SHARE = 1 / 8
"""Share of the free memory for what is read ahead; the rest is the network's, and the disk cache's."""


class Room(NamedTuple):
    """What there is to read with."""

    num_cores: int
    free_bytes: int | None
    """None if unknown."""

    @classmethod
    def here(cls, num_processes: int) -> "Room":
        """Return what this machine has for each of the processes that train together, taken to be all on it."""
        free = available_bytes()
        return cls(max(1, num_cores() // num_processes), None if free is None else free // num_processes)


class Needs(NamedTuple):
    """What reading takes."""

    on_gpu: bool
    """Whether a GPU takes the steps and augments."""
    patches_per_batch: int
    patch_bytes: int
    """Memory of a patch that waits for its turn."""
    reading_bytes: int
    """Memory of a patch while it is read and augmented."""


class Reading(NamedTuple):
    """How patches are read."""

    num_workers: int
    """Threads beside the one that takes the steps; 0: one reads while that one waits, so that no two ever compute at once."""
    num_ahead: int
    """Batches that are read or ready while the network computes."""


def decide_reading(room: Room, needs: Needs, num_workers: int | None = None) -> Reading:
    """Return how patches are read.

    Args:
        room: what there is to read with.
        needs: what reading takes.
        num_workers: as the user wants it; None for as many as cores and memory allow.
    """
    memory = None if room.free_bytes is None else int(room.free_bytes * MEMORY_SHARE)
    if num_workers is None:
        num_workers = _by_cores(room.num_cores, on_gpu=needs.on_gpu)
        if memory is not None:
            num_workers = max(1, min(num_workers, memory // needs.reading_bytes))
    if num_workers == 0:
        return Reading(0, 0)
    # One batch more than the workers are busy with, or they would pause whenever one is done.
    num_ahead = max(LEAST_AHEAD, 1 - (-num_workers // needs.patches_per_batch))
    if memory is not None:
        num_ahead = min(num_ahead, memory // (needs.patches_per_batch * needs.patch_bytes))
    # Without any, nothing would be read beside the steps at all.
    return Reading(num_workers, max(1, num_ahead))


def _by_cores(cores: int, *, on_gpu: bool) -> int:
    if on_gpu:
        return max(1, min(MOST_READERS, cores - OWN_CORES))
    return max(1, cores // CORES_PER_READER)


def ahead(begun: Iterable[T], count: int) -> Iterator[T]:
    """Yield what begins when it is drawn, in order, each once `count` later ones have begun."""
    waiting: deque[T] = deque()
    for one in begun:
        waiting.append(one)
        if len(waiting) > count:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


_STARTING = Lock()


def compute_alone() -> None:
    """Have this thread compute without helpers, and leave all other threads as they are.

    Torch gives every thread that calls it a team as large as the processor; those of two threads would take the cores from each other.
    """
    # Asked first: a thread takes up the size of its team when it first needs it, and keeps what it is told from then on.
    with _STARTING:
        usual = torch.get_num_threads()
        torch.set_num_threads(1)
        # What was told last is also what new threads begin with: put back by one that does nothing else.
        restoring = Thread(target=torch.set_num_threads, args=(usual,))
        restoring.start()
        restoring.join()
