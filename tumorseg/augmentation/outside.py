"""What lies outside the body, measured before anything changes intensities, and set to 0 after.

References:
    nnU-Net's MaskImageTransform, which looks for the label -1 that its preprocessing gives to what lies outside the non-zero mask.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.augmentation.dice import Dice
from tumorseg.augmentation.masks import grown
from tumorseg.augmentation.parts import parts
from tumorseg.augmentation.samples import Sample
from tumorseg.schema.transforms.base import PatchFacts
from tumorseg.schema.transforms.intensity import ZeroOutside, masked_channels

RIPPLE = 0.02
"""Intensities that splines leave outside the body where an image was resampled; nearer to it they are larger."""


class OutsideDraw(NamedTuple):
    """Channels that are 0 outside the body; nothing of it is random."""

    channels: tuple[int, ...]


def draw_outside(transform: ZeroOutside, facts: PatchFacts, dice: Dice) -> OutsideDraw:
    """Return the channels."""
    return OutsideDraw(masked_channels(facts) if transform.channels is None else transform.channels)


def body_of(sample: Sample, draw: OutsideDraw, facts: PatchFacts) -> Tensor:
    """Return (1, *space) float32: 1 in the body, 0 outside.

    Outside, all of the channels are exactly 0, or, for more than one voxel on end, nearly. What has a label is in the body.
    """
    occupied, loud = (
        torch.empty(sample.image.shape[1:], dtype=torch.bool, device=sample.image.device) for _ in range(2)
    )
    images = [parts(sample.image[channel]) for channel in draw.channels]
    for is_occupied, is_loud, *some in zip(parts(occupied), parts(loud), *images, strict=True):
        largest = some[0].abs()
        for other in some[1:]:
            torch.maximum(largest, other.abs(), out=largest)
        torch.ne(largest, 0, out=is_occupied)
        torch.gt(largest, RIPPLE, out=is_loud)
    # A voxel of tissue may have any intensity, hardly so all of its neighbours: what is smaller than they are is not outside.
    body = ~grown(~grown(loud))
    body &= occupied
    body |= sample.segmentation[0] != 0
    return body.to(torch.float32)[None]


def apply_outside(sample: Sample, draw: OutsideDraw, facts: PatchFacts) -> Sample:
    """Set the channels to 0 outside the body, which is the last of the maps."""
    clear_outside(sample.image, sample.maps[-1], draw)
    return sample._replace(maps=sample.maps[:-1])


def clear_outside(image: Tensor, body: Tensor, draw: OutsideDraw) -> None:
    """Set the channels of an image (C, *space) to 0, in place, where a map (*space) says that there is no body."""
    outside = body <= 0.5
    for channel in draw.channels:
        image[channel].masked_fill_(outside, 0)
