"""Patches of one case as a plan's transforms make them: each by itself, and all together as in training."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tumorseg.augmentation.pipeline import Augmentation
from tumorseg.augmentation.presets import SCALED
from tumorseg.augmentation.samples import Sample
from tumorseg.engine.batches import TRAINING, Item, PatchSpec, read_patch
from tumorseg.engine.patch_reader import patch_spec
from tumorseg.reports.augmentation_tiles import Slices, change_between, is_same, middle_slices
from tumorseg.schema.augmentation import AugmentationSpec, TransformSpec
from tumorseg.schema.extensions import External
from tumorseg.schema.plan import Configuration
from tumorseg.schema.targets import Targets
from tumorseg.schema.transforms.spatial import MirrorTransform
from tumorseg.stages.training.shown_cases import CaseOpener, ShownCase

NUM_DRAWS, NUM_SAMPLES = 3, 12
"""Draws of each transform, and samples of all of them together."""
NUM_TRIED = 9
"""Draws of each transform that are made to choose from."""
NUM_PLACES = 8
"""Places on foreground among which the one is taken whose middle slice shows most of it."""


class ShownPatch(NamedTuple):
    """A patch as it was augmented."""

    slices: Slices
    draws: tuple[tuple[str, Any], ...] = ()
    """Name and draw of each transform that did something."""
    donor: str | None = None
    """Case that something was to be copied from."""


class Place(NamedTuple):
    """Where a patch is read."""

    case: ShownCase
    spec: PatchSpec
    item: Item


class ShownPatches:
    """Reads patches of one case as a training does, and augments them; each follows from its item alone."""

    def __init__(self, opener: CaseOpener, case: ShownCase, configuration: Configuration, targets: Targets) -> None:
        """Take a case.

        Args:
            opener: opens others, from which transforms may copy.
            case: what is shown.
            configuration: whose patches and transforms they are.
            targets: what is predicted.
        """
        self._opener, self._case, self._configuration = opener, case, configuration
        self._planned = patch_spec(configuration, targets)

    def best_place(self, seed: int) -> Place:
        """Return a place on foreground whose patch shows much of it; anywhere in a case without any."""
        spec = self._planned._replace(batch_size=1, foreground_fraction=1.0)
        places = [Place(self._case, spec, Item(seed, TRAINING, number, 0)) for number in range(NUM_PLACES)]
        return max(places, key=self._foreground)

    def _foreground(self, place: Place) -> int:
        reference = slices_of(self.read(place)).segmentations[0][0]
        return int((reference > 0).sum())

    def read(self, place: Place, size: tuple[int, ...] | None = None) -> Sample:
        """Return a patch as it is read, of the configuration's size if none is given."""
        return read_patch(place.case, place.spec, place.item, size or self._configuration.patch_size).sample

    def alone(self, transform: TransformSpec, place: Place, *, stream: int) -> list[ShownPatch]:
        """Return what a transform by itself makes of a patch, applied for certain: weaker, middling and stronger draws.

        Args:
            transform: of the plan.
            place: of the patch.
            stream: another number gives other draws.
        """
        spec = AugmentationSpec(transforms=(certain(transform),))
        augmentation = Augmentation(spec, self._configuration.patch_facts)
        before = slices_of(self.read(place))
        drawn: list[ShownPatch] = []
        for attempt in range(NUM_TRIED):
            item = place.item._replace(number=stream, item=attempt)
            shown = self._augmented(place, augmentation, item, (transform.name,))
            if shown.draws and not any(is_same(shown.slices, other.slices) for other in drawn):
                drawn.append(shown)
        return _spread([(change_between(before, shown.slices), shown) for shown in drawn])

    def together(self, seed: int) -> Iterator[ShownPatch]:
        """Yield patches as a training of this case alone would read and augment them, with the plan's probabilities."""
        planned = self._configuration.augmentation
        augmentation = Augmentation(planned, self._configuration.patch_facts)
        names = tuple(transform.name for transform in planned.transforms)
        spec = self._planned._replace(batch_size=NUM_SAMPLES)
        for number in range(NUM_SAMPLES):
            item = Item(seed, TRAINING, 0, number)
            yield self._augmented(Place(self._case, spec, item), augmentation, item, names)

    def _augmented(self, place: Place, augmentation: Augmentation, item: Item, names: Sequence[str]) -> ShownPatch:
        """Augment the patch of a place as another item's would be."""
        draws = augmentation.draw(item.augmentation_seed())
        classes = augmentation.donor_classes(draws)
        donor: ShownCase | None = None
        if classes is not None:
            donor = self._opener.first_with(classes, but=self._case.case_id)
            copied = None if donor is None else self._donor(donor, classes, item)
            draws = augmentation.with_donor(draws, copied)
        sample = augmentation.apply(self.read(place, augmentation.source_size(draws)), draws)
        named = tuple((name, draw) for name, draw in zip(names, draws, strict=True) if draw is not None)
        return ShownPatch(slices_of(sample), named, None if donor is None else donor.case_id)

    def _donor(self, case: ShownCase, classes: Sequence[int], item: Item) -> Sample:
        """Return a patch of another case, centred on a voxel of one of some classes."""
        wanted = tuple((index,) for index in classes)
        spec = self._planned._replace(batch_size=1, foreground_fraction=1.0, scored_classes=wanted)
        # The first item of a batch of one is centred on foreground.
        return self.read(Place(case, spec, item._replace(number=item.item, item=0)))


def _spread(drawn: list[tuple[float, ShownPatch]]) -> list[ShownPatch]:
    """Return the patches at a third, two thirds and the end of how much they change; those that do not only if all do not."""
    visible = [pair for pair in drawn if pair[0] > 0] or drawn
    ordered = [shown for _, shown in sorted(visible, key=lambda pair: pair[0])]
    ranks = {-(-len(ordered) * part // NUM_DRAWS) - 1 for part in range(1, NUM_DRAWS + 1)}
    return [ordered[rank] for rank in sorted(ranks) if ordered]


def slices_of(sample: Sample) -> Slices:
    """Return the slices of a patch that are shown."""
    return middle_slices(sample.image.numpy(), sample.segmentation.numpy())


def certain(transform: TransformSpec) -> TransformSpec:
    """Return a transform that changes every patch; what the plan never does stays out.

    Of another package's it is not known what makes it certain: it is returned as it is.
    """
    # Each axis by itself has to be seen flipped.
    if isinstance(transform, External | MirrorTransform):
        return transform
    planned = {field: getattr(transform, field) for field in SCALED if field in type(transform).model_fields}
    return transform.changed(**{field: 1.0 for field, chance in planned.items() if chance > 0})
