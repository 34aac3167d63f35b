"""What normalised intensities of MR images are worth as signal.

Artefacts act on the signal, which is 0 in air. A z-score is 0 at the channel's mean: a field that multiplied it would brighten what is
bright, darken what is dark and pass over the rest. So the signal is counted from the least value of the patch: its air, or its darkest
tissue where it holds no air.

Voxels of exactly 0 were masked away or lie beyond the image; no other voxel hits the mean to the last bit but by rare chance. There the
0 stands amid the intensities, and taken as it is would glow, ring and cast ghosts like mean tissue. Such voxels count as air while an
artefact is computed, and are 0 again after it: what a scanner adds to the surroundings is masked away with them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Air(NamedTuple):
    """Where a channel has no signal."""

    level: Tensor
    """() least value of the channel."""
    inside: Tensor
    """(*space) of the channel's type: 1 for voxels of the image, 0 for others."""


def air_of(values: Tensor) -> Air:
    """Return the air of one channel (*space)."""
    # To multiply by numbers takes a sixth of the time that masks take.
    return Air(values.amin(), values.sign().abs_())


def scale_signal(values: Tensor, gain: Tensor) -> None:
    """Multiply the signal of a channel by a gain, in place.

    Args:
        values: (*space), normalised.
        gain: what spreads to (*space), of the same type and device; where it is 1, values stay to the last bit.
    """
    air = air_of(values)
    # level + gain * (values - level), in one pass.
    values.lerp_(air.level, 1 - gain).mul_(air.inside)


def shade_signal(values: Tensor, field: Tensor) -> None:
    """Multiply the signal of a channel by a field, and all of it by what brings back its mean, in place.

    Args:
        values: (*space), normalised.
        field: (*space), above 0, of the same type and device.
    """
    air = air_of(values)
    values.sub_(air.level).mul_(air.inside)
    before = values.mean()
    after = values.mul_(field).mean()
    # Without any signal there is nothing to bring back.
    values.mul_(before / after.clamp(min=1e-12)).add_(air.level).mul_(air.inside)


def change_signal(values: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    """Apply a linear change that keeps constants to the signal of a channel, in place.

    Args:
        values: (*space), normalised.
        change: from intensities to a new tensor of intensities; as it keeps constants, the level of the air need not be taken off.
    """
    air = air_of(values)
    signal = torch.lerp(air.level, values, air.inside)
    torch.mul(change(signal), air.inside, out=values)
