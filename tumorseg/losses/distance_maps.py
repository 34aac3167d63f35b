"""Distances from surfaces, for a batch of masks on any device."""

import edt
import torch
from torch import Tensor

SCRATCH = 48
"""Bytes per voxel of one mask: places, two scans with their indices, and squares."""


def signed_distances(
    inside: Tensor, known: Tensor | None, spacing_mm: tuple[float, ...], max_distance_mm: float | None
) -> Tensor:
    """Return each voxel's signed distance to the nearest voxel of the other kind, centre to centre.

    Args:
        inside: (…, *space) bool.
        known: (…, *space) bool, where voxels are inside or outside; null for everywhere. Others are neither.
        spacing_mm: voxel edge of each axis of space.
        max_distance_mm: where distances are cut off; null for nowhere.

    Returns:
        (…, *space) float32, mm: negative inside, positive outside; 0 throughout where there is nothing inside, or nothing
        outside.
    """
    outside = ~inside if known is None else ~inside & known
    inside = inside if known is None else inside & known
    to_inside = distances_to(inside, spacing_mm, max_distance_mm)
    to_outside = distances_to(outside, spacing_mm, max_distance_mm)
    axes = tuple(range(-len(spacing_mm), 0))
    has_both = inside.any(dim=axes, keepdim=True) & outside.any(dim=axes, keepdim=True)
    return torch.where(has_both, to_inside - to_outside, 0.0)


def distances_to(mask: Tensor, spacing_mm: tuple[float, ...], max_distance_mm: float | None) -> Tensor:
    """Return each voxel's distance to the nearest voxel of a mask.

    Args:
        mask: (…, *space) bool.
        spacing_mm: voxel edge of each axis of space.
        max_distance_mm: where distances are cut off; null for nowhere.

    Returns:
        (…, *space) float32, mm; where a mask is empty `max_distance_mm`, or 0 without one.

    References:
        Felzenszwalb and Huttenlocher, Distance transforms of sampled functions, 2012.
    """
    space = mask.shape[-len(spacing_mm) :]
    flat = mask.reshape(-1, *space)
    limit = -1.0 if max_distance_mm is None else float(max_distance_mm)
    found: Tensor = _distances(flat, list(map(float, spacing_mm)), limit)
    return found.reshape(mask.shape)


def scratch_bytes(mask: Tensor) -> int:
    """Return the most that is needed on a GPU beside masks (N, *space) and distances."""
    return SCRATCH * mask[0].numel()


@torch.library.custom_op("tumorseg::distances", mutates_args=())
def _distances(mask: Tensor, spacing_mm: list[float], limit: float) -> Tensor:
    found = torch.empty(mask.shape, dtype=torch.float32, device=mask.device)
    # Mask by mask, so that scratch space does not grow with classes.
    for one, chosen in zip(found, mask, strict=True):
        one.copy_(shifted_distances(chosen[None], spacing_mm, limit)[0] if mask.is_cuda else _edt(chosen, spacing_mm))
    found.masked_fill_(~mask.flatten(1).any(1).view(-1, *(1,) * len(spacing_mm)), max(limit, 0.0))
    return found.clamp_(max=limit) if limit > 0 else found


@_distances.register_fake
def _(mask: Tensor, spacing_mm: list[float], limit: float) -> Tensor:
    return mask.new_empty(mask.shape, dtype=torch.float32)


def _edt(mask: Tensor, spacing_mm: list[float]) -> Tensor:
    """Measure one mask with the library `edt`, on the CPU."""
    if not mask.any():
        return torch.zeros(mask.shape)
    outside = (~mask).contiguous().numpy()
    # A black border would make the array's edges a surface.
    threads = torch.get_num_threads()
    return torch.from_numpy(edt.edt(outside, anisotropy=tuple(spacing_mm), black_border=False, parallel=threads))


def shifted_distances(mask: Tensor, spacing_mm: list[float], limit: float) -> Tensor:
    """Measure all masks at once: a scan along the last axis, then the least over shifts along each of the others.

    Args:
        mask: (N, *space) bool, on any device.
        spacing_mm: voxel edge of each axis of space.
        limit: distance beyond which values need not be right, in mm; below 0 for none.

    Returns:
        (N, *space) float32, mm; huge where a mask is empty.
    """
    squared = (_along_last_axis(mask) * spacing_mm[-1]).square()
    for axis, spacing in zip(range(mask.ndim - 2, 0, -1), reversed(spacing_mm[:-1]), strict=True):
        # One step more than fits, should rounding have left the quotient just below a whole number.
        reach = mask.shape[axis] - 1 if limit < 0 else min(mask.shape[axis] - 1, int(limit / spacing) + 1)
        found = squared.clone()
        for shift in range(1, reach + 1):
            count = mask.shape[axis] - shift
            step = (shift * spacing) ** 2
            before, after = squared.narrow(axis, 0, count), squared.narrow(axis, shift, count)
            found.narrow(axis, shift, count).copy_(torch.minimum(found.narrow(axis, shift, count), before + step))
            found.narrow(axis, 0, count).copy_(torch.minimum(found.narrow(axis, 0, count), after + step))
        squared = found
    return squared.sqrt()


def _along_last_axis(mask: Tensor) -> Tensor:
    """Return the distance in voxels to the nearest voxel of the mask in the same row; huge where there is none."""
    length = mask.shape[-1]
    place = torch.arange(length, device=mask.device)
    # Longer than any row, and differences of it are still exact in float32.
    far = 2**20
    before = torch.where(mask, place, -far).cummax(-1).values
    after = torch.where(mask, place, far).flip(-1).cummin(-1).values.flip(-1)
    return torch.minimum(place - before, after - place).to(torch.float32)
