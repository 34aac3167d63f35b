"""From cases to batches on the device: patches read ahead, checked, augmented, with distances where the loss wants them."""

import time
from collections.abc import Generator, Iterable
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from tumorseg.augmentation.pipeline import Augmentation, source_size
from tumorseg.engine.batches import (
    TRAINING,
    VALIDATION,
    Batch,
    CaseReader,
    Item,
    PatchSpec,
    drawn_case,
    read_ahead,
    read_items,
)
from tumorseg.engine.cascade_channels import with_previous
from tumorseg.engine.learner import Inputs, Learner
from tumorseg.errors import InputError
from tumorseg.losses.compound import CompoundLoss
from tumorseg.losses.registry import build_loss
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.plan import Configuration, Training
from tumorseg.schema.targets import IGNORE, Targets, num_previous


class Data(NamedTuple):
    """Readers of cases."""

    training: CaseReader
    validation: CaseReader | None
    """None with `--fold all`."""


class FeedBatch(NamedTuple):
    """A batch on the device."""

    number: int
    """Of the batch."""
    case_ids: tuple[str, ...]
    """Case of each patch."""
    inputs: Inputs


class PatchFeed:
    """Batches of one stream. Batch number i follows from the training's seed, the stream and i alone."""

    def __init__(
        self, reader: CaseReader, configuration: Configuration, learner: Learner, *, seed: int, stream: int
    ) -> None:
        """Prepare reading.

        Args:
            reader: the cases.
            configuration: what patches are like.
            learner: says what is predicted, and on which device.
            seed: of the training.
            stream: `TRAINING`, or `VALIDATION`, whose patches are not augmented.

        Raises:
            PlanError: another package's transform or loss is not installed as planned.
        """
        is_training = stream == TRAINING
        augmentation = configuration.augmentation if is_training else AugmentationSpec()
        self._reader, self._configuration = reader, configuration
        self._share = learner.ranks.share(configuration.batch_size)
        self._targets, self._device = learner.targets, learner.device
        self._seed, self._stream = seed, stream
        self._spec = patch_spec(configuration, learner.targets, augmentation)
        self._augmentation = Augmentation(augmentation, configuration.patch_size)
        self._is_cascade = configuration.previous_configuration is not None
        self._reads_distances = is_training and configuration.loss.reads_distances
        self.waited_s = 0.0
        """Seconds that were spent waiting for patches to be read, so far."""

    def batches(self, numbers: Iterable[int]) -> Generator[FeedBatch, None, None]:
        """Yield batches in order, while the next ones are read."""
        waiting = read_ahead(self.load, numbers)
        try:
            while True:
                asked = time.perf_counter()
                batch = next(waiting, None)
                self.waited_s += time.perf_counter() - asked
                if batch is None:
                    return
                yield FeedBatch(batch.items[0].number, self._cases_of(batch), self.inputs(batch))
        finally:
            # Or the thread would read on until the generator is collected.
            waiting.close()

    def _item(self, number: int, item: int) -> Item:
        return Item(self._seed, self._stream, number, item)

    def _cases_of(self, batch: Batch) -> tuple[str, ...]:
        """Return the cases of a whole batch, those that other processes read included."""
        size = self._spec.batch_size
        if len(batch.items) == size:
            return batch.case_ids
        number = batch.items[0].number
        return tuple(drawn_case(self._reader, self._item(number, item)) for item in range(size))

    def load(self, number: int) -> Batch:
        """Read this process's share of a batch, with distances if they are to be measured while reading; called by a thread.

        Raises:
            InputError: a segmentation holds an index that is no class.
        """
        batch = read_items(self._reader, self._spec, [self._item(number, item) for item in self._share])
        # Checked here, on the CPU, where nobody has to wait for a GPU to know.
        reference = batch.segmentations[:, 0] if self._is_cascade else batch.segmentations
        low, high = (int(limit) for limit in reference.aminmax())
        if low < IGNORE or high >= self._targets.num_classes:
            raise InputError(self._bad_indices(batch, reference))
        distances = self._reader_loss.distance_maps(reference) if self._reads_distances else None
        return batch._replace(distances=distances, has_ignored=low == IGNORE)

    def _bad_indices(self, batch: Batch, reference: Tensor) -> str:
        num_classes = self._targets.num_classes
        is_bad = ((reference < IGNORE) | (reference >= num_classes)).flatten(1).any(1).tolist()
        cases = sorted({case_id for case_id, bad in zip(batch.case_ids, is_bad, strict=True) if bad})
        return (
            f"the stored segmentations of cases {', '.join(cases)} hold class indices from {int(reference.min())} to "
            f"{int(reference.max())}; expected 0 to {num_classes - 1}, or {IGNORE} for ignored; remove these cases from the case "
            "store and preprocess again"
        )

    @cached_property
    def _reader_loss(self) -> CompoundLoss:
        """Return the loss on the CPU, to measure distances there."""
        return build_loss(self._configuration.loss, self._targets, self._configuration.spacing_mm)

    def inputs(self, batch: Batch) -> Inputs:
        """Return a batch as network and loss take it, augmented on the device."""
        # Without distances, maps of no channel: one way through augmentation for both.
        maps = batch.images[:, :0] if batch.distances is None else batch.distances
        images, segmentations, distances = self._augmentation.augment_with_maps(
            batch.images.to(self._device, non_blocking=True),
            batch.segmentations.to(self._device, non_blocking=True),
            maps.to(self._device, non_blocking=True),
            [item.augmentation_generator() for item in batch.items],
        )
        if self._is_cascade:
            segmentations, previous = segmentations.unbind(1)
            images = with_previous(images, previous, num_previous(self._configuration, self._targets))
        has_ignored = batch.has_ignored
        if len(batch.items) < self._spec.batch_size:
            # The shares of others may have what this one lacks.
            has_ignored = self._targets.ignore_value is not None
        if self._augmentation.has_external:
            # What another package's transform makes of class indices has to be looked at.
            has_ignored = None
        return Inputs(images, segmentations, None if batch.distances is None else distances, has_ignored)


class Feeds(NamedTuple):
    """Batches of a training."""

    training: PatchFeed
    validation: PatchFeed | None
    """None with `--fold all`."""


def open_feeds(data: Data, configuration: Configuration, training: Training, learner: Learner) -> Feeds:
    """Return the batches of a training's cases and of those that it holds out."""
    feed = PatchFeed(data.training, configuration, learner, seed=training.seed, stream=TRAINING)
    if data.validation is None:
        return Feeds(feed, None)
    return Feeds(feed, PatchFeed(data.validation, configuration, learner, seed=training.seed, stream=VALIDATION))


def patch_spec(configuration: Configuration, targets: Targets, augmentation: AugmentationSpec) -> PatchSpec:
    """Return size, margin and sampling of a configuration's patches."""
    return PatchSpec(
        patch_size=configuration.patch_size,
        source_size=source_size(augmentation, configuration.patch_size),
        batch_size=configuration.batch_size,
        foreground_fraction=configuration.sampling.foreground_fraction,
        scored_classes=targets.scored_classes,
        has_previous=configuration.previous_configuration is not None,
    )
