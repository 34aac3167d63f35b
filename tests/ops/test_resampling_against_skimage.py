"""The whole way of nnU-Net's default resampling, with scikit-image live, on drawn shapes and spacings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import resize

from tumorseg.ops.resampling import axis_orders, resample_image, resample_segmentation, resampled_shape, separate_axis

MOST_ERROR = 1e-3
"""Of the image's standard deviation."""
MOST_DIFFERING = 2
"""Voxels of a label map: where a compiler contracts scipy's sums, their last bit is another."""

sizes = st.integers(3, 40)
shapes = st.tuples(sizes, sizes, sizes)
factors = st.floats(0.4, 2.5)
seeds = st.integers(0, 2**32 - 1)


def smooth_image(shape, seed):
    noise = np.random.default_rng(seed).normal(size=shape)
    return (ndimage.gaussian_filter(noise, 0.7) * 300 + 100).astype(np.float32)


def smooth_labels(shape, seed):
    rng = np.random.default_rng(seed)
    return np.argmax([ndimage.gaussian_filter(rng.normal(size=shape), 2.5) for _ in range(4)], axis=0).astype(np.int16)


def resize_like_nnunet(array, shape, order):
    options = {"mode": "edge", "anti_aliasing": False}
    if order == 3:
        return resize(array.astype(float), shape, 3, **options)
    labels = np.unique(array)
    shares = np.stack([resize((array == label).astype(float), shape, 1, clip=True, **options) for label in labels])
    nearest = resize(array.astype(float), shape, 0, **options)
    has_most = shares == shares.max(axis=0)
    is_nearest_among_them = (has_most & (labels[:, None, None, None] == nearest)).any(axis=0)
    return np.where(is_nearest_among_them, nearest, labels[np.argmax(shares, axis=0)]).astype(array.dtype)


def resample_like_nnunet(array, shape, order, separate):
    """Resize at once, or slice by slice and then to the nearest slice along the separate axis."""
    if separate is None:
        return resize_like_nnunet(array, shape, order)
    plane = [size for axis, size in enumerate(shape) if axis != separate]
    slices = [resize_like_nnunet(part[None], (1, *plane), order)[0] for part in np.moveaxis(array, separate, 0)]
    stack = np.stack(slices, axis=separate)
    if shape[separate] == array.shape[separate]:
        return stack
    grids = [np.arange(size, dtype=float) for size in shape]
    scale = array.shape[separate] / shape[separate]
    grids[separate] = scale * (grids[separate] + 0.5) - 0.5
    return ndimage.map_coordinates(stack, np.meshgrid(*grids, indexing="ij"), order=0, mode="nearest")


def check(shape, spacing, target, seed):
    new_shape, separate = resampled_shape(shape, spacing, target), separate_axis(spacing, target)
    image, labels = smooth_image(shape, seed), smooth_labels(shape, seed)
    found = resample_image(image[None], new_shape, axis_orders(3, separate, 0))[0]
    expected = resample_like_nnunet(image, new_shape, 3, separate)
    assert np.abs(found - expected).max() <= MOST_ERROR * image.std()
    found_labels = resample_segmentation(labels, new_shape, axis_orders(1, separate, 0))
    assert (found_labels != resample_like_nnunet(labels, new_shape, 1, separate)).sum() <= MOST_DIFFERING


@given(shapes, st.tuples(factors, factors, factors), seeds)
@settings(max_examples=25, deadline=None)
def test_near_isotropic_images_and_labels_equal_scikit_image(shape, factors, seed):
    check(shape, (1.0, 1.0, 1.0), factors, seed)


@given(shapes, st.integers(0, 2), st.floats(3.2, 8.0), st.tuples(factors, factors, factors), seeds)
@settings(max_examples=25, deadline=None)
def test_separate_axes_equal_slice_by_slice_scikit_image(shape, axis, coarse, factors, seed):
    spacing = tuple(coarse if other == axis else 1.0 for other in range(3))
    target = tuple(edge * factor for edge, factor in zip(spacing, factors, strict=True))
    check(shape, spacing, target, seed)


@pytest.mark.parametrize("factor", [0.5, 2.0, 1 / 3, 3.0, 1.5, 2 / 3])
@pytest.mark.parametrize("shape", [(12, 15, 18), (13, 17, 11)])
def test_factors_that_put_borders_right_between_two_voxels_agree(shape, factor):
    for factors in ((factor, factor, factor), (2.0, factor, 1.5), (factor, 1.0, 2.0)):
        check(shape, (1.0, 1.0, 1.0), factors, seed=1)
