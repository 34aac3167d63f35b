"""Stand-ins for channels that a case lacks and a network expects."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from tumorseg.types import Image, Mask

Filling = Literal["zero", "mean"]
"""What stands in for a channel after normalisation: 0, or the mean of the channels that are there."""


class AbsentChannels(NamedTuple):
    """Channels of a network that a case lacks."""

    positions: tuple[int, ...]
    """Of them among the network's channels, ascending."""
    filling: Filling
    """What stands in for them."""


def present_positions(absent: AbsentChannels, num_channels: int) -> tuple[int, ...]:
    """Return the positions of the channels that are there, among all that a network expects."""
    return tuple(number for number in range(num_channels) if number not in absent.positions)


def with_room(image: Image, absent: AbsentChannels) -> Image:
    """Return an image with a channel of zeros in each place where one is absent.

    Zeros add nothing to the box and the mask of what is not 0 in some channel, so that cropping and normalisation of the
    channels that are there stay as they are.

    Args:
        image: (C, Z, Y, X), the channels that are there.
        absent: the others.

    Returns:
        (C + number of absent channels, Z, Y, X), of the same dtype.
    """
    num_channels = len(image) + len(absent.positions)
    whole = np.zeros((num_channels, *image.shape[1:]), image.dtype)
    whole[list(present_positions(absent, num_channels))] = image
    return whole


def cover_with_room(covered: Sequence[Mask | None], absent: AbsentChannels) -> tuple[Mask | None, ...]:
    """Return what each channel covers, with None (all voxels) in each place where one is absent.

    Args:
        covered: of the channels that are there; empty stays empty.
        absent: the others.
    """
    if not covered:
        return ()
    there = iter(covered)
    num_channels = len(covered) + len(absent.positions)
    return tuple(None if number in absent.positions else next(there) for number in range(num_channels))


def fill_absent(image: Image, absent: AbsentChannels) -> None:
    """Put the stand-ins into a normalised image, in place.

    Resampling treats all channels alike and is linear, so that it makes no difference whether it came before.

    Args:
        image: (C, Z, Y, X), normalised, with room for the channels that are absent.
        absent: which they are; at least one other channel is there.
    """
    places = list(absent.positions)
    if absent.filling == "zero":
        image[places] = 0
        return
    present = list(present_positions(absent, len(image)))
    # Each is added to one volume, so that no copy of all channels is made.
    total = np.zeros(image.shape[1:], image.dtype)
    for number in present:
        total += image[number]
    total /= len(present)
    image[places] = total
