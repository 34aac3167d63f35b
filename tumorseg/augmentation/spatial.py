"""Rotation, scaling, deformation and mirroring of images and labels together.

References:
    nnU-Net's SpatialTransform (batchgeneratorsv2), order and ranges.
"""

import math
from typing import NamedTuple

from tumorseg.augmentation.dice import Dice
from tumorseg.augmentation.lookup import ElasticDraw, Lookup, SpatialDraw, looked_at, moving
from tumorseg.augmentation.resampling import NOWHERE, LabelSampler, sample_images, with_margin
from tumorseg.augmentation.samples import Sample, center_crop
from tumorseg.schema.transforms.base import PatchFacts
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform


class MirrorDraw(NamedTuple):
    """Flips of a sample."""

    axes: tuple[int, ...]


def draw_spatial(transform: SpatialTransform, facts: PatchFacts, dice: Dice) -> SpatialDraw | None:
    """Decide angles, scaling and deformation; None if all stays as it is."""
    is_turned, is_scaled = dice.chance(transform.rotation_probability), dice.chance(transform.scaling_probability)
    is_deformed = dice.chance(transform.elastic_probability)
    if not (is_turned or is_scaled or is_deformed):
        return None
    # In a plane there is one rotation, in space one about each axis.
    num_angles = 1 if facts.num_axes == 2 or transform.in_plane else 3
    limits = transform.rotation_deg[:num_angles]
    angles = tuple((2 * dice.share() - 1) * limit if is_turned else 0.0 for limit in limits)
    scaling = dice.uniform(transform.scaling) if is_scaled else 1.0
    elastic = _draw_elastic(transform, facts, dice) if is_deformed else None
    return SpatialDraw(angles, scaling, elastic, transform.in_plane)


def _draw_elastic(transform: SpatialTransform, facts: PatchFacts, dice: Dice) -> ElasticDraw:
    sizes = moving(facts.patch_size, in_plane=transform.in_plane)
    widths = tuple(dice.uniform(transform.elastic_width) * size for size in sizes)
    magnitudes = tuple(dice.uniform(transform.elastic_magnitude) for _ in sizes)
    return ElasticDraw(widths, magnitudes, dice.seed())


def spatial_source_size(draw: SpatialDraw, facts: PatchFacts) -> tuple[int, ...]:
    """Return the voxels per axis that a draw looks at: the box around the patch where it is cut out of the source."""
    patch = moving(facts.patch_size, in_plane=draw.in_plane)
    return (*facts.patch_size[: facts.num_axes - len(patch)], *looked_at(draw, patch))


def apply_spatial(sample: Sample, draw: SpatialDraw, facts: PatchFacts) -> Sample:
    """Cut the central patch, rotated, scaled and deformed.

    Images and maps are interpolated linearly and continue with 0 outside; labels follow the largest share and continue with class 0.
    """
    patch = moving(facts.patch_size, in_plane=draw.in_plane)
    if len(patch) < facts.num_axes:
        # The first axis is cut and no more; its planes are all resampled alike.
        depth = facts.patch_size[0]
        sample = Sample(*(center_crop(part, (depth, *part.shape[2:])) for part in sample))
    source = tuple(sample.image.shape[-len(patch) :])
    lookup = Lookup(draw, patch, source, sample.image.device)
    image, labels, maps = (part.reshape(-1, *source) for part in sample)
    if lookup.has_margin:
        image, labels, maps = with_margin(image, 0), with_margin(labels, NOWHERE), with_margin(maps, 0)
    moved = Sample(*(part.new_empty(len(part), *patch) for part in (image, labels, maps)))
    fields, sampler = (image.contiguous(), maps.contiguous()), LabelSampler(labels, has_margin=lookup.has_margin)
    for first, length in lookup.parts():
        places = lookup.places(first, length)
        corners = places.corners()
        for field, target in zip(fields, (moved.image, moved.maps), strict=True):
            target[:, first : first + length] = sample_images(field, places, corners)
        sampler.sample(corners, moved.segmentation.flatten(1), first * math.prod(patch[1:]))
    sampler.settle(moved.segmentation)
    return Sample(*(part.reshape(-1, *facts.patch_size) for part in moved))


def draw_mirror(transform: MirrorTransform, facts: PatchFacts, dice: Dice) -> MirrorDraw | None:
    """Decide the axes of a flip; None if there are none."""
    axes = tuple(axis for axis in transform.axes if dice.chance(transform.probability))
    return MirrorDraw(axes) if axes else None


def apply_mirror(sample: Sample, draw: MirrorDraw, facts: PatchFacts) -> Sample:
    """Flip everything along the axes that were drawn."""
    axes = [axis + 1 for axis in draw.axes]
    return Sample(*(part.flip(axes) for part in sample))
