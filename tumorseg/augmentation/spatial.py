"""Rotation, zoom and mirroring of images and labels together.

Each transform decides first (what happens to which sample, on the CPU) and applies after (on the batch's device, to
the samples concerned).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tumorseg.augmentation.draws import Generators, draw, draw_chance, send, spread_factor
from tumorseg.schema.augmentation import AffineTransform, MirrorTransform

Batch = tuple[Tensor, Tensor]
"""Images (B, C, *space) and segmentations (B, *space), or (B, 2, *space) in a cascade: reference and previous."""

STRONGEST_ZOOM_OUT = 0.85
"""A source region has real voxels down to this zoom, as in nnU-Net. Rarer, stronger ones meet zeros at the border:
reading for 0.7 would cost another 1.8 times the voxels of every patch."""


class AffineDraw(NamedTuple):
    """Rotation and zoom drawn for each sample."""

    angles: Tensor
    """(B, angles) radians."""
    zooms: Tensor
    """(B,)"""
    changed: Tensor
    """(B,) bool: False where there is nothing to resample."""


def affine_source_size(transform: AffineTransform, patch_size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the voxels per axis that rotating and zooming a patch may look at.

    Each rotation counts by itself, up to 90 degrees; several at once may reach slightly beyond.

    Args:
        transform: largest angles and zooms.
        patch_size: voxels per axis after the transform.
    """
    reach = [float(size) for size in patch_size]
    if transform.rotation_probability > 0:
        for (first, second), degrees in _rotations(transform, len(patch_size)):
            a, b = patch_size[first], patch_size[second]
            reach[first] = max(reach[first], _reach(a, b, degrees))
            reach[second] = max(reach[second], _reach(b, a, degrees))
    zooms = [1.0] * len(patch_size)
    if transform.scaling_probability > 0:
        # Zooming in looks at less than the patch, which has to be read all the same.
        zooms = [min(1.0, max(STRONGEST_ZOOM_OUT, transform.scaling.low))] * len(patch_size)
    if transform.in_plane:
        zooms[0] = 1.0
    # Rounding must not cost another plane of voxels.
    return tuple(math.ceil(size / zoom - 1e-6) for size, zoom in zip(reach, zooms, strict=True))


def affine(
    images: Tensor,
    segmentations: Tensor,
    *,
    transform: AffineTransform,
    patch_size: tuple[int, ...],
    generators: Generators,
) -> Batch:
    """Cut the central patch, rotated and zoomed in those samples that drew it.

    Images are interpolated linearly and continue with 0 outside; labels take the nearest voxel and continue with
    class 0, the background.

    Args:
        images: (B, C, *source).
        segmentations: (B, *source) or (B, 2, *source) integer.
        transform: probabilities and ranges.
        patch_size: voxels per axis to return.
        generators: one per sample.

    Returns:
        Images (B, C, *patch) and segmentations (B, *patch) or (B, 2, *patch), of unchanged types.
    """
    draw = draw_affine(transform, len(patch_size), generators)
    # In one order of memory whatever else is drawn: sums over a sample must not depend on its neighbours in the batch.
    patches = center_crop(images, patch_size).contiguous()
    labels = center_crop(segmentations, patch_size).contiguous()
    if not draw.changed.any():
        return patches, labels
    chosen = draw.changed.nonzero().flatten().to(images.device, non_blocking=True)
    matrices = _matrices(AffineDraw(*(part[draw.changed] for part in draw)), transform, len(patch_size))
    if transform.in_plane and len(patch_size) == 3:
        # The first axis is cut and no more; each of its planes is resampled by itself.
        depth = (patch_size[0], *images.shape[3:])
        images, segmentations = center_crop(images, depth), center_crop(segmentations, depth)
        matrices = matrices[:, 1:, 1:]
    rotated = _resample(images[chosen], matrices, patch_size, mode="bilinear")
    # Label maps become channels, be there one or two of a sample.
    maps = segmentations[chosen].reshape(len(chosen), -1, *segmentations.shape[-len(patch_size) :])
    rotated_maps = _resample(maps, matrices, patch_size, mode="nearest").reshape(-1, *labels.shape[1:])
    return patches.index_copy(0, chosen, rotated), labels.index_copy(0, chosen, rotated_maps)


def draw_affine(transform: AffineTransform, num_axes: int, generators: Generators) -> AffineDraw:
    """Decide each sample's angles and zoom."""
    limits = torch.tensor([math.radians(degrees) for _, degrees in _rotations(transform, num_axes)])
    # All of a sample at once: with many small samples the draws take as long as the resampling.
    # In columns: whether it is rotated, whether it is scaled, the zoom, and each angle.
    draws = draw((3 + len(limits),), generators)
    rotated = draws[:, 0] < transform.rotation_probability
    scaled = draws[:, 1] < transform.scaling_probability
    zooms = torch.where(scaled, spread_factor(transform.scaling, draws[:, 2]), 1.0)
    angles = (2 * draws[:, 3:] - 1) * limits * rotated.unsqueeze(1)
    return AffineDraw(angles, zooms, rotated | scaled)


