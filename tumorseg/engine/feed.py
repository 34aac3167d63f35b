"""The batches of a training in their order, read, augmented and brought to the device while the network computes."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from tumorseg.engine.batches import TRAINING, VALIDATION, CaseReader, Item
from tumorseg.engine.dividing import memory_explained
from tumorseg.engine.learner import Learner
from tumorseg.engine.patch_feed import Assembly, FeedBatch, PatchFeed
from tumorseg.engine.patch_reader import LoadedItem
from tumorseg.engine.readers import Reading, Room, ahead, compute_alone, decide_reading
from tumorseg.engine.side_stream import SideStream
from tumorseg.schema.plan import Configuration
from tumorseg.schema.training import Training

T = TypeVar("T")

PLACED_AHEAD = 1
"""Batches that are brought to a GPU while it takes a step: its memory is the network's."""
TASKS_PER_READER = 2
"""Parts into which a batch is divided, so that all readers are at it and none has the last part for long."""

BRINGING = "while a batch was brought to the device"

Finish = Callable[[], FeedBatch]
"""Waits for a batch that has begun."""


class Begun(NamedTuple):
    """A batch on its way."""

    futures: Sequence[Future[Any]]
    """What is waited for."""
    finish: Finish


class Data(NamedTuple):
    """Readers of cases."""

    training: CaseReader
    validation: CaseReader | None
    """None with `--fold all`."""


class Place(NamedTuple):
    """Place of a batch."""

    stream: int
    """`TRAINING` or `VALIDATION`."""
    number: int


class Feeds(NamedTuple):
    """Batches of a training."""

    training: PatchFeed
    validation: PatchFeed | None
    """None with `--fold all`."""
    reading: Reading
    """How patches are read."""

    def batches(self, places: Iterable[Place]) -> Generator[FeedBatch, None, None]:
        """Yield batches in order, while the next ones are read, whatever their streams.

        An error comes up in place of the batch that it belongs to. Once closed, no thread is left.

        Args:
            places: drawn a few ahead of the batches, so that they may be endless.
        """
        with closing(self.begun(places)) as begun:
            for one in begun:
                yield one.finish()

    def begun(self, places: Iterable[Place]) -> Generator[Begun, None, None]:
        """Yield batches as `batches` does, each for the caller to wait for while the next ones are read."""
        device = self.training.device
        with _threads(max(1, self.reading.num_workers)) as (readers, feeder):
            if self.training.reader.augments:
                begun = (self._begin(readers, place) for place in places)
                finishing = ahead(begun, self.reading.num_ahead)
            else:
                stream = SideStream(device)
                loading = ((place, self._begin_loading(readers, place)) for place in places)
                loaded = ahead(loading, self.reading.num_ahead)
                begun = (self._begin_placing(feeder, stream, place, futures) for place, futures in loaded)
                finishing = ahead(begun, min(PLACED_AHEAD, self.reading.num_ahead))
            yield from finishing

    def _feed(self, place: Place) -> PatchFeed:
        feed = self.training if place.stream == TRAINING else self.validation
        assert feed is not None  # nobody asks for held-out batches where there are none
        return feed

    def _begin(self, readers: ThreadPoolExecutor, place: Place) -> Begun:
        """Have a batch read and augmented on the CPU."""
        feed, number = self._feed(place), place.number
        parts = self._parts(feed.items(number))
        assembly = Assembly(sum(map(len, parts)))
        futures = [readers.submit(feed.load_into, assembly, part) for part in parts]

        @memory_explained(BRINGING)
        def finish() -> FeedBatch:
            facts = _joined(futures)
            return feed.batch(number, facts, feed.joined(assembly, facts))

        return Begun(futures, finish)

    def _parts(self, items: Sequence[Item]) -> list[list[tuple[int, Item]]]:
        """Return the patches of a batch with their places, in parts: one by one, hundreds of small ones take long to hand out."""
        placed = list(enumerate(items))
        size = -(-len(placed) // (TASKS_PER_READER * max(1, self.reading.num_workers)))
        return [placed[first : first + size] for first in range(0, len(placed), size)]

    def _begin_loading(self, readers: ThreadPoolExecutor, place: Place) -> list[Future[list[LoadedItem]]]:
        feed = self._feed(place)
        return [readers.submit(feed.load_items, part) for part in self._parts(feed.items(place.number))]

    def _begin_placing(
        self, feeder: ThreadPoolExecutor, stream: SideStream, place: Place, loading: Sequence[Future[list[LoadedItem]]]
    ) -> Begun:
        """Have a batch that is being read brought to the device, and augmented there."""
        feed = self._feed(place)

        def put() -> FeedBatch:
            items = _joined(loading)
            with stream.work():
                inputs = feed.inputs(items, stream.wait)
            return feed.batch(place.number, [item.facts for item in items], inputs)

        placed = feeder.submit(put)

        @memory_explained(BRINGING)
        def finish() -> FeedBatch:
            batch = placed.result()
            stream.hand_over(batch.inputs)
            return batch

        return Begun([placed], finish)


def _joined(parts: Iterable[Future[list[T]]]) -> list[T]:
    """Wait for the parts of a batch, in their order, so that of several errors the first one comes up."""
    return list(chain.from_iterable(part.result() for part in parts))


@contextmanager
def _threads(num_readers: int) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    """Keep threads that read, and one that feeds a GPU; each starts when there is something to do for it."""
    readers = ThreadPoolExecutor(num_readers, "reader", initializer=compute_alone)
    feeder = ThreadPoolExecutor(1, "feeder", initializer=compute_alone)
    try:
        yield readers, feeder
    finally:
        # What has not begun need not be read any more; told first, as the feeder waits for it.
        readers.shutdown(wait=False, cancel_futures=True)
        feeder.shutdown(cancel_futures=True)
        readers.shutdown()


def open_feeds(
    data: Data, configuration: Configuration, training: Training, learner: Learner, *, num_workers: int | None = None
) -> Feeds:
    """Return the batches of a training's cases and of those that it holds out.

    Args:
        data: the cases.
        configuration: what patches are like.
        training: its seed.
        learner: says what is predicted, where, and in how many processes.
        num_workers: threads that read beside the steps; 0 for none, None for as many as cores and memory allow.
    """
    feed = PatchFeed(data.training, configuration, learner, seed=training.seed, stream=TRAINING)
    reading = decide_reading(Room.here(learner.ranks.size), feed.needs(), num_workers)
    if data.validation is None:
        return Feeds(feed, None, reading)
    held_out = PatchFeed(data.validation, configuration, learner, seed=training.seed, stream=VALIDATION)
    return Feeds(feed, held_out, reading)
