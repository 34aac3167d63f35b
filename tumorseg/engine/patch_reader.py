"""From cases to patches: read, checked, augmented where that is done on the CPU, with distances where the loss wants them."""

from collections.abc import Iterable
from functools import cached_property
from math import prod
from types import TracebackType
from typing import NamedTuple

import torch

from tumorseg.augmentation.pipeline import Augmentation, Draws
from tumorseg.augmentation.samples import Sample
from tumorseg.engine.batches import CaseReader, Item, Patch, PatchSpec, drawn_case, drawn_donor, read_donor, read_patch
from tumorseg.engine.learner import Learner
from tumorseg.engine.readers import Needs
from tumorseg.engine.stopwatch import Stopwatch
from tumorseg.engine.taught_cases import TaughtCases
from tumorseg.errors import InputError, TrainingError, TumorsegError
from tumorseg.losses.compound import CompoundLoss
from tumorseg.losses.registry import build_loss
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.plan import Configuration
from tumorseg.schema.targets import IGNORE, Targets, num_inputs
from tumorseg.workers.machine import available_bytes

COPIES = 3
"""Of what is read of a patch, while it is read and augmented: as stored, as tensors, and as a transform makes it anew."""


class ItemFacts(NamedTuple):
    """What is known of a patch once it is read."""

    case_id: str
    has_ignored: bool
    """Whether any voxel of the reference is `IGNORE`."""
    trust: float = 1.0
    """How far teachers are believed."""


class LoadedItem(NamedTuple):
    """A patch as read, or, where that is done while reading, augmented."""

    sample: Sample
    draws: Draws | None
    """What is still to be done to it on the device; None if nothing is."""
    facts: ItemFacts


