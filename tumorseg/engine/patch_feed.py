"""From patches to batches on the device of the network."""

from collections.abc import Callable, Sequence
from itertools import islice
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.augmentation.samples import Sample
from tumorseg.engine.batches import TRAINING, CaseReader, Item, drawn_case
from tumorseg.engine.cascade_channels import with_previous
from tumorseg.engine.learner import Inputs, Learner
from tumorseg.engine.patch_reader import ItemFacts, LoadedItem, Naming, PatchReader
from tumorseg.engine.readers import Needs
from tumorseg.schema.plan import Configuration
from tumorseg.schema.targets import num_previous

NUM_SIZED = 64
"""Patches whose draws tell how much memory reading takes."""


class FeedBatch(NamedTuple):
    """A batch on the device."""

    number: int
    """Of the batch."""
    case_ids: tuple[str, ...]
    """Case of each patch."""
    inputs: Inputs


class Assembly:
    """A batch that comes together patch by patch, in whichever order and from whichever threads."""

    def __init__(self, size: int) -> None:
        """Expect a number of patches."""
        self._size, self._lock = size, Lock()
        self.parts: tuple[Tensor, ...] = ()
        """What is there so far; complete once each patch was put in its place."""

    def put(self, place: int, patch: Sequence[Tensor]) -> None:
        """Copy the tensors of a patch to its place in the batch's."""
        with self._lock:
            # By the first to come, not by the thread that steps: in its validation it makes tensors that no step can use.
            if not self.parts:
                self.parts = tuple(part.new_empty(self._size, *part.shape) for part in patch)
        for whole, part in zip(self.parts, patch, strict=True):
            whole[place].copy_(part, non_blocking=True)


def _no_wait() -> None:
    pass


class PatchFeed:
    """Batches of one stream. Batch number i follows from the training's seed, the stream and i alone."""

    def __init__(
        self, cases: CaseReader, configuration: Configuration, learner: Learner, *, seed: int, stream: int
    ) -> None:
        """Prepare reading.

        Args:
            cases: where patches are cut.
            configuration: what they are like.
            learner: says what is predicted, and on which device.
            seed: of the training.
            stream: `TRAINING`, or `VALIDATION`, whose patches are not augmented.

        Raises:
            PlanError: another package's transform or loss is not installed as planned.
        """
        self.reader = PatchReader(cases, configuration, learner, is_training=stream == TRAINING)
        self.device, self._targets = learner.device, learner.targets
        self._share = learner.ranks.share(configuration.batch_size)
        self._seed, self._stream = seed, stream
        self._num_previous = num_previous(configuration, learner.targets)

    def needs(self) -> Needs:
        """Return what reading takes."""
        first = (item for number in range(NUM_SIZED) for item in self.items(number))
        return self.reader.needs(islice(first, NUM_SIZED), len(self._share))

    def items(self, number: int) -> list[Item]:
        """Return the places of this process's share of a batch."""
        return [self._item(number, item) for item in self._share]

    def _item(self, number: int, item: int) -> Item:
        return Item(self._seed, self._stream, number, item)

    def load(self, number: int) -> list[LoadedItem]:
        """Read this process's share of a batch, here and now."""
        return self.load_items(list(enumerate(self.items(number))))

    def load_items(self, items: Sequence[tuple[int, Item]]) -> list[LoadedItem]:
        """Read patches, each of which comes with its place in a batch."""
        return [self.reader.load(item) for _, item in items]

    def load_into(self, assembly: Assembly, items: Sequence[tuple[int, Item]]) -> list[ItemFacts]:
        """Read and augment patches on the CPU, each straight to its place in a batch."""
        facts = []
        for place, item in items:
            loaded = self.reader.load(item)
            assembly.put(place, self._channels(loaded.sample))
            facts.append(loaded.facts)
        return facts

    def inputs(self, items: Sequence[LoadedItem], wait: Callable[[], None] = _no_wait) -> Inputs:
        """Return patches as a batch on the device, augmented.

        Args:
            items: the patches.
            wait: waits for the device, so that what it does is timed.
        """
        assembly, stopwatch = Assembly(len(items)), self.reader.stopwatch
        for place, item in enumerate(items):
            with stopwatch.part("transfer"):
                moved = Sample(*(part.to(self.device, non_blocking=True) for part in item.sample))
                wait()
            with Naming(item.facts.case_id, "augmented"), stopwatch.part("augmentation"):
                assembly.put(place, self._channels(self.reader.augmented(item._replace(sample=moved))))
                wait()
        return self.joined(assembly, [item.facts for item in items])

    def _channels(self, sample: Sample) -> tuple[Tensor, ...]:
        """Return a patch as network and loss take it: image (C, *patch), reference (*patch), distances (D, *patch)."""
        image, segmentation, maps = sample
        if self.reader.spec.has_previous:
            image = with_previous(image[None], segmentation[1:2], self._num_previous)[0]
        return image, segmentation[0], maps

    def joined(self, assembly: Assembly, facts: Sequence[ItemFacts]) -> Inputs:
        """Return a batch whose patches are all there."""
        images, reference, maps = assembly.parts
        taught, num_taught = self.reader.taught, 0 if self.reader.taught is None else self.reader.taught.num_taught
        # Distances come first, as they are of the same space.
        num_distances = maps.shape[1] - num_taught
        distances, told = maps[:, :num_distances], maps[:, num_distances:]
        return Inputs(
            images,
            reference,
            distances if self.reader.reads_distances else None,
            self._has_ignored(facts),
            told if num_taught else None,
            None if taught is None else torch.tensor([one.trust for one in facts], device=images.device),
        )

    def _has_ignored(self, facts: Sequence[ItemFacts]) -> bool | None:
        """Return whether a whole batch may have ignored voxels; None if they have to be looked for."""
        if self.reader.augmentation.has_external:
            # What another package's transform makes of class indices has to be looked at.
            return None
        if len(facts) < self.reader.spec.batch_size:
            # The shares of others may have what this one lacks.
            has_further = self.reader.taught is not None and self.reader.taught.has_further
            return has_further or self._targets.ignore_value is not None
        return any(one.has_ignored for one in facts)

    def batch(self, number: int, facts: Sequence[ItemFacts], inputs: Inputs) -> FeedBatch:
        """Return a batch with the cases of all its patches, those that other processes read included."""
        size = self.reader.spec.batch_size
        if len(facts) == size:
            return FeedBatch(number, tuple(one.case_id for one in facts), inputs)
        case_ids = tuple(drawn_case(self.reader.cases, self._item(number, item)) for item in range(size))
        return FeedBatch(number, case_ids, inputs)
