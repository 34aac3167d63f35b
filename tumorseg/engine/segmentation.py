"""One image through a network: to its grid, in tiles through a forward, and back, slice by slice."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tumorseg.engine.combining import AS_LIKELY, Decision
from tumorseg.engine.restoration import decide, restored_slices
from tumorseg.engine.sliding_window import Forward, Tiling, predict_slabs
from tumorseg.ops.absent_channels import AbsentChannels, fill_absent
from tumorseg.ops.cropping import box_shape, box_slices
from tumorseg.ops.labels import smallest_dtype
from tumorseg.ops.preprocessing import (
    NetworkGrid,
    PreparedImage,
    prepare_image,
    prepare_segmentation,
    resampling_orders,
)
from tumorseg.schema.cases import Preprocessing
from tumorseg.schema.targets import Targets
from tumorseg.types import Box, Image, Mask, Segmentation, Shape, Spacing


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
    has_votes: bool = False
    """Whether the forward returns as many channels more: the shares of members that voted for each output."""


class SliceResult(NamedTuple):
    """All that is known of one slice of a segmented image."""

    position: int
    """Index along the first axis of the oriented image."""
    window: tuple[slice, slice]
    """Rows and columns of the oriented image that were kept."""
    logits: Tensor
    """(K, rows, columns), float32, on the device of the forward; of an ensemble those of its probabilities, divided by its temperature."""
    votes: Tensor | None
    """(K, rows, columns), share of members (folds and mirrored views) that decided for each output by themselves; None unless the
    forward has them."""
    values: Segmentation
    """(rows, columns), label values."""
    decided_by: Tensor | None = None
    """(K, rows, columns), what was decided by, where regions have thresholds of their own; None: the logits."""


Observer = Callable[[SliceResult], None]
"""Is shown each slice within the box; may be shown all of them again, if memory ran out the first time."""


class CroppedLogits(NamedTuple):
    """Logits on an image's own grid, where it was not cropped away."""

    box: Box
    """The part of the oriented image that was kept."""
    slices: Iterator[Tensor]
    """(K, Y, X) for each slice of the box, float32, where the forward leaves its logits; made as they are asked for."""


class SliceLogits(NamedTuple):
    """What is said of one slice, before it is decided."""

    logits: Tensor
    """(K, rows, columns), float32."""
    votes: Tensor | None = None
    """(K, rows, columns), shares of members; None where nobody asks."""


class Answer(NamedTuple):
    """What is said of an image, slice after slice."""

    box: Box
    """The part of the oriented image that was looked at; around it is background."""
    slices: Iterator[SliceLogits]
    """Of each slice of the box."""


class Prepared(NamedTuple):
    """What the network sees of an image, and the way back."""

    image: Tensor
    """(C, Z, Y, X) on the network's grid, with the previous segmentation of a cascade as its last channel."""
    grid: NetworkGrid
    """Where it lies in the oriented image."""
    shape: Shape
    """Voxels (Z, Y, X) of the oriented image."""


def prepare(oriented: OrientedImage, preprocessing: Preprocessing) -> Prepared:
    """Bring an image to the network's grid."""
    cropped = prepare_image(oriented.image, oriented.spacing_mm, preprocessing, covered=oriented.covered)
    if oriented.absent is not None:
        fill_absent(cropped.image, oriented.absent)
    return Prepared(_network_input(oriented, cropped, preprocessing), cropped.grid, oriented.image.shape[1:])


def segment(
    prepared: Prepared,
    segmenter: Segmenter,
    observers: Sequence[Observer] = (),
    *,
    decision: Decision = AS_LIKELY,
) -> Segmentation:
    """Return the label values (Z, Y, X) of an image on its own grid; what was cropped away is background.

    Args:
        prepared: the image.
        segmenter: the way to logits.
        observers: are shown each slice within the box as it is decided.
        decision: from logits to labels.

    Raises:
        InputError: the logits are not finite.
    """
    box, slices = cropped_logits(prepared, segmenter)
    answer = Answer(box, (split_votes(channels, segmenter) for channels in slices))
    return decide_slices(answer, prepared.shape, segmenter.targets, observers=observers, decision=decision)


def decide_slices(
    answer: Answer,
    shape: Shape,
    targets: Targets,
    *,
    observers: Sequence[Observer] = (),
    decision: Decision = AS_LIKELY,
) -> Segmentation:
    """Return the label values (Z, Y, X) of an image, slice by slice as the answer comes.

    Args:
        answer: what is said of it.
        shape: voxels (Z, Y, X) of the oriented image.
        targets: what the K outputs mean.
        observers: are shown each slice within the box as it is decided.
        decision: from logits to labels.
    """
    labels = np.zeros(shape, smallest_dtype(targets))
    *_, depth, rows, columns = box_slices(answer.box)
    # Slices that never came would be background without anyone noticing.
    for position, said in zip(range(depth.start, depth.stop), answer.slices, strict=True):
        found = SliceResult(position, (rows, columns), *_decided(said, targets, decision))
        labels[position, rows, columns] = found.values
        for observe in observers:
            observe(found)
    return labels


def split_votes(channels: Tensor, segmenter: Segmenter) -> SliceLogits:
    """Return a slice (K or 2 K, rows, columns) of a forward's answer as logits and votes."""
    num_outputs = segmenter.targets.num_outputs
    return SliceLogits(channels[:num_outputs], channels[num_outputs:] if segmenter.has_votes else None)


def cropped_logits(prepared: Prepared, segmenter: Segmenter) -> CroppedLogits:
    """Return the logits of an image on its own grid, slice after slice, so that they never exist as a whole."""
    spec, grid = segmenter.preprocessing, prepared.grid
    num_outputs = segmenter.targets.num_outputs * (2 if segmenter.has_votes else 1)
    slabs = predict_slabs(prepared.image, segmenter.forward, segmenter.tiling, num_outputs=num_outputs)
    orders = resampling_orders(spec.resampling.logit_order, grid.target_spacing_mm, grid.spacing_mm, spec)
    return CroppedLogits(grid.box, restored_slices(slabs, (grid.shape, box_shape(grid.box)), orders))


def _decided(
    said: SliceLogits, targets: Targets, decision: Decision
) -> tuple[Tensor, Tensor | None, Segmentation, Tensor | None]:
    """Return the last four fields of a `SliceResult`."""
    logits, decided_by = said.logits, None
    if decision.margins:
        decided_by = logits - logits.new_tensor(decision.margins).reshape(-1, 1, 1)
    values = decide(logits if decided_by is None else decided_by, targets)
    # Division by 1 would copy.
    shown = logits if decision.temperature == 1 else logits / decision.temperature
    return shown, said.votes, values, decided_by


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
