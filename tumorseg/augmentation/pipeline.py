"""From a plan's list of transforms to augmented patches."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tumorseg.augmentation.cascade import morphology, removal
from tumorseg.augmentation.intensity import brightness, contrast, gaussian_noise
from tumorseg.augmentation.spatial import Batch, affine, affine_source_size, center_crop, mirror
from tumorseg.errors import InputError, PlanError
from tumorseg.schema.augmentation import AffineTransform, AugmentationSpec, MirrorTransform, TransformSpec
from tumorseg.schema.extensions import External, load_external

GROUP = "tumorseg.augmentation"
"""Entry points of other packages: builder(parameters) -> (images, segmentations, generator=) -> the same two."""

Transform = Callable[..., Batch]
"""Takes images (B, C, *space), segmentations (B, *space) and generator=; returns the first two anew."""

Builder = Callable[[Any, tuple[int, ...]], Transform]
"""Takes the transform's record and the patch size."""


def source_size(spec: AugmentationSpec, patch_size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the voxels per axis to read for a patch, so that turning and zooming it out find real voxels.

    Args:
        spec: the transforms.
        patch_size: voxels per axis that the network gets.

    Raises:
        PlanError: a transform does not fit the number of axes.
    """
    _check_axes(spec, len(patch_size))
    sizes = [affine_source_size(t, patch_size) for t in spec.transforms if isinstance(t, AffineTransform)]
    return tuple(max(axis) for axis in zip(patch_size, *sizes, strict=True))


def augment(
    images: Tensor,
    segmentations: Tensor,
    spec: AugmentationSpec,
    *,
    patch_size: tuple[int, ...],
    generator: torch.Generator,
) -> Batch:
    """Return a batch of augmented patches; the inputs stay as they are.

    Transforms before the first affine one see the whole source region; without one the central patch is cut first.

    Args:
        images: (B, C, *source) intensities, on any device.
        segmentations: (B, *source) integer labels, on the same; (B, 2, *source) in a cascade, reference and previous.
        spec: the transforms in their order.
        patch_size: voxels per axis to return, at most those of the source.
        generator: a CPU generator, from which everything random comes.

    Returns:
        Images (B, C, *patch) and segmentations (B, *patch) or (B, 2, *patch), of unchanged types.

    Raises:
        InputError: the shapes do not fit each other or the patch.
        PlanError: a transform does not fit the number of axes, or another package's is not installed as planned.
    """
    none = images.new_empty((len(images), 0, *images.shape[2:]))
    images, segmentations, _ = augment_with_maps(
        images, segmentations, none, spec, patch_size=patch_size, generator=generator
    )
    return images, segmentations


def augment_with_maps(
    images: Tensor,
    segmentations: Tensor,
    maps: Tensor,
    spec: AugmentationSpec,
    *,
    patch_size: tuple[int, ...],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a batch of augmented patches with maps (B, M, *patch) that were turned along, but whose values stayed.

    Args:
        images: as for `augment`.
        segmentations: as for `augment`.
        maps: (B, M, *source) values that belong to voxels, such as distances; interpolated linearly, 0 outside.
        spec: as for `augment`.
        patch_size: as for `augment`.
        generator: as for `augment`; maps draw nothing from it.

    Raises:
        InputError: as for `augment`.
        PlanError: as for `augment`, or there are maps and a transform of another package, which does not know of them.
    """
    _check_axes(spec, len(patch_size))
    _check_shapes(images, segmentations, patch_size)
    if maps.shape[1] and any(isinstance(transform, External) for transform in spec.transforms):
        raise PlanError(
            'transforms of other packages cannot turn distance maps along; set "distance_maps": "device" in the loss'
        )
    if not any(isinstance(transform, AffineTransform) for transform in spec.transforms):
        images, segmentations, maps = (center_crop(part, patch_size) for part in (images, segmentations, maps))
    for transform in spec.transforms:
        apply = _build(transform, patch_size)
        if maps.shape[1] and isinstance(transform, AffineTransform | MirrorTransform):
            together = torch.cat((images, maps), dim=1)
            together, segmentations = apply(together, segmentations, generator=generator)
            images, maps = together.split((images.shape[1], maps.shape[1]), dim=1)  # type: ignore[no-untyped-call]
        else:
            images, segmentations = apply(images, segmentations, generator=generator)
    return images.contiguous(), segmentations.contiguous(), maps.contiguous()


def _affine(transform: AffineTransform, patch_size: tuple[int, ...]) -> Transform:
    return partial(affine, transform=transform, patch_size=patch_size)


def _mirror(transform: MirrorTransform, patch_size: tuple[int, ...]) -> Transform:
    return partial(mirror, transform=transform)


def _on_images(change: Callable[..., Tensor]) -> Builder:
    """Return the builder of a transform that leaves labels alone."""

    def build(transform: Any, patch_size: tuple[int, ...]) -> Transform:
        def apply(images: Tensor, segmentations: Tensor, *, generator: torch.Generator) -> Batch:
            return change(images, transform=transform, generator=generator), segmentations

        return apply

    return build


def _on_previous(change: Callable[..., Tensor]) -> Builder:
    """Return the builder of a transform that changes the previous segmentation alone."""

    def build(transform: Any, patch_size: tuple[int, ...]) -> Transform:
        def apply(images: Tensor, segmentations: Tensor, *, generator: torch.Generator) -> Batch:
            reference, previous = segmentations.unbind(1)
            changed = change(previous, transform=transform, generator=generator)
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


def _build(transform: TransformSpec, patch_size: tuple[int, ...]) -> Transform:
    if isinstance(transform, External):
        built: Transform = load_external(transform, GROUP)(transform.parameters)
        return built
    return BUILDERS[transform.name](transform, patch_size)


def _check_axes(spec: AugmentationSpec, num_axes: int) -> None:
    for transform in spec.transforms:
        if isinstance(transform, AffineTransform) and len(transform.rotation_deg) != (1 if num_axes == 2 else 3):
            raise PlanError(
                f"affine.rotation_deg has {len(transform.rotation_deg)} angles for {num_axes} axes; "
                "2 axes need 1 angle, 3 axes 3"
            )
        if isinstance(transform, AffineTransform) and transform.in_plane and num_axes == 2:
            raise PlanError("affine.in_plane leaves the first of 3 axes alone; a patch of 2 axes is a plane already")
        if isinstance(transform, MirrorTransform) and not set(transform.axes) <= set(range(num_axes)):
            raise PlanError(f"mirror.axes are {transform.axes}; a patch of {num_axes} axes has 0 to {num_axes - 1}")


def _check_shapes(images: Tensor, segmentations: Tensor, patch_size: tuple[int, ...]) -> None:
    space = images.shape[2:]
    count = images.shape[0]
    aligned = segmentations.shape in ((count, *space), (count, 2, *space)) and len(space) == len(patch_size)
    if not aligned or any(size < wanted for size, wanted in zip(space, patch_size, strict=True)):
        raise InputError(
            f"images have shape {tuple(images.shape)}, segmentations {tuple(segmentations.shape)}; expected the same "
            f"batch and space, at least the patch {patch_size} in every axis"
        )
