"""Values of images and labels at places between voxels.

References:
    batchgeneratorsv2's SpatialTransform, whose results these are: images linearly, labels by the largest share, both continued with
    nothing beyond the outer voxels.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tumorseg.augmentation.axes import between, interpolate_axis
from tumorseg.augmentation.parts import PART

MARGIN = 2
"""Voxels that are put around a source where places may lie outside: as far as the corners of a place that sees nothing of it."""
NOWHERE = -2
"""Stands for what lies beyond the source while labels are weighed; becomes background."""
TIE = 1e-6
"""Weight of the nearest corner's label beyond its share, so that it wins where two have equal ones."""


def strides_of(source: Sequence[int]) -> tuple[int, ...]:
    """Return the steps of a flat index along each axis of a source."""
    return tuple(math.prod(source[axis + 1 :]) for axis in range(len(source)))


class Places(NamedTuple):
    """Places in a source whose corners, the voxels around them, all lie within it."""

    at: tuple[Tensor, ...]
    """(*part) float32 for each axis of the source, in voxels, to be broadcast; not negative, but for rounding."""
    source: tuple[int, ...]
    """Voxels along each axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the part of the patch."""
        return np.broadcast_shapes(*(tuple(place.shape) for place in self.at))

    @property
    def is_straight(self) -> bool:
        """Return whether nothing is turned, so that places along one axis depend on no other."""
        return all(place.numel() == place.shape[axis] for axis, place in enumerate(self.at))

    def corners(self) -> "Corners":
        """Return the voxels around each place."""
        at = [place.expand(self.shape) for place in self.at]
        base, strides = torch.zeros((), dtype=torch.int32, device=at[0].device), strides_of(self.source)
        for place, stride in zip(at, strides, strict=True):
            # Rounded towards 0, which is down.
            base = torch.add(base, place.int(), alpha=stride)
        return Corners(base.flatten(), tuple(place.frac().flatten() for place in at), strides)


class Corners(NamedTuple):
    """The voxels around each of N places."""

    base: Tensor
    """(N,) int32: flat index of the lowest one."""
    beyond: tuple[Tensor, ...]
    """(N,) for each axis: how far the place lies beyond it."""
    strides: tuple[int, ...]
    """Steps of the flat index along each axis."""

    @property
    def steps(self) -> list[tuple[int, ...]]:
        """Return how far each corner lies from the lowest one along each axis, in the order of `interpolated`."""
        return list(product((0, 1), repeat=len(self.strides)))

    def those(self, numbers: Tensor) -> "Corners":
        """Return the corners of some places."""
        beyond = tuple(part.index_select(0, numbers) for part in self.beyond)
        return Corners(self.base.index_select(0, numbers), beyond, self.strides)

    def look_up(self, flat: Tensor, steps: Sequence[int]) -> Tensor:
        """Return the values (N,) of one corner in a flat source."""
        offset = sum(step * stride for step, stride in zip(steps, self.strides, strict=True))
        return flat.narrow(0, offset, len(flat) - offset).index_select(0, self.base)

    def interpolated(self, values: Sequence[Tensor]) -> Tensor:
        """Return what lies between the values (N,) of all corners, which are overwritten."""
        found = list(values)
        for beyond in reversed(self.beyond):
            # Pairs of corners along the last axis first, then along the one before.
            weight = beyond.to(found[0].dtype)
            found = [low.lerp_(high, weight) for low, high in zip(found[::2], found[1::2], strict=True)]
        return found[0]


def with_margin(layers: Tensor, value: int) -> Tensor:
    """Return layers (L, *source) with a margin of a value along each axis."""
    return F.pad(layers, [MARGIN] * (2 * (layers.ndim - 1)), value=value)


def clamped(place: Tensor, size: int) -> Tensor:
    """Return places along an axis of a size, margin included, of which none has a corner beyond the margin."""
    # What lies farther out sees the margin alone, wherever it is.
    return place.clamp(0.5, size - 1.5)


def sample_linearly(images: Tensor, places: Sequence[Tensor] | Tensor) -> Tensor:
    """Return images at places, interpolated linearly, 0 beyond the outer voxels.

    Args:
        images: (L, *source) floating point, of two or three axes.
        places: (*part) float32 for each axis of the source, in voxels, to be broadcast.

    Returns:
        (L, *part), of the images' type.
    """
    # For the sampler -1 and 1 are the outer edges of the source, half a voxel beyond the outer voxels' centres.
    rows = [(2 * place + 1) / size - 1 for place, size in zip(places, images.shape[1:], strict=True)]
    shape = np.broadcast_shapes(*(tuple(row.shape) for row in rows))
    grid = torch.stack([row.expand(shape) for row in rows[::-1]], -1)
    # It takes floats of one kind alone.
    exact = images if images.dtype == torch.float64 else images.float()
    sampled = F.grid_sample(exact[None], grid[None].to(exact.dtype), align_corners=False)
    return sampled[0].to(images.dtype)


