"""Where each voxel of a turned, scaled and deformed patch is looked up in its source."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tumorseg.augmentation.parts import PART
from tumorseg.augmentation.resampling import MARGIN, Places, clamped


class ElasticDraw(NamedTuple):
    """A deformation."""

    widths: tuple[float, ...]
    """Standard deviations of the smoothing in voxels, per axis."""
    magnitudes: tuple[float, ...]
    """Largest displacements in voxels, per axis."""
    seed: int


class SpatialDraw(NamedTuple):
    """Rotation, scaling and deformation of a sample."""

    angles_deg: tuple[float, ...]
    """About each axis; one in 2D, or in planes."""
    scaling: float
    """Factor of the distance between the voxels that are looked at."""
    elastic: ElasticDraw | None
    """None where nothing is deformed."""
    in_plane: bool


def moving(sizes: Sequence[int], *, in_plane: bool) -> tuple[int, ...]:
    """Return the sizes of the axes along which voxels may move."""
    return tuple(sizes[1:] if in_plane and len(sizes) == 3 else sizes)


def looked_at(draw: SpatialDraw, patch: Sequence[int]) -> tuple[int, ...]:
    """Return the voxels along each axis of a source that a patch looks at, their corners included."""
    magnitudes = draw.elastic.magnitudes if draw.elastic is not None else (0.0,) * len(patch)
    # From the centre to the outermost voxel that is looked at; displacements are turned with the rest.
    half = [(size - 1) / 2 + magnitude for size, magnitude in zip(patch, magnitudes, strict=True)]
    reach = np.abs(matrix_of(draw)) @ half
    # A middle between two voxels is cut at the lower one, hence the two more; rounding must not cost another.
    return tuple(max(size, 2 * math.ceil(extent - 1e-6) + 2) for size, extent in zip(patch, reach, strict=True))


def matrix_of(draw: SpatialDraw) -> NDArray[np.float64]:
    """Return (axes, axes): from offsets in the patch to offsets in the source, in voxels from the centre."""
    num_axes = 2 if len(draw.angles_deg) == 1 else 3
    # Of three axes each turns the two that follow it.
    planes = [(0, 1)] if num_axes == 2 else [(1, 2), (2, 0), (0, 1)]
    matrix: NDArray[np.float64] = np.eye(num_axes) * draw.scaling
    for (first, second), degrees in zip(planes, draw.angles_deg, strict=True):
        angle = math.radians(degrees)
        turn: NDArray[Any] = np.eye(num_axes)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        # About the first axis first, as nnU-Net does.
        matrix = turn @ matrix
    return matrix


class Lookup:
    """The places of a patch's voxels in a source."""

    def __init__(
        self, draw: SpatialDraw, patch: tuple[int, ...], source: tuple[int, ...], device: torch.device
    ) -> None:
        """Prepare it.

        Args:
            draw: rotation, scaling and deformation.
            patch: voxels along the axes that move.
            source: voxels along them, without a margin.
            device: of the sample.
        """
        self._patch, self._device = patch, device
        # The mean of a deformation is taken off, so that it may reach a little farther than its magnitude.
        wide = looked_at(draw, patch)
        self.has_margin = draw.elastic is not None or any(size < edge for size, edge in zip(source, wide, strict=True))
        """Whether anything may lie outside the source, which then needs a margin."""
        margin = MARGIN if self.has_margin else 0
        self._source = tuple(size + 2 * margin for size in source)
        # The patch's middle lies where `center_crop` cuts it: at the lower of two.
        self._middles = [margin + (size - edge) // 2 + (edge - 1) / 2 for size, edge in zip(source, patch, strict=True)]
        self._rows = matrix_of(draw).tolist()
        self._displacements = None if draw.elastic is None else _displacements(draw.elastic, patch, device)

    def parts(self) -> Iterator[tuple[int, int]]:
        """Yield first and number of the planes of the patch that are looked up together."""
        size = self._patch[0]
        step = max(1, PART * size // math.prod(self._patch)) if self._device.type == "cpu" else size
        for first in range(0, size, step):
            yield first, min(step, size - first)

    def places(self, first: int, length: int) -> Places:
        """Return the places of some planes of the patch.

        Sums of products rather than a matrix product, which autocast and TF32 would round to three digits.
        """
        offsets = self._offsets(first, length)
        at = []
        for row, middle, size in zip(self._rows, self._middles, self._source, strict=True):
            place = torch.full((), middle, dtype=torch.float32, device=self._device)
            for factor, offset in zip(row, offsets, strict=True):
                # In a product and a sum, not in one operation, or devices would round differently. Where nothing is turned
                # axes stay apart, and so do their places.
                place = place + factor * offset if factor else place
            at.append(clamped(place, size) if self.has_margin else place)
        return Places(tuple(at), self._source)

    def _offsets(self, first: int, length: int) -> list[Tensor]:
        """Return how far the voxels of some planes lie from the patch's centre along each axis; fields are to be broadcast."""
        offsets = []
        for axis, size in enumerate(self._patch):
            numbers = torch.arange(size, dtype=torch.float32, device=self._device)
            numbers = numbers.narrow(0, first, length) if axis == 0 else numbers
            offset = (numbers - (size - 1) / 2).reshape(
                [-1 if other == axis else 1 for other in range(len(self._patch))]
            )
            if self._displacements is not None:
                offset = offset + self._displacements[axis].narrow(0, first, length)
            offsets.append(offset)
        return offsets


def _displacements(draw: ElasticDraw, patch: Sequence[int], device: torch.device) -> list[Tensor]:
    """Return a displacement field for each axis: smoothed noise whose largest value is the magnitude, without a mean."""
    # On the CPU whatever the device: other noise would be another deformation, and labels would differ.
    generator = torch.Generator().manual_seed(draw.seed)
    fields = []
    for width, magnitude in zip(draw.widths, draw.magnitudes, strict=True):
        noise = torch.randn(*patch, generator=generator)
        smooth = _smoothed(noise, width)
        smooth = smooth * (magnitude / smooth.abs().max().clamp(min=1e-12))
        fields.append(smooth - smooth.mean())
    return [field.to(device, non_blocking=True) for field in fields]


def _smoothed(noise: Tensor, width: float) -> Tensor:
    """Return noise smoothed along each axis by a Gaussian of a standard deviation in voxels, its ends joined."""
    spectrum = torch.fft.rfftn(noise)
    last = noise.ndim - 1
    for axis, size in enumerate(noise.shape):
        frequencies = torch.fft.rfftfreq(size) if axis == last else torch.fft.fftfreq(size)
        damping = torch.exp(-2 * (math.pi * width * frequencies) ** 2)
        spectrum = spectrum * damping.reshape([-1 if other == axis else 1 for other in range(noise.ndim)])
    smooth: Tensor = torch.fft.irfftn(spectrum, s=noise.shape)
    return smooth
