"""From a plan's list of transforms to augmented patches."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tumorseg.augmentation.copy_paste import CopyPasteDraw
from tumorseg.augmentation.dice import Dice
from tumorseg.augmentation.outside import OutsideDraw, clear_outside
from tumorseg.augmentation.registry import TRANSFORMS
from tumorseg.augmentation.samples import Sample, Transform, center_crop
from tumorseg.errors import InputError, PlanError
from tumorseg.schema.augmentation import AugmentationSpec, TransformSpec
from tumorseg.schema.extensions import External, load_external
from tumorseg.schema.transforms.base import ImageTransform, PatchFacts

GROUP = "tumorseg.augmentation"
"""Entry points of other packages: builder(parameters) -> (images, segmentations, generator=) -> the same two, for one
sample (1, C, *space) at a time."""

Draws = tuple[Any, ...]
"""What each transform of a plan drew for one sample; None where it leaves the sample alone."""


class _Step(NamedTuple):
    record: Any
    transform: Transform


class _ExternalDraw(NamedTuple):
    seed: int


class Augmentation:
    """The transforms of a plan for patches of one size, built once.

    Each sample's result follows from the sample and its seed alone, whatever else is in the batch, and wherever it is.
    """

    def __init__(self, spec: AugmentationSpec, facts: PatchFacts) -> None:
        """Build the transforms.

        Args:
            spec: the transforms in their order.
            facts: of the patches that they return.

        Raises:
            PlanError: a transform does not fit the patches, or another package's is not installed as planned.
        """
        for misfit in spec.misfits(facts):
            raise PlanError(misfit)
        _check_order(spec.transforms)
        self._facts = facts
        self._steps = [_Step(record, _transform_of(record)) for record in spec.transforms]
        self._cuts_first = not any(step.transform.source_size for step in self._steps)
        self.has_external = any(isinstance(record, External) for record in spec.transforms)
        """Whether another package's transform is among them, of which nothing is known."""

    def draw(self, seed: int) -> Draws:
        """Decide everything that is random in a sample's augmentation."""
        dice = Dice(seed)
        return tuple(step.transform.draw(step.record, self._facts, dice) for step in self._steps)

    def source_size(self, draws: Draws) -> tuple[int, ...]:
        """Return the voxels per axis that are looked at, so that turning and zooming a patch out find real voxels."""
        sizes = [self._facts.patch_size]
        for step, draw in zip(self._steps, draws, strict=True):
            if draw is not None and step.transform.source_size is not None:
                sizes.append(step.transform.source_size(draw, self._facts))
        return tuple(max(edges) for edges in zip(*sizes, strict=True))

    def donor_classes(self, draws: Draws) -> tuple[int, ...] | None:
        """Return the class indices on one of which a patch of another case, to paste from, is to be centred.

        Returns:
            None if no other patch is wanted.
        """
        for draw in draws:
            if isinstance(draw, CopyPasteDraw):
                return draw.transform.labels
        return None

    def with_donor(self, draws: Draws, donor: Sample | None) -> Draws:
        """Return draws that paste from another patch; with None, where none was found, they paste nothing.

        Args:
            draws: for which `donor_classes` are not None.
            donor: of the patch's size and on any device, with as many channels and segmentations as the sample; it stays as it is.
        """
        return tuple(draw._replace(donor=donor) if isinstance(draw, CopyPasteDraw) else draw for draw in draws)

    def apply(self, sample: Sample, draws: Draws, *, overwrites: bool = False) -> Sample:
        """Return a sample as it was decided.

        Transforms before the first one that moves voxels about see the whole source region; without one the central patch is cut first.

        Args:
            sample: on any device; its space is at least the patch.
            draws: from `draw`.
            overwrites: whether the sample that was given may be overwritten, as it is nobody else's; if not, it stays as it is.

        Returns:
            The sample of the patch's size, contiguous, of unchanged types.

        Raises:
            InputError: the shapes do not fit each other or the patch.
            PlanError: maps would have to be moved by another package's transform.
        """
        patch_size = self._facts.patch_size
        _check_shapes(sample, patch_size)
        if self.has_external and len(sample.maps):
            raise PlanError(
                'transforms of other packages cannot turn distance maps along; set "distance_maps": "device" in the loss'
            )
        given = sample
        if self._cuts_first:
            sample = _cut(sample, patch_size)
        sample = self._with_layers(sample, draws, given, overwrites=overwrites)
        for step, draw in zip(self._steps, draws, strict=True):
            moves_about = step.transform.source_size is not None
            if draw is None:
                # The first one that would have moved voxels about cuts the patch; later ones find it cut.
                sample = _cut(sample, patch_size) if moves_about else sample
                continue
            if not step.transform.makes_new:
                is_of_image = isinstance(step.record, ImageTransform) and not step.record.changes_labels
                sample = sample if overwrites else _owned(sample, given, changes_image_alone=is_of_image)
            sample = step.transform.apply(sample, draw, self._facts)
        return Sample(*(part.contiguous() for part in sample))

    def _with_layers(self, sample: Sample, draws: Draws, given: Sample, *, overwrites: bool) -> Sample:
        """Return a sample with the maps that transforms measure before any of them is applied, the first one's last."""
        measured = []
        for step, draw in zip(self._steps, draws, strict=True):
            if draw is None or step.transform.layer is None:
                continue
            layer = step.transform.layer(sample, draw, self._facts)
            measured.append(layer)
            if isinstance(draw, OutsideDraw):
                # Splines leave ripples where a resampled image was 0, and all others take exactly 0 for what is outside.
                sample = sample if overwrites else _owned(sample, given, changes_image_alone=True)
                clear_outside(sample.image, layer[0], draw)
        return sample._replace(maps=torch.cat((sample.maps, *reversed(measured)))) if measured else sample


