"""From a plan's list of transforms to augmented patches."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tumorseg.augmentation.cascade import morphology, removal
from tumorseg.augmentation.draws import Generators
from tumorseg.augmentation.intensity import brightness, contrast, gaussian_noise
from tumorseg.augmentation.spatial import Batch, affine, affine_source_size, center_crop, mirror
from tumorseg.errors import InputError, PlanError
from tumorseg.schema.augmentation import AffineTransform, AugmentationSpec, MirrorTransform, TransformSpec
from tumorseg.schema.extensions import External, load_external

GROUP = "tumorseg.augmentation"
"""Entry points of other packages: builder(parameters) -> (images, segmentations, generator=) -> the same two, for one
sample (1, C, *space) at a time."""

Transform = Callable[..., Batch]
"""Takes images (B, C, *space), segmentations (B, *space) and generators=, one per sample; returns new images and labels."""

Builder = Callable[[Any, tuple[int, ...]], Transform]
"""Takes the transform's record and the patch size."""


class _Step(NamedTuple):
    apply: Transform
    moves_voxels: bool


def source_size(spec: AugmentationSpec, patch_size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the voxels per axis to read for a patch, so that turning and zooming it out find real voxels.

    Args:
        spec: the transforms.
        patch_size: voxels per axis that the network gets.
    """
    sizes = [patch_size]
    for transform in spec.transforms:
        if isinstance(transform, AffineTransform):
            sizes.append(affine_source_size(transform, patch_size))
    return tuple(max(edges) for edges in zip(*sizes, strict=True))


class Augmentation:
    """The transforms of a plan for patches of one size, built once.

    Each sample's result follows from the sample and its generator alone, whatever else is in the batch.
    """

    def __init__(self, spec: AugmentationSpec, patch_size: tuple[int, ...]) -> None:
        """Build the transforms.

        Args:
            spec: the transforms in their order.
            patch_size: voxels per axis to return.

        Raises:
            PlanError: a transform does not fit the number of axes, or another package's is not installed as planned.
        """
        for misfit in spec.misfits(len(patch_size)):
            raise PlanError(misfit)
        self._patch_size = patch_size
        self._steps = [_build(transform, patch_size) for transform in spec.transforms]
        self._cuts_first = not any(isinstance(transform, AffineTransform) for transform in spec.transforms)
        self.has_external = any(isinstance(transform, External) for transform in spec.transforms)
        """Whether another package's transform is among them, of which nothing is known."""

    def augment(self, images: Tensor, segmentations: Tensor, generators: Generators) -> Batch:
        """Return a batch of augmented patches; the inputs stay as they are.

        Transforms before the first affine one see the whole source region; without one the central patch is cut first.

        Args:
            images: (B, C, *source) intensities, on any device; the source is at least the patch.
            segmentations: (B, *source) integer labels, on the same; (B, 2, *source) in a cascade, reference and previous.
            generators: one CPU generator per sample, from which everything random comes.

        Returns:
            Images (B, C, *patch) and segmentations (B, *patch) or (B, 2, *patch), of unchanged types.

        Raises:
            InputError: the shapes do not fit each other or the patch.
        """
        no_maps = images.new_empty((len(images), 0, *images.shape[2:]))
        images, segmentations, _ = self.augment_with_maps(images, segmentations, no_maps, generators)
        return images, segmentations

    def augment_with_maps(
        self, images: Tensor, segmentations: Tensor, maps: Tensor, generators: Generators
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a batch of augmented patches with maps (B, M, *patch) that were moved along, but whose values stayed.

        Args:
            images: as for `augment`.
            segmentations: as for `augment`.
            maps: (B, M, *source) values that belong to voxels, such as distances; interpolated linearly, 0 outside.
            generators: as for `augment`; maps draw nothing from them.

        Raises:
            InputError: as for `augment`.
            PlanError: there are maps and a transform of another package, which does not know of them.
        """
        _check_shapes(images, segmentations, self._patch_size)
        if maps.shape[1] and self.has_external:
            raise PlanError(
                'transforms of other packages cannot turn distance maps along; set "distance_maps": "device" in the loss'
            )
        if self._cuts_first:
            images = center_crop(images, self._patch_size).contiguous()
            segmentations = center_crop(segmentations, self._patch_size).contiguous()
            maps = center_crop(maps, self._patch_size).contiguous()
        for apply, moves_voxels in self._steps:
            if maps.shape[1] and moves_voxels:
                # As further channels of the images, so that one draw moves both.
                together = torch.cat((images, maps), dim=1)
                together, segmentations = apply(together, segmentations, generators=generators)
                images, maps = together.split((images.shape[1], maps.shape[1]), dim=1)  # type: ignore[no-untyped-call]
            else:
                images, segmentations = apply(images, segmentations, generators=generators)
        return images.contiguous(), segmentations.contiguous(), maps.contiguous()


def _affine(transform: AffineTransform, patch_size: tuple[int, ...]) -> Transform:
    return partial(affine, transform=transform, patch_size=patch_size)


def _mirror(transform: MirrorTransform, patch_size: tuple[int, ...]) -> Transform:
    return partial(mirror, transform=transform)


def _on_images(change: Callable[..., Tensor]) -> Builder:
    """Return the builder of a transform that leaves labels alone."""

    def build(transform: Any, patch_size: tuple[int, ...]) -> Transform:
        def apply(images: Tensor, segmentations: Tensor, *, generators: Generators) -> Batch:
            return change(images, transform=transform, generators=generators), segmentations

        return apply

    return build


def _on_previous(change: Callable[..., Tensor]) -> Builder:
    """Return the builder of a transform that changes the previous segmentation alone."""

    def build(transform: Any, patch_size: tuple[int, ...]) -> Transform:
        def apply(images: Tensor, segmentations: Tensor, *, generators: Generators) -> Batch:
            reference, previous = segmentations.unbind(1)
            changed = change(previous, transform=transform, generators=generators)
            return images, torch.stack((reference, changed), dim=1)

        return apply

    return build


BUILDERS: dict[str, Builder] = {
    "affine": _affine,
    "mirror": _mirror,
    "gaussian_noise": _on_images(gaussian_noise),
    "brightness": _on_images(brightness),
    "contrast": _on_images(contrast),
    "previous_morphology": _on_previous(morphology),
    "previous_removal": _on_previous(removal),
}


def _build(transform: TransformSpec, patch_size: tuple[int, ...]) -> _Step:
    if isinstance(transform, External):
        # Whether it moves voxels is not known, and not asked: beside maps it is refused before.
        return _Step(_on_each_sample(load_external(transform, GROUP)(transform.parameters)), moves_voxels=False)
    return _Step(BUILDERS[transform.name](transform, patch_size), transform.moves_voxels)


def _on_each_sample(change: Callable[..., Batch]) -> Transform:
    """Return another package's transform, called with one sample and its generator at a time."""

    def apply(images: Tensor, segmentations: Tensor, *, generators: Generators) -> Batch:
        samples = zip(images.split(1), segmentations.split(1), generators, strict=True)  # type: ignore[no-untyped-call]
        new_images, new_segmentations = [], []
        for image, segmentation, generator in samples:
            new_image, new_segmentation = change(image, segmentation, generator=generator)
            new_images.append(new_image)
            new_segmentations.append(new_segmentation)
        return torch.cat(new_images), torch.cat(new_segmentations)

    return apply


def _check_shapes(images: Tensor, segmentations: Tensor, patch_size: tuple[int, ...]) -> None:
    space = images.shape[2:]
    count = images.shape[0]
    aligned = segmentations.shape in ((count, *space), (count, 2, *space)) and len(space) == len(patch_size)
    if not aligned or any(size < wanted for size, wanted in zip(space, patch_size, strict=True)):
        raise InputError(
            f"images have shape {tuple(images.shape)}, segmentations {tuple(segmentations.shape)}; expected the same "
            f"batch and space, at least the patch {patch_size} in every axis"
        )
