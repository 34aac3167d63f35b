"""Generators for the samples of a batch, and batches augmented with them."""

import torch

from tumorseg.augmentation.pipeline import Augmentation


def generators(count, seed=0):
    return [torch.Generator().manual_seed(1000 * seed + sample) for sample in range(count)]


def augmented(images, segmentations, spec, *, patch_size, seed=0):
    return Augmentation(spec, patch_size).augment(images, segmentations, generators(len(images), seed))
