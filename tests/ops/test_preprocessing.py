import numpy as np
import pytest
from scipy import ndimage

from tumorseg.ops.cropping import box_shape
from tumorseg.ops.preprocessing import (
    full_spacing,
    network_grid,
    prepare_image,
    prepare_segmentation,
    resampling_orders,
)
from tumorseg.ops.resampling import AxisOrders
from tumorseg.schema.cases import Preprocessing
from tumorseg.schema.preprocessing import NoNormalization, ResamplingSpec, ZScoreNormalization

SHAPE, SPACING = (14, 23, 31), (2.5, 0.8, 1.1)


def spec_of(spacing, channels=2, normalization=None, **resampling):
    return Preprocessing(
        orientation="RAS",
        transpose=(0, 1, 2),
        spacing_mm=spacing,
        normalization=(normalization or NoNormalization(),) * channels,
        resampling=ResamplingSpec(**resampling),
    )


def case_of(margin=2):
    """Return an image with a rim of 0 and a segmentation that is 1 where channel 0 is bright."""
    inner = tuple(size - 2 * margin for size in SHAPE)
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=inner), 2)
    image = np.zeros((2, *SHAPE), np.float32)
    inside = tuple(slice(margin, -margin) for _ in SHAPE)
    image[(0, *inside)] = 1 + (smooth > 0)
    image[(1, *inside)] = 5
    return image, (image[0] == 2).astype(np.int8)


@pytest.mark.parametrize("target", [(2.5, 0.8, 1.1), (1, 1, 1), (3, 2, 1.5), (4, 0.5, 0.5), (1.3, 0.7, 1.7)])
def test_image_and_segmentation_keep_their_extent_and_stay_aligned(target):
    image, segmentation = case_of()
    spec = spec_of(target)
    prepared = prepare_image(image, SPACING, spec)
    found = prepare_segmentation(segmentation, prepared.grid, spec, image=image)
    assert prepared.box == ((2, 12), (2, 21), (2, 29))
    assert prepared.image.dtype == np.float32
    assert prepared.image.shape[0] == 2
    assert prepared.image.shape[1:] == found.shape
    for size, new, old_mm, new_mm in zip(box_shape(prepared.box), found.shape, SPACING, target, strict=True):
        assert abs(size * old_mm - new * new_mm) <= new_mm / 2 + 1e-9
    assert ((prepared.image[0] >= 1.5) == (found == 1)).mean() > 0.97
    assert np.allclose(prepared.image[1], 5, atol=1e-4)


def test_what_is_on_its_grid_already_is_only_cropped():
    image, segmentation = case_of()
    spec = spec_of(SPACING)
    prepared = prepare_image(image, SPACING, spec)
    assert np.array_equal(prepared.image, image[:, 2:12, 2:21, 2:29])
    assert np.array_equal(
        prepare_segmentation(segmentation, prepared.grid, spec, image=image), segmentation[2:12, 2:21, 2:29]
    )


def test_intensities_are_normalised_before_they_are_resampled_and_after_the_crop():
    image, _ = case_of()
    prepared = prepare_image(image, SPACING, spec_of(SPACING, normalization=ZScoreNormalization(masked=False)))
    assert prepared.image[0].mean() == pytest.approx(0, abs=1e-5)
    assert prepared.image[0].std() == pytest.approx(1, abs=1e-5)
    assert (prepared.image[1] == 0).all()


def test_an_image_of_zeros_is_kept_whole():
    image = np.zeros((1, 5, 6, 7), np.float32)
    prepared = prepare_image(image, (1, 1, 1), spec_of((1, 2, 1), 1))
    assert prepared.box == ((0, 5), (0, 6), (0, 7))
    assert prepared.image.shape == (1, 5, 3, 7)


def test_a_target_of_two_axes_keeps_the_first_axis():
    image, segmentation = case_of()
    spec = spec_of((1.6, 1.6))
    prepared = prepare_image(image, SPACING, spec)
    assert full_spacing((1.6, 1.6), SPACING) == (2.5, 1.6, 1.6)
    assert prepared.target_spacing_mm == (2.5, 1.6, 1.6)
    assert prepared.spacing_mm == SPACING
    assert prepared.image.shape == (2, 10, 10, 19)
    assert prepare_segmentation(segmentation, prepared.grid, spec, image=image).shape == (10, 10, 19)


def test_a_label_at_the_bodys_outline_does_not_lose_to_the_background_on_both_sides_together():
    body = np.array([[[1, 1], [0, 1]], [[1, 0], [1, 1]]], np.float32)[None]
    segmentation = np.array([[[3, 3], [0, 0]], [[0, 0], [0, 3]]], np.int8)  # 3 of 8, as the background in the body
    spec = spec_of((2, 2, 2), 1)
    for each, expected in ((spec, 3), (spec.model_copy(update={"cropping": False}), 0)):
        grid = network_grid(body, (1, 1, 1), each)
        assert prepare_segmentation(segmentation, grid, each, image=body).item() == expected


def test_planes_of_thick_slices_do_not_mix():
    image = np.ones((1, 3, 9, 11), np.float32)
    image[0] *= np.arange(1, 4)[:, None, None]
    prepared = prepare_image(image, (10, 1, 1), spec_of((10, 2, 2), 1))
    assert np.allclose(prepared.image[0], np.arange(1, 4)[:, None, None])


@pytest.mark.parametrize(
    ("spacing", "target", "expected"),
    [
        ((1, 1, 1), (2, 2, 2), AxisOrders((3, 3, 3), None)),
        ((5, 1, 1), (1, 1, 1), AxisOrders((0, 3, 3), 0)),
        ((1, 1, 1), (1, 1, 5), AxisOrders((3, 3, 0), 2)),
    ],
)
def test_the_coarse_axis_has_its_own_order(spacing, target, expected):
    assert resampling_orders(3, spacing, target, spec_of(target)) == expected


def test_the_plan_decides_what_is_coarse_and_how_it_is_resampled():
    spec = spec_of((1, 1, 1), separate_axis_order=1, separate_axis_ratio=6)
    assert resampling_orders(3, (5, 1, 1), (1, 1, 1), spec) == AxisOrders((3, 3, 3), None)
    assert resampling_orders(3, (7, 1, 1), (1, 1, 1), spec) == AxisOrders((1, 3, 3), 0)
