"""The way of a case to the network's grid, and of its logits back: pure arrays."""

from collections.abc import Sequence
from typing import NamedTuple

from tumorseg.ops.cropping import box_shape, box_slices, nonzero_box
from tumorseg.ops.normalization import normalize
from tumorseg.ops.resampling import (
    AxisOrders,
    axis_orders,
    resample_image,
    resample_segmentation,
    resampled_shape,
    separate_axis,
)
from tumorseg.schema.cases import Preprocessing
from tumorseg.types import Box, Image, Segmentation, Spacing


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


def full_spacing(target_mm: Sequence[float], spacing_mm: Spacing) -> tuple[float, ...]:
    """Return a target spacing for three axes; of two, the first axis keeps its own."""
    return (*tuple(spacing_mm)[: 3 - len(target_mm)], *target_mm)


def prepare_image(image: Image, spacing_mm: Spacing, spec: Preprocessing) -> PreparedImage:
    """Crop to what is not zero, normalise, resample.

    Args:
        image: (C, Z, Y, X), already in the plan's axis order.
        spacing_mm: its voxel edges.
        spec: what the plan says.
    """
    box = nonzero_box(image)
    target = full_spacing(spec.spacing_mm, spacing_mm)
    normalized = normalize(image[box_slices(box)], spec.normalization)
    orders = resampling_orders(spec.resampling.image_order, spacing_mm, target, spec)
    shape = resampled_shape(box_shape(box), spacing_mm, target)
    return PreparedImage(resample_image(normalized, shape, orders), box, tuple(spacing_mm), target)


def prepare_segmentation(segmentation: Segmentation, prepared: PreparedImage, spec: Preprocessing) -> Segmentation:
    """Bring class indices to the grid of a prepared image."""
    orders = resampling_orders(spec.resampling.label_order, prepared.spacing_mm, prepared.target_spacing_mm, spec)
    return resample_segmentation(segmentation[box_slices(prepared.box)], prepared.image.shape[1:], orders)


def resampling_orders(order: int, spacing_mm: Spacing, target_mm: Spacing, spec: Preprocessing) -> AxisOrders:
    """Return the spline order of each axis for a change of spacing."""
    separate = separate_axis(spacing_mm, target_mm, spec.resampling.separate_axis_ratio)
    return axis_orders(order, separate, spec.resampling.separate_axis_order)
