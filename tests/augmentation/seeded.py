"""Batches augmented sample by sample, each with its own seed."""

import torch

from tumorseg.augmentation.pipeline import Augmentation
from tumorseg.augmentation.samples import Sample
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.preprocessing import CtNormalization, ZScoreNormalization
from tumorseg.schema.transforms.base import PatchFacts
from tumorseg.schema.transforms.ct import CtTransform

CT = CtNormalization(lower_hu=-1000, upper_hu=1000, mean_hu=100, std_hu=200)


def facts_of(patch_size, num_channels=2, *, has_ct=False):
    """Return facts of patches; with a CT all channels are one."""
    normalization = CT if has_ct else ZScoreNormalization(masked=False)
    return PatchFacts(tuple(patch_size), (normalization,) * num_channels)


def needs_ct(record):
    return isinstance(record, CtTransform)


def sample_of(image, segmentation, maps=None):
    """Return a sample; segmentation (*space), or (2, *space) of a cascade."""
    layers = segmentation if segmentation.ndim == image.ndim else segmentation[None]
    no_maps = image.new_empty(0, *image.shape[1:])
    return Sample(image, layers, no_maps if maps is None else maps)


def seeds(count, seed=0):
    return [1000 * seed + number for number in range(count)]


def augmented(images, segmentations, spec, *, patch_size, seed=0, maps=None):
    """Return images (B, C, *patch) and segmentations (B, *patch), or (B, 2, *patch); with maps these too."""
    has_ct = any(map(needs_ct, spec.transforms))
    augmentation = Augmentation(spec, facts_of(patch_size, images.shape[1], has_ct=has_ct))
    made = []
    for number, own in enumerate(seeds(len(images), seed)):
        sample = sample_of(images[number], segmentations[number], None if maps is None else maps[number])
        made.append(augmentation.apply(sample, augmentation.draw(own)))
    found, labels, moved = (torch.stack(parts) for parts in zip(*made, strict=True))
    labels = labels if segmentations.ndim == images.ndim and len(labels[0]) == 2 else labels[:, 0]
    return (found, labels) if maps is None else (found, labels, moved)


def draws_of(record, count, *, patch_size=(8, 9, 10), num_channels=2, has_ct=False):
    """Return what a transform draws for samples of different seeds; None where one is left alone."""
    augmentation = Augmentation(
        AugmentationSpec(transforms=(record,)), facts_of(patch_size, num_channels, has_ct=has_ct)
    )
    return [augmentation.draw(seed)[0] for seed in range(count)]
