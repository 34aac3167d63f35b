"""Tumours of other cases, pasted with their labels.

References:
    Ghiasi et al., Simple copy-paste is a strong data augmentation method for instance segmentation, CVPR 2021.
    Yang et al., TumorCP: a simple but effective object-level data augmentation for tumor segmentation, MICCAI 2021.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.augmentation.dice import Dice
from tumorseg.augmentation.masks import grown
from tumorseg.augmentation.outside import OutsideDraw, body_of
from tumorseg.augmentation.samples import Sample
from tumorseg.errors import InputError
from tumorseg.schema.preprocessing import CtNormalization
from tumorseg.schema.transforms.acquisition import CopyPaste
from tumorseg.schema.transforms.base import PatchFacts
from tumorseg.schema.transforms.intensity import masked_channels

SEAM = 2
"""Voxels around what is pasted over which one image fades into the other."""


class CopyPasteDraw(NamedTuple):
    """A patch of another case, and how it is pasted."""

    transform: CopyPaste
    axes: tuple[int, ...]
    """Along which it is flipped."""
    donor: Sample | None = None
    """The other patch, put in once it has been read; None: nothing is pasted."""


def draw_copy_paste(transform: CopyPaste, facts: PatchFacts, dice: Dice) -> CopyPasteDraw | None:
    """Decide whether another patch is wanted, and how it is flipped."""
    if not dice.chance(transform.probability):
        return None
    return CopyPasteDraw(transform, tuple(axis for axis in transform.mirror_axes if dice.chance(0.5)))


def apply_copy_paste(sample: Sample, draw: CopyPasteDraw, facts: PatchFacts) -> Sample:
    """Paste the classes' voxels of the donor, image and all segmentations, where the patch has what may be pasted over.

    Raises:
        InputError: the donor is not of the patch's size.
    """
    if draw.donor is None:
        return sample
    if draw.donor.image.shape != sample.image.shape:
        raise InputError(
            f"the patch to copy from has shape {tuple(draw.donor.image.shape)}, the patch {tuple(sample.image.shape)}; "
            "expected the same"
        )
    theirs = draw.donor.segmentation[0]
    wanted = _is_among(theirs, draw.transform.labels)
    if not wanted.any():
        return sample
    # All happens in the part that holds the seam: first in the donor's place, then flipped to the sample's.
    box = _box(wanted, margin=SEAM)
    flipped = [axis + 1 for axis in draw.axes]
    donor = Sample(*(part[:, *box].to(sample.image.device).flip(flipped) for part in draw.donor))
    sizes = sample.image.shape[1:]
    target = tuple(
        slice(size - side.stop, size - side.start) if axis in draw.axes else side
        for axis, (side, size) in enumerate(zip(box, sizes, strict=True))
    )
    ours = Sample(*(part[:, *target] for part in sample))
    # The seam too lies where pasting is allowed: labels that stay keep their intensities.
    allowed = _shown(ours, facts) & _shown(donor, facts) & _is_among(ours.segmentation[0], draw.transform.onto)
    mask = wanted[box].to(sample.image.device).flip(draw.axes) & allowed
    if 0 < int(mask.sum()) <= draw.transform.largest_share * math.prod(sizes):
        _blend(ours.image, donor.image, mask, allowed=allowed, facts=facts)
        # In a cascade the donor's previous segmentation comes along: what the previous model made of that tumour.
        torch.where(mask, donor.segmentation.to(ours.segmentation.dtype), ours.segmentation, out=ours.segmentation)
    return sample


def _shown(sample: Sample, facts: PatchFacts) -> Tensor:
    """Return the voxels (*space) that show something: in the image, and in the body where that is masked."""
    # Beyond the image all channels are exactly 0, which hardly any voxel inside is.
    masked = masked_channels(facts)
    shown = (sample.image[list(masked)] != 0).any(0) if masked else (sample.image != 0).any(0)
    return shown & (body_of(sample, OutsideDraw(masked), facts)[0] > 0.5) if masked else shown


def _is_among(segmentation: Tensor, classes: Sequence[int]) -> Tensor:
    found = segmentation == classes[0]
    for index in classes[1:]:
        found |= segmentation == index
    return found


def _box(mask: Tensor, *, margin: int) -> tuple[slice, ...]:
    """Return the slices around the True voxels, of which there are some, with a margin inside the array."""
    slices = []
    for axis, size in enumerate(mask.shape):
        others = [other for other in range(mask.ndim) if other != axis]
        found = mask.any(others).nonzero().flatten()
        slices.append(slice(max(int(found[0]) - margin, 0), min(int(found[-1]) + 1 + margin, size)))
    return tuple(slices)


def _blend(image: Tensor, donor: Tensor, mask: Tensor, *, allowed: Tensor, facts: PatchFacts) -> None:
    """Blend the donor (C, *space) into an image, wholly in the mask and ever less over what is allowed of the seam, in place.

    Where intensities have no unit, as in MR, the donor is shifted so that both images have the same mean in the seam: a tumour keeps
    its contrast to the tissue around it. Hounsfield units are kept, as a tumour of 60 HU is one of 60 HU everywhere.
    """
    weight, wider = mask.to(image.dtype), mask
    for _ in range(SEAM):
        wider = grown(wider)
        weight += wider
    weight *= allowed / (1 + SEAM)
    seam = wider & allowed & ~mask
    has_seam = bool(seam.any())
    for channel, (ours, theirs) in enumerate(zip(image, donor, strict=True)):
        shift: Tensor | float = 0.0
        if has_seam and not isinstance(facts.normalization[channel], CtNormalization):
            shift = ours[seam].mean() - theirs[seam].mean()
        ours.lerp_(theirs + shift, weight)