def sample_images(images: Tensor, places: Places, corners: Corners) -> Tensor:
    """Return what `sample_linearly` returns, in less time.

    Args:
        images: (L, *source) floating point, contiguous.
        places: in the source.
        corners: of the places.

    Returns:
        (L, *part), of the images' type.
    """
    if places.is_straight:
        for axis, place in enumerate(places.at, start=1):
            images = interpolate_axis(images, axis, between(place.flatten(), images.shape[axis]))
        return images
    if images.device.type == "cpu" and len(places.source) == 3:
        # For two axes torch's sampler is fast there, for three it works voxel by voxel.
        sampled = images.new_empty(len(images), len(corners.base))
        for layer, target in zip(images, sampled, strict=True):
            flat = layer.flatten()
            target.copy_(corners.interpolated([corners.look_up(flat, steps) for steps in corners.steps]))
        return sampled.reshape(len(images), *places.shape)
    return sample_linearly(images, places.at)


class LabelSampler:
    """The label with the largest share of each place, as linear interpolation weighs the voxels around it.

    Only places around which voxels differ are weighed, a few in a hundred of most patches, all at the end.
    """

    def __init__(self, labels: Tensor, *, has_margin: bool) -> None:
        """Prepare label maps.

        Args:
            labels: (L, *source), class indices up to 16,383.
            has_margin: whether `NOWHERE` lies around them.
        """
        self._num_layers, self._size = len(labels), math.prod(labels.shape[1:])
        self._codes, self._has_margin = _codes(labels), has_margin
        self._mixed: list[tuple[Tensor, Corners]] = []

    def sample(self, corners: Corners, target: Tensor, start: int) -> None:
        """Write the labels of N places into a part of `target` (L, P) that begins at a place; of mixed ones none that counts."""
        num_places = len(corners.base)
        for layer in range(self._num_layers):
            base = corners.base + layer * self._size if layer else corners.base
            found = self._codes.index_select(0, base)
            mixed = (found & 1).nonzero().flatten()
            those = corners._replace(base=base).those(mixed)
            self._mixed.append((mixed + (layer * target.shape[1] + start), those))
            target[layer, start : start + num_places] = found >> 1

    def settle(self, target: Tensor) -> None:
        """Write the labels of all mixed places into `target` (L, *patch), in which nothing is nowhere after."""
        numbers = torch.cat([places for places, _ in self._mixed])
        bases = torch.cat([corners.base for _, corners in self._mixed])
        beyond = [torch.cat(parts) for parts in zip(*(corners.beyond for _, corners in self._mixed), strict=True)]
        mixed = Corners(bases, tuple(beyond), self._mixed[0][1].strides)
        target.view(-1)[numbers] = _weighed(self._codes, mixed).to(target.dtype)
        if self._has_margin:
            target.masked_fill_(target == NOWHERE, 0)


def _codes(labels: Tensor) -> Tensor:
    """Return twice each label (L, *source), and 1 more where the voxels from there on, the corners of places there, differ; flat."""
    flat, strides = labels.flatten(), strides_of(labels.shape[1:])
    codes = torch.empty(len(flat), dtype=torch.int16, device=flat.device)
    step = PART if flat.device.type == "cpu" else max(len(flat), 1)
    for first in range(0, len(flat), step):
        # In a quarter of the memory of the usual int64, as several operations go over it.
        narrow = flat[first : first + step + sum(strides)].to(torch.int16)
        target = codes[first : first + step]
        torch.mul(narrow[: len(target)], 2, out=target)
        mixed = _is_mixed(narrow, strides)
        target[: len(mixed)] += mixed
    return codes


def _is_mixed(flat: Tensor, strides: Sequence[int]) -> Tensor:
    """Return whether voxels and those one stride on along every axis differ; at the ends of rows what nobody asks for."""
    mixed = torch.zeros_like(flat, dtype=torch.bool)
    for stride in reversed(strides):
        length = max(len(mixed) - stride, 0)
        # Of both along this axis, what differs along those before, and one from the other.
        differs = mixed[:length] | mixed[stride:]
        mixed = differs.logical_or_(flat[:length] != flat[stride : stride + length])
    return mixed


def _weighed(codes: Tensor, corners: Corners) -> Tensor:
    """Return the label (N,) with the largest share of its corners; where two have equal ones the nearest corner's."""
    offset = torch.zeros_like(corners.base)
    for beyond, stride in zip(corners.beyond, corners.strides, strict=True):
        offset.add_(beyond > 0.5, alpha=stride)
    nearest = codes.index_select(0, corners.base + offset) >> 1
    around = torch.stack([corners.look_up(codes, steps) for steps in corners.steps]) >> 1
    # With half of it nothing has more. Few places are left, where the labels of all corners are compared.
    unclear = (_share(around, nearest, corners) < 0.5).nonzero().flatten()
    nearest[unclear] = _compared(around[:, unclear], nearest[unclear], corners.those(unclear))
    return nearest


def _share(around: Tensor, label: Tensor, corners: Corners) -> Tensor:
    """Return the shares (…, N) of labels (…, N), given those of all corners (2^axes, N or to be broadcast)."""
    return corners.interpolated((around == label).to(corners.beyond[0].dtype).unbind())


def _compared(around: Tensor, nearest: Tensor, corners: Corners) -> Tensor:
    """Return the label (N,) with the largest share, given those of all corners (2^axes, N) and of the nearest one."""
    shares = _share(around[:, None], around, corners)
    chosen = shares.add_(around == nearest, alpha=TIE).argmax(0, keepdim=True)
    return around.gather(0, chosen)[0]
