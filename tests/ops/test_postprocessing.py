import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tumorseg.errors import InputError
from tumorseg.ops.postprocessing import check_steps, postprocess
from tumorseg.schema.ensembles import FillHoles, KeepLargest, PostprocessingStep, RemoveSmall, ReplaceSmall
from tumorseg.types import Segmentation

SPACING = (3.0, 0.5, 0.7)
VOXEL_MM3 = 3.0 * 0.5 * 0.7
VALUES = {"edema": 2, "core": 1, "enhancing": 4}
CORNERS = np.ones((3, 3, 3), dtype=bool)


def noise(seed: int, shape: tuple[int, int, int] = (5, 13, 9), share: float = 0.4) -> Segmentation:
    """Return labels 0, 1, 2 and 4 in small parts."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice([1, 2, 4], shape)
    return np.where(rng.random(shape) < share, drawn, 0).astype(np.uint8)


def done(segmentation: Segmentation, *steps: PostprocessingStep, spacing_mm=SPACING) -> Segmentation:
    return postprocess(segmentation, steps, spacing_mm=spacing_mm, values=VALUES)


def sizes_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scipy's parts, and the voxels of each from number 1 on."""
    parts, _ = ndimage.label(mask, CORNERS)
    return parts, np.bincount(parts.ravel())[1:]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.02, 0.1, 0.3]))
def test_the_largest_part_of_a_union_stays_as_scipy_finds_it(seed, share):
    segmentation = noise(seed, share=share)
    mask = (segmentation == 1) | (segmentation == 4)
    parts, sizes = sizes_of(mask)
    expected = segmentation.copy()
    if sizes.size:
        expected[mask & (parts != sizes.argmax() + 1)] = 0
    np.testing.assert_array_equal(done(segmentation, KeepLargest(labels=("core", "enhancing"))), expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), voxels=st.integers(0, 6))
def test_parts_of_less_than_a_volume_go_and_those_of_exactly_it_stay(seed, voxels):
    segmentation = noise(seed, share=0.15)
    parts, sizes = sizes_of(segmentation == 2)
    expected = segmentation.copy()
    expected[np.isin(parts, np.flatnonzero(sizes < voxels) + 1)] = 0
    # What is a whole number of voxels on paper may be a rounding more in floating point.
    step = RemoveSmall(labels=("edema",), least_mm3=voxels * 3.0 * (0.5 * 0.7))
    np.testing.assert_array_equal(done(segmentation, step), expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shape=st.sampled_from([(1, 17, 13), (6, 9, 7), (4, 1, 9)]))
def test_holes_of_one_label_are_those_of_scipy(seed, shape):
    mask = np.random.default_rng(seed).random(shape) < 0.75
    segmentation = np.where(mask, 4, 0).astype(np.int16)
    # In an image of one slice scipy's border would be everywhere.
    flat = mask.squeeze()
    expected = ndimage.binary_fill_holes(flat).reshape(shape)
    np.testing.assert_array_equal(done(segmentation, FillHoles(label="enhancing")) == 4, expected)


def ring(values: np.ndarray) -> Segmentation:
    """Return a shell of 3 x 3 x 3 voxels around one of background, its faces with some values, the rest 1."""
    segmentation = np.zeros((5, 7, 9), dtype=np.uint8)
    segmentation[1:4, 2:5, 3:6] = 1
    segmentation[2, 3, 4] = 0
    segmentation[(1, 3, 2, 2, 2, 2), (3, 3, 2, 4, 3, 3), (4, 4, 4, 4, 3, 5)] = values
    return segmentation


def test_a_hole_that_several_labels_enclose_stays():
    assert done(ring([1] * 6), FillHoles(label="core"))[2, 3, 4] == 1
    for face in range(6):
        values = [1] * 6
        values[face] = 2
        assert done(ring(values), FillHoles(label="core"))[2, 3, 4] == 0
        values[face] = 0
        assert done(ring(values), FillHoles(label="core"))[2, 3, 4] == 0


