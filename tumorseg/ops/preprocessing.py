"""The way of a case to the network's grid, and of its logits back: pure arrays."""

from collections.abc import Sequence
from typing import NamedTuple

from tumorseg.ops.cropping import box_shape, box_slices, mask_box, nonzero_box, nonzero_mask, whole_box
from tumorseg.ops.geometry import AxisOrder
from tumorseg.ops.normalization import normalize
from tumorseg.ops.resampling import (
    AxisOrders,
    axis_orders,
    resample_image,
    resample_segmentation,
    resampled_shape,
    separate_axis,
)
from tumorseg.ops.shares import OUTSIDE
from tumorseg.schema.cases import Preprocessing
from tumorseg.schema.plan import Plan
from tumorseg.types import Box, Image, Mask, Segmentation, Shape, Spacing


def axis_order(spec: Plan | Preprocessing) -> AxisOrder:
    """Return the axis order of a plan."""
    return AxisOrder(spec.transpose, spec.orientation == "as_stored")


class NetworkGrid(NamedTuple):
    """Voxels of the network's grid, and their place in an oriented image."""

    shape: Shape
    """Voxels (Z, Y, X) after resampling."""
    box: Box
    """The part of the oriented image that was kept."""
    spacing_mm: tuple[float, ...]
    """Voxel edges before resampling."""
    target_spacing_mm: tuple[float, ...]
    """Voxel edges after resampling."""


class PreparedImage(NamedTuple):
    """An image on the network's grid, and what leads back."""

    image: Image
    """(C, Z, Y, X) in the plan's axis order, cropped, normalised, resampled."""
    box: Box
    """The part of the oriented image that was kept."""
    spacing_mm: tuple[float, ...]
    """Voxel edges before resampling."""
    target_spacing_mm: tuple[float, ...]
    """Voxel edges after resampling."""

    @property
    def grid(self) -> NetworkGrid:
        """Return where the image lies."""
        return NetworkGrid(self.image.shape[1:], self.box, self.spacing_mm, self.target_spacing_mm)


def full_spacing(target_mm: Sequence[float], spacing_mm: Spacing) -> tuple[float, ...]:
    """Return a target spacing for three axes; of two, the first axis keeps its own."""
    return (*tuple(spacing_mm)[: 3 - len(target_mm)], *target_mm)


def network_grid(
    image: Image, spacing_mm: Spacing, spec: Preprocessing, *, covered: Sequence[Mask | None] = ()
) -> NetworkGrid:
    """Return the grid to which an image is brought; arguments as for `prepare_image`."""
    box = nonzero_box(image, covered) if spec.cropping else whole_box(image.shape[1:])
    target = full_spacing(spec.spacing_mm, spacing_mm)
    return NetworkGrid(resampled_shape(box_shape(box), spacing_mm, target), box, tuple(spacing_mm), target)


def prepare_image(
    image: Image, spacing_mm: Spacing, spec: Preprocessing, *, covered: Sequence[Mask | None] = ()
) -> PreparedImage:
    """Crop to what is not zero (unless the plan crops nothing), normalise, resample.

    Args:
        image: (C, Z, Y, X), already in the plan's axis order.
        spacing_mm: its voxel edges.
        spec: what the plan says.
        covered: (Z, Y, X) per channel, the voxels that it covers, None for all. Empty: all of all channels.
    """
    grid = network_grid(image, spacing_mm, spec, covered=covered)
    inside = box_slices(grid.box)
    known = tuple(None if mask is None else mask[inside] for mask in covered)
    normalized = normalize(image[inside], spec.normalization, known)
    orders = resampling_orders(spec.resampling.image_order, spacing_mm, grid.target_spacing_mm, spec)
    resampled = resample_image(normalized, grid.shape, orders)
    return PreparedImage(resampled, grid.box, grid.spacing_mm, grid.target_spacing_mm)


def prepare_segmentation(
    segmentation: Segmentation,
    grid: NetworkGrid,
    spec: Preprocessing,
    *,
    image: Image,
    covered: Sequence[Mask | None] = (),
) -> Segmentation:
    """Bring class indices to the network's grid.

    Args:
        segmentation: (Z, Y, X), as the image is.
        grid: from `network_grid` or `prepare_image`.
        spec: what the plan says.
        image: (C, Z, Y, X), in the plan's axis order, as it was read.
        covered: as for `prepare_image`.
    """
    inside = box_slices(grid.box)
    held: Segmentation = segmentation[inside]
    # Nothing is resampled, so that what is outside the body makes no difference.
    if held.shape == tuple(grid.shape):
        return held
    if spec.cropping:
        held = _mark_outside(held, image[inside], tuple(None if mask is None else mask[inside] for mask in covered))
    orders = resampling_orders(spec.resampling.label_order, grid.spacing_mm, grid.target_spacing_mm, spec)
    return resample_segmentation(held, grid.shape, orders)


def _mark_outside(indices: Segmentation, image: Image, covered: Sequence[Mask | None]) -> Segmentation:
    """Tell background outside the body from background inside it, as nnU-Net does, near whatever has a label."""
    box = mask_box(indices != 0)
    if box is None:
        return indices
    # No voxel of the result has a share both in a label and in what is farther away than the next voxel.
    near = tuple(slice(max(lower - 1, 0), upper + 1) for lower, upper in box)
    marked = indices.copy()
    part = marked[near]
    part[(part == 0) & ~nonzero_mask(image, covered)[near]] = OUTSIDE
    return marked


def resampling_orders(order: int, spacing_mm: Spacing, target_mm: Spacing, spec: Preprocessing) -> AxisOrders:
    """Return the spline order of each axis for a change of spacing."""
    separate = separate_axis(spacing_mm, target_mm, spec.resampling.separate_axis_ratio)
    return axis_orders(order, separate, spec.resampling.separate_axis_order)