def mirror(images: Tensor, segmentations: Tensor, *, transform: MirrorTransform, generators: Generators) -> Batch:
    """Flip images and labels along the axes that each sample drew.

    Args:
        images: (B, C, *space).
        segmentations: (B, *space) or (B, 2, *space).
        transform: axes and probability.
        generators: one per sample.
    """
    flips = draw_chance(transform.probability, (len(transform.axes),), generators).tolist()
    lead = segmentations.ndim - images.ndim + 1  # 1 where each sample has two maps
    flipped, labels = [], []
    for image, label, row in zip(images, segmentations, flips, strict=True):
        axes = [axis for axis, is_flipped in zip(transform.axes, row, strict=True) if is_flipped]
        flipped.append(image.flip([axis + 1 for axis in axes]))
        labels.append(label.flip([axis + lead for axis in axes]))
    return torch.stack(flipped), torch.stack(labels)


def center_crop(batch: Tensor, size: Sequence[int]) -> Tensor:
    """Return a view of the central voxels of the last axes; of two middles the lower."""
    for axis, length in enumerate(size, start=batch.ndim - len(size)):
        batch = batch.narrow(axis, (batch.shape[axis] - length) // 2, length)
    return batch


def _rotations(transform: AffineTransform, num_axes: int) -> Iterator[tuple[tuple[int, int], float]]:
    """Yield the two axes of each rotation's plane, and its largest angle in degrees."""
    if num_axes == 2:
        yield (0, 1), transform.rotation_deg[0]
        return
    for axis, degrees in enumerate(transform.rotation_deg):
        # Within planes of the first axis there is only the rotation about it.
        if axis == 0 or not transform.in_plane:
            first, second = (other for other in range(3) if other != axis)
            yield (first, second), degrees


def _reach(along: float, across: float, degrees: float) -> float:
    """Return the widest extent of a rectangle along one side's axis while it turns from 0 to an angle."""
    # The extent grows until the diagonal lies along the axis, and shrinks beyond.
    angle = min(math.radians(min(abs(degrees), 90)), math.atan2(across, along))
    return along * math.cos(angle) + across * math.sin(angle)


def _matrices(draw: AffineDraw, transform: AffineTransform, num_axes: int) -> Tensor:
    """Return (B, axes, axes): from offsets in the patch to offsets in the source, both in voxels from the centre."""
    rows = zip(draw.angles.tolist(), draw.zooms.tolist(), strict=True)
    return torch.stack([_matrix(angles, zoom, transform, num_axes) for angles, zoom in rows])


def _matrix(angles: Sequence[float], zoom: float, transform: AffineTransform, num_axes: int) -> Tensor:
    # Double precision, because autocast on the CPU would round a product of floats.
    matrix = torch.eye(num_axes, dtype=torch.float64)
    for angle, ((first, second), _) in zip(angles, _rotations(transform, num_axes), strict=True):
        turn = torch.eye(num_axes, dtype=torch.float64).tolist()
        turn[first][first] = turn[second][second] = math.cos(angle)
        turn[first][second], turn[second][first] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ torch.tensor(turn, dtype=torch.float64)
    # It leads back to the source: what appears twice as large comes from steps half as long.
    return matrix / zoom


def _resample(batch: Tensor, matrices: Tensor, patch_size: tuple[int, ...], *, mode: str) -> Tensor:
    """Sample (n, C, *source) at the patch's voxels. Two axes' matrices for three axes resample each plane alike."""
    num_axes = matrices.shape[1]
    # Planes of the first axis become channels, so nothing is interpolated across them.
    planes = batch.flatten(1, batch.ndim - 1 - num_axes)
    # The sampler takes floats alone; they hold label values exactly, up to 2^24.
    exact = planes if planes.dtype == torch.float64 else planes.float()
    grid = _grid(send(matrices, exact), planes.shape[2:], patch_size[-num_axes:])
    sampled = F.grid_sample(exact, grid, mode=mode, padding_mode="zeros", align_corners=False)
    return sampled.to(batch.dtype).reshape(*batch.shape[:2], *patch_size)


def _grid(matrices: Tensor, source: Sequence[int], patch: Sequence[int]) -> Tensor:
    """Return (n, *patch, axes) coordinates for grid_sample, last axis first.

    Sums of products rather than a matrix product, which autocast and TF32 would round to three digits.
    """
    num_axes = len(patch)
    offsets = []
    for axis, size in enumerate(patch):
        shape = [1] * num_axes
        shape[axis] = -1
        from_centre = torch.arange(size, device=matrices.device) - (size - 1) / 2
        offsets.append(from_centre.reshape(shape))
    coordinates = []
    for axis in range(num_axes):
        rows = matrices[:, axis].reshape(-1, num_axes, *[1] * num_axes)
        # The patch's middle lies where `center_crop` cuts it: at the lower of two.
        voxels = torch.tensor((source[axis] - patch[axis]) // 2 + (patch[axis] - 1) / 2)
        for other in range(num_axes):
            voxels = voxels + rows[:, other] * offsets[other]
        # For the sampler -1 and 1 are the outer edges of the source, half a voxel beyond the outer voxels' centres.
        coordinates.append((2 * voxels + 1) / source[axis] - 1)
    return torch.stack(coordinates[::-1], dim=-1)