def test_a_label_that_fills_a_cavity_with_another_inside_leaves_it():
    segmentation = np.zeros((7, 7, 7), dtype=np.uint8)
    segmentation[1:6, 1:6, 1:6] = 1
    segmentation[2:5, 2:5, 2:5] = 0
    segmentation[3, 3, 3] = 2
    np.testing.assert_array_equal(done(segmentation, FillHoles(label="core")), segmentation)


def test_background_at_the_border_of_the_image_is_no_hole():
    segmentation = np.ones((3, 5, 7), dtype=np.uint8)
    segmentation[1, 2, 3] = segmentation[0, 1, 1] = 0
    filled = done(segmentation, FillHoles(label="core"))
    assert (filled[1, 2, 3], filled[0, 1, 1]) == (1, 0)


def test_of_equally_large_parts_the_first_in_the_array_stays():
    segmentation = np.zeros((3, 5, 9), dtype=np.uint8)
    segmentation[2, 0, :2] = segmentation[1, 4, 7:] = 1
    kept = done(segmentation, KeepLargest(labels=("core",)))
    assert np.argwhere(kept).tolist() == [[1, 4, 7], [1, 4, 8]]


def test_parts_that_touch_at_a_corner_are_one():
    segmentation = np.zeros((3, 5, 9), dtype=np.uint8)
    segmentation[0, 0, 0] = segmentation[1, 1, 1] = 2
    np.testing.assert_array_equal(done(segmentation, KeepLargest(labels=("edema",))), segmentation)


def test_a_tiny_label_becomes_another_and_one_of_the_volume_stays():
    segmentation = np.zeros((4, 5, 6), dtype=np.int32)
    segmentation[0, 0, :2] = segmentation[3, 4, 5] = 4
    less = ReplaceSmall(label="enhancing", by="core", least_mm3=3 * VOXEL_MM3)
    more = ReplaceSmall(label="enhancing", by="core", least_mm3=3.01 * VOXEL_MM3)
    np.testing.assert_array_equal(done(segmentation, less), segmentation)
    assert np.unique(done(segmentation, more)).tolist() == [0, 1]
    away = done(segmentation, ReplaceSmall(label="enhancing", by="background", least_mm3=50))
    assert not away.any()


def test_steps_are_done_in_their_order():
    segmentation = np.zeros((1, 3, 9), dtype=np.uint8)
    segmentation[0, 1] = [4, 1, 1, 0, 1, 1, 1, 0, 4]
    replace, largest = ReplaceSmall(label="enhancing", by="core", least_mm3=9), KeepLargest(labels=("core",))
    first = done(segmentation, replace, largest, spacing_mm=(1, 1, 1))
    second = done(segmentation, largest, replace, spacing_mm=(1, 1, 1))
    assert first[0, 1].tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert second[0, 1].tolist() == [1, 0, 0, 0, 1, 1, 1, 0, 1]


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_input_is_not_changed_whatever_its_memory_looks_like(order):
    segmentation = np.array(noise(3), order=order)
    before = segmentation.copy()
    steps = [KeepLargest(labels=("edema",)), FillHoles(label="core"), RemoveSmall(labels=("core",), least_mm3=5)]
    found = done(segmentation, *steps)
    np.testing.assert_array_equal(segmentation, before)
    np.testing.assert_array_equal(found, done(np.ascontiguousarray(before), *steps))
    assert found.dtype == segmentation.dtype


def test_nothing_comes_of_nothing():
    empty = np.zeros((2, 3, 5), dtype=np.uint8)
    steps = [KeepLargest(labels=("edema",)), FillHoles(label="core"), RemoveSmall(labels=("core",), least_mm3=5)]
    assert not done(empty, *steps, ReplaceSmall(label="core", by="edema", least_mm3=5)).any()
    assert done(empty) is not empty


def test_a_step_that_names_an_unknown_label_is_refused():
    with pytest.raises(InputError, match=r"replace_small names necrosis; expected labels .*\(edema, core, enhancing\)"):
        check_steps([ReplaceSmall(label="core", by="necrosis", least_mm3=5)], VALUES)
    check_steps([ReplaceSmall(label="core", by="background", least_mm3=5)], VALUES)
