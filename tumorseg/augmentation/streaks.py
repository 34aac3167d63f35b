"""Projections of metal implants, and what is reconstructed of their errors: filtered back-projection of parallel beams in a plane.

References:
    Kak & Slaney, Principles of Computerized Tomographic Imaging, 1988, chapter 3.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.augmentation.parts import PART
from tumorseg.augmentation.picking import picked

VIEWS = 90
"""Directions of the beam over half a turn: few, so that single rays can be seen, as around metal."""
NOISE = 0.4
"""Standard deviation of the noise where hardly a photon passes, against the hardening there."""


class Implant(NamedTuple):
    """An ellipse of metal."""

    row: float
    column: float
    radii: tuple[float, float]
    """Half axes in voxels, the long one first."""
    angle: float
    """Between the rows' axis and the long one, in radians."""

    def covers(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return which voxels have their centre inside."""
        down, right = rows - self.row, columns - self.column
        along = down * math.cos(self.angle) + right * math.sin(self.angle)
        across = right * math.cos(self.angle) - down * math.sin(self.angle)
        longer, shorter = self.radii
        return (along / longer) ** 2 + (across / shorter) ** 2 <= 1

    def chords(self, angles: Tensor, offsets: Tensor, *, centre: tuple[float, float]) -> Tensor:
        """Return (views, offsets): the lengths of the beams inside.

        Args:
            angles: (views, 1) of the detector to the rows' axis, in radians.
            offsets: (offsets,) of the beams from the centre, in voxels along the detector.
            centre: of the plane, in rows and columns.
        """
        longer, shorter = self.radii
        middle = (self.row - centre[0]) * angles.cos() + (self.column - centre[1]) * angles.sin()
        reach = (longer * (angles - self.angle).cos()) ** 2 + (shorter * (angles - self.angle).sin()) ** 2
        inside = (reach - (offsets - middle) ** 2).clamp(min=0)
        return 2 * longer * shorter * inside.sqrt() / reach


def sinogram(implants: Sequence[Implant], plane: Sequence[int], seed: int) -> Tensor:
    """Return the errors of the projections of implants.

    A beam that hardens in metal is measured too weakly absorbed, by the square of the metal that it has passed, so that beams through
    several pieces lack more than the pieces by themselves: the dark bands between them. Where hardly a photon is left noise rules.

    Args:
        implants: in the plane.
        plane: its rows and columns.
        seed: of the noise.

    Returns:
        (views, offsets) float32 on the CPU; the middle offset passes the plane's centre.
    """
    # Wide enough for the diagonal; odd, so that there is a middle.
    reach = math.ceil(math.hypot(*plane) / 2) + 2
    angles = _angles()[:, None]
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    centre = ((plane[0] - 1) / 2, (plane[1] - 1) / 2)
    metal = torch.zeros(VIEWS, len(offsets))
    for implant in implants:
        metal += implant.chords(angles, offsets, centre=centre)
    metal /= metal.max().clamp(min=1e-6)
    # The same noise for all devices.
    noise = torch.randn(metal.shape, generator=torch.Generator().manual_seed(seed))
    return metal.square() * (NOISE * noise - 1)


def reconstructed(errors: Tensor, plane: Sequence[int], device: torch.device) -> Tensor:
    """Return the filtered back-projection of projections.

    Args:
        errors: (views, offsets) float32 on the CPU, the middle offset through the plane's centre.
        plane: rows and columns.
        device: of the result.

    Returns:
        (rows, columns) float32.
    """
    filtered = _ramp_filtered(errors)
    steps = torch.diff(filtered, append=filtered[:, -1:])
    filtered, steps = filtered.to(device), steps.to(device)
    rows, columns = (torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2 for size in plane)
    num_offsets = errors.shape[1]
    # On the CPU, as another last digit of a sine is another place in voxels.
    cosines, sines = (values[:, None, None].to(device) for values in (_angles().cos(), _angles().sin()))
    image = torch.zeros(*plane, device=device)
    # Few at once, or what they need would leave the processor's cache.
    at_once = max(1, PART // image.numel())
    for start in range(0, VIEWS, at_once):
        here = slice(start, start + at_once)
        places = rows[:, None] * cosines[here] + (columns * sines[here] + (num_offsets - 1) / 2)
        lower = places.long()  # none is negative
        beyond = places.sub_(lower)
        index = lower.add_(torch.arange(start, start + len(places), device=device)[:, None, None], alpha=num_offsets)
        image += picked(filtered, index).addcmul_(picked(steps, index), beyond).sum(0)
    return image.mul_(math.pi / VIEWS)


def _angles() -> Tensor:
    return torch.arange(VIEWS) * (math.pi / VIEWS)


def _ramp_filtered(views: Tensor) -> Tensor:
    """Return projections (views, offsets) filtered by the frequency, high ones damped."""
    size = views.shape[1]
    # Twice as long, so that no end sees the other.
    length = 2 * size
    frequencies = torch.fft.rfftfreq(length)
    ramp = frequencies * torch.cos(math.pi * frequencies)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(views, n=length) * ramp, n=length)
    return filtered[:, :size]