def _cut(sample: Sample, patch_size: tuple[int, ...]) -> Sample:
    return Sample(*(center_crop(part, patch_size) for part in sample))


def _owned(sample: Sample, given: Sample, *, changes_image_alone: bool) -> Sample:
    """Return a sample in which a transform may overwrite what it changes, as it shares no memory with what was given."""
    parts = []
    for name, part, before in zip(Sample._fields, sample, given, strict=True):
        is_shared = part.untyped_storage().data_ptr() == before.untyped_storage().data_ptr()
        is_changed = name == "image" or not changes_image_alone
        parts.append(part.clone(memory_format=torch.contiguous_format) if is_shared and is_changed else part)
    return Sample(*parts)


def _check_order(records: Sequence[TransformSpec]) -> None:
    """Raise where another package's transform might move voxels away from a map that was measured before."""
    names = [record.name for record in records]
    for number, record in enumerate(records):
        later = [name for name in names[number:] if name in TRANSFORMS and TRANSFORMS[name].layer is not None]
        if isinstance(record, External) and later:
            raise PlanError(
                f"{later[0]} comes after {record.name}, a transform of another package, which may move voxels and knows nothing "
                f"of what {later[0]} measured before; put {later[0]} first"
            )


def _transform_of(record: TransformSpec) -> Transform:
    if isinstance(record, External):
        return Transform(_draw_external, _on_one_sample(load_external(record, GROUP)(record.parameters)))
    return TRANSFORMS[record.name]


def _draw_external(record: External, facts: PatchFacts, dice: Dice) -> _ExternalDraw:
    return _ExternalDraw(dice.seed())


def _on_one_sample(change: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[Sample, Any, PatchFacts], Sample]:
    """Return another package's transform, which is called with a batch of one and a generator."""

    def apply(sample: Sample, draw: _ExternalDraw, facts: PatchFacts) -> Sample:
        generator = torch.Generator().manual_seed(draw.seed)
        # Without a cascade, which refuses such transforms, there is one segmentation.
        image, segmentation = change(sample.image[None], sample.segmentation, generator=generator)
        return Sample(image[0], segmentation, sample.maps)

    return apply


def _check_shapes(sample: Sample, patch_size: tuple[int, ...]) -> None:
    spaces = [tuple(part.shape[1:]) for part in sample]
    fits = len(spaces[0]) == len(patch_size) and spaces.count(spaces[0]) == len(spaces)
    if not fits or any(size < wanted for size, wanted in zip(spaces[0], patch_size, strict=True)):
        raise InputError(
            f"image has shape {tuple(sample.image.shape)}, segmentation {tuple(sample.segmentation.shape)}, maps "
            f"{tuple(sample.maps.shape)}; expected the same space, at least the patch {patch_size} in every axis"
        )
