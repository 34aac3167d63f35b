"""One image through a network: to its grid, in tiles through a forward, and back, slice by slice."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tumorseg.engine.restoration import decide, restored_slices
from tumorseg.engine.sliding_window import Forward, Tiling, predict_slabs
from tumorseg.ops.absent_channels import AbsentChannels, fill_absent
from tumorseg.ops.cropping import box_shape, box_slices
from tumorseg.ops.labels import smallest_dtype
from tumorseg.ops.preprocessing import PreparedImage, prepare_image, prepare_segmentation, resampling_orders
from tumorseg.schema.cases import Preprocessing
from tumorseg.schema.targets import Targets
from tumorseg.types import Box, Image, Mask, Segmentation, Spacing


class OrientedImage(NamedTuple):
    """An image in the plan's axis order, not yet cropped, normalised or resampled."""

    image: Image
    """(C, Z, Y, X)."""
    spacing_mm: Spacing
    """Voxel edges."""
    covered: tuple[Mask | None, ...] = ()
    """Voxels (Z, Y, X) that each channel covers; None for all of them. Empty: None for each channel."""
    previous: Segmentation | None = None
    """Class indices (Z, Y, X) that a cascade is shown, as the last channel of its tiles."""
    absent: AbsentChannels | None = None
    """Channels that hold nothing but zeros, and what stands in for them once the image is normalised."""


class Segmenter(NamedTuple):
    """The way from an oriented image to logits."""

    preprocessing: Preprocessing
    tiling: Tiling
    forward: Forward
    targets: Targets
    """What the K outputs of the forward mean."""


class CroppedLogits(NamedTuple):
    """Logits on an image's own grid, where it was not cropped away."""

    box: Box
    """The part of the oriented image that was kept."""
    slices: Iterator[Tensor]
    """(K, Y, X) for each slice of the box, float32, where the forward leaves its logits; made as they are asked for."""


def segment(oriented: OrientedImage, segmenter: Segmenter) -> Segmentation:
    """Return the label values (Z, Y, X) of an image on its own grid; what was cropped away is background.

    Raises:
        InputError: the logits are not finite.
    """
    cropped = cropped_logits(oriented, segmenter)
    labels = np.zeros(oriented.image.shape[1:], smallest_dtype(segmenter.targets))
    inside = labels[box_slices(cropped.box)]
    # Slices that never came would be background without anyone noticing.
    for plane, logits in zip(inside, cropped.slices, strict=True):
        plane[...] = decide(logits, segmenter.targets)
    return labels


def cropped_logits(oriented: OrientedImage, segmenter: Segmenter) -> CroppedLogits:
    """Return the logits of an image on its own grid, slice after slice, so that they never exist as a whole."""
    spec = segmenter.preprocessing
    prepared = prepare_image(oriented.image, oriented.spacing_mm, spec, covered=oriented.covered)
    if oriented.absent is not None:
        fill_absent(prepared.image, oriented.absent)
    image = _network_input(oriented, prepared, spec)
    slabs = predict_slabs(image, segmenter.forward, segmenter.tiling, num_outputs=segmenter.targets.num_outputs)
    orders = resampling_orders(spec.resampling.logit_order, prepared.target_spacing_mm, prepared.spacing_mm, spec)
    shapes = prepared.image.shape[1:], box_shape(prepared.box)
    return CroppedLogits(prepared.box, restored_slices(slabs, shapes, orders))


def _network_input(oriented: OrientedImage, prepared: PreparedImage, spec: Preprocessing) -> Tensor:
    """Return the image's channels, and in a cascade the class indices of the previous segmentation as one more."""
    image = torch.from_numpy(np.ascontiguousarray(prepared.image))
    if oriented.previous is None:
        return image
    shown = prepare_segmentation(
        oriented.previous,
        prepared.grid,
        spec,
        image=oriented.image,
        covered=oriented.covered,
    )
    # Class indices are exact in float32, in which all channels come.
    return torch.cat((image, torch.from_numpy(shown.astype(np.float32))[None]))