class PatchReader:
    """Patches of one stream, each a function of its place in the training; several threads may read at once."""

    def __init__(self, cases: CaseReader, configuration: Configuration, learner: Learner, *, is_training: bool) -> None:
        """Prepare reading.

        Args:
            cases: where patches are cut.
            configuration: what they are like.
            learner: says what is predicted, and on which device.
            is_training: whether patches are augmented, and distances measured.

        Raises:
            PlanError: another package's transform or loss is not installed as planned.
        """
        self.cases, self._configuration = cases, configuration
        self._targets, self._device = learner.targets, learner.device
        self.taught = cases if isinstance(cases, TaughtCases) else None
        """The same cases, where teachers have told of them before."""
        self.spec = patch_spec(configuration, learner.targets)
        if self.taught is not None and self.taught.num_taught:
            self.spec = self.spec._replace(taught=self.taught)
        self.augmentation = Augmentation(
            configuration.augmentation if is_training else AugmentationSpec(), configuration.patch_facts
        )
        self.reads_distances = is_training and configuration.loss.reads_distances
        self.augments = self._device.type == "cpu"
        """Whether patches are augmented here, or on the device once they are there."""
        self.stopwatch = Stopwatch()
        """Seconds of `reading`, `augmentation` and `transfer`, of all threads together."""

    def load(self, item: Item) -> LoadedItem:
        """Read a patch, with distances if they are to be measured while reading, and augment it if that is done here.

        Raises:
            InputError: a segmentation holds an index that is no class.
            TrainingError: there is no memory for it.
        """
        case_id = drawn_case(self.cases, item)
        with Naming(case_id, "read"), self.stopwatch.part("reading"):
            read = self._read(item)
        if not self.augments:
            return read
        with Naming(case_id, "augmented"), self.stopwatch.part("augmentation"):
            return LoadedItem(self.augmented(read), None, read.facts)

    def augmented(self, item: LoadedItem) -> Sample:
        """Return a patch as its draws want it, wherever it is; what was read is overwritten."""
        if item.draws is None:
            return item.sample
        sample = self.augmentation.apply(item.sample, item.draws, overwrites=True)
        # What transforms bring in from outside the image is background elsewhere.
        return _without_reference(sample) if self._is_further(item.facts.case_id) else sample

    def _read(self, item: Item) -> LoadedItem:
        draws = self.augmentation.draw(item.augmentation_seed())
        patch = read_patch(self.cases, self.spec, item, self.augmentation.source_size(draws))
        low = self._check(patch)
        sample, case_id = patch
        if self._is_further(case_id):
            sample, low = _without_reference(sample), IGNORE
        reference = sample.segmentation[:1]
        if self.reads_distances:
            distances = self._loss.distance_maps(reference)
            assert distances is not None  # or nobody would have wanted them
            sample = sample._replace(maps=torch.cat((distances[0], sample.maps)))
        draws = self._with_donor(draws, item)
        if self._device.type == "cuda":
            # From pinned memory a copy to the device takes nobody's time.
            sample = Sample(*(part.pin_memory() if part.numel() else part for part in sample))
        trust = 1.0 if self.taught is None else self.taught.trust(case_id)
        return LoadedItem(sample, draws, ItemFacts(case_id, low == IGNORE, trust))

    def _is_further(self, case_id: str) -> bool:
        return self.taught is not None and self.taught.is_further(case_id)

    def _with_donor(self, draws: Draws, item: Item) -> Draws:
        """Return draws with the patch of another case, if something of one is to be pasted."""
        classes = self.augmentation.donor_classes(draws)
        if classes is None:
            return draws
        case_id = drawn_donor(self.cases, item)
        if case_id is None:
            return self.augmentation.with_donor(draws, None)
        with Naming(case_id, "read"):
            donor = read_donor(self.cases, self.spec, item, classes)
        if donor is None:
            return self.augmentation.with_donor(draws, None)
        self._check(donor)
        return self.augmentation.with_donor(draws, donor.sample)

    def _check(self, patch: Patch) -> int:
        """Return the least class index of a patch: here, on the CPU, nobody has to wait for a GPU to know it.

        Raises:
            InputError: an index is no class.
        """
        low, high = (int(limit) for limit in patch.sample.segmentation[0].aminmax())
        if low < IGNORE or high >= self._targets.num_classes:
            raise InputError(self._bad_indices(patch.case_id, low, high))
        return low

    def _bad_indices(self, case_id: str, low: int, high: int) -> str:
        return (
            f"the stored segmentation of case {case_id} holds class indices from {low} to {high}; expected 0 to "
            f"{self._targets.num_classes - 1}, or {IGNORE} for ignored; remove this case from the case store and preprocess again"
        )

    @cached_property
    def _loss(self) -> CompoundLoss:
        """Return the loss on the CPU, to measure distances there."""
        return build_loss(self._configuration.loss, self._targets, self._configuration.spacing_mm)

    def needs(self, items: Iterable[Item], patches_per_batch: int) -> Needs:
        """Return what reading takes, by what is drawn for some items.

        Args:
            items: a few dozen.
            patches_per_batch: that this process reads.
        """
        draws = [self.augmentation.draw(item.augmentation_seed()) for item in items]
        num_voxels = max(prod(self.augmentation.source_size(one)) for one in draws)
        # Images and distances are float32, segmentations int64.
        num_floats = num_inputs(self._configuration, self._targets)
        if self.reads_distances:
            num_floats += self._targets.num_outputs
        num_floats += 0 if self.taught is None else self.taught.num_taught
        voxel_bytes = 4 * num_floats + 8 * (1 + self.spec.has_previous)
        read_bytes = num_voxels * voxel_bytes
        # Augmented here, what waits is a patch; otherwise all that was read around it.
        waiting_bytes = prod(self.spec.patch_size) * voxel_bytes if self.augments else read_bytes
        return Needs(not self.augments, patches_per_batch, waiting_bytes, COPIES * read_bytes)


def _without_reference(sample: Sample) -> Sample:
    """Return a patch of which nothing is known, nor of what lies beyond its image."""
    return sample._replace(segmentation=torch.full_like(sample.segmentation, IGNORE))


class Naming:
    """Adds to an error the case with which something was done."""

    def __init__(self, case_id: str, doing: str) -> None:
        """Name a case, and what is done with a patch of it: `read`, `augmented`."""
        self._case_id, self._doing = case_id, doing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave alone what a user can mend, which names its case already.

        Raises:
            TrainingError: there was no memory.
        """
        if error is None or isinstance(error, TumorsegError):
            return
        if isinstance(error, MemoryError):
            raise TrainingError(_out_of_memory(self._case_id)) from error
        error.add_note(f"while a patch of case {self._case_id} was {self._doing}")


def _out_of_memory(case_id: str) -> str:
    free = available_bytes()
    left = "" if free is None else f" ({free / 2**30:.1f} GB are free)"
    return (
        f"case {case_id}: there is no memory to read a patch of it{left}; give a lower --num-workers, or end what else takes memory; "
        "the same command goes on from the last checkpoint"
    )


def patch_spec(configuration: Configuration, targets: Targets) -> PatchSpec:
    """Return size and sampling of a configuration's patches."""
    return PatchSpec(
        patch_size=configuration.patch_size,
        batch_size=configuration.batch_size,
        foreground_fraction=configuration.sampling.foreground_fraction,
        scored_classes=targets.scored_classes,
        has_previous=configuration.previous_configuration is not None,
    )
