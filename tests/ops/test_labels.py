import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumorseg.errors import InputError
from tumorseg.ops import labels
from tumorseg.ops.labels import (
    class_locations,
    count_values,
    keep_labels,
    paint_regions,
    smallest_dtype,
    to_indices,
    to_values,
)
from tumorseg.schema.targets import IGNORE, Targets

SHAPE = (3, 5, 7)


def targets_of(*values, ignore=None, regions=()):
    return Targets(
        label_values=(0, *values),
        label_names=("background", *(f"label {value}" for value in values)),
        ignore_value=ignore,
        region_names=tuple(f"region {number}" for number in range(len(regions))),
        regions=tuple(classes for classes, _ in regions),
        region_values=tuple(value for _, value in regions),
    )


def filled(values, shape=SHAPE, dtype=np.int32, seed=0):
    """Return a label map that holds every one of the values."""
    array = np.random.default_rng(seed).choice(np.array(values, dtype), shape)
    array.ravel()[: len(values)] = values
    return array


TARGETS = {
    "plain": targets_of(1, 2, 3),
    "gaps up to 2035": targets_of(2, 17, 1000, 2035),
    "above 16 bits": targets_of(1, 70_000),
    "far apart": targets_of(5, 2**31 - 1),
    "negative": targets_of(3, 9, ignore=-1),
    "ignored in between": targets_of(1, 3, ignore=2),
    "ignored at the end": targets_of(1, 2, ignore=255),
    "200 classes": targets_of(*range(1, 201)),
}


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
def test_values_become_indices_in_their_order_and_come_back(targets):
    ignored = [] if targets.ignore_value is None else [targets.ignore_value]
    values = filled([*targets.label_values, *ignored], shape=(7, 9, 11))
    indices = to_indices(values, targets)
    assert indices.dtype == (np.int16 if targets.num_classes > 127 else np.int8)
    for index, value in enumerate(targets.label_values):
        assert np.array_equal(indices == index, values == value)
    assert np.array_equal(indices == IGNORE, np.isin(values, ignored))
    back = to_values(indices, targets)
    assert back.dtype == smallest_dtype(targets)
    assert np.array_equal(back, values)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_every_integer_type_is_read(dtype):
    targets = targets_of(1, 100)
    values = filled([0, 1, 100], dtype=dtype)
    assert np.array_equal(to_values(to_indices(values, targets), targets), values)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=5, unique=True), st.integers(0, 9))
@settings(deadline=None)
def test_counting_equals_unique(values, seed):
    segmentation = filled(values, dtype=np.int64, seed=seed)
    expected = np.unique(segmentation, return_counts=True)
    assert count_values(segmentation) == (expected[0].tolist(), expected[1].tolist())


def test_values_beyond_32_bits_are_counted():
    segmentation = np.full(SHAPE, 2**33 + 5, np.int64)
    segmentation[0, 0, 0] += 1
    assert count_values(segmentation) == ([2**33 + 5, 2**33 + 6], [104, 1])


@pytest.mark.parametrize("unknown", [-4, 4, 300, 70_000, 2**33])
def test_unknown_values_are_named_with_their_counts(unknown):
    segmentation = np.zeros(SHAPE, np.int64)
    segmentation[0, 0, :3] = unknown
    segmentation[1, 1, 1] = 2
    message = rf"label values {unknown} \(3 voxels\) are not in the dataset's labels \[0, 1, 2, 9\]"
    with pytest.raises(InputError, match=message):
        to_indices(segmentation, targets_of(1, 2, ignore=9))


def test_an_ignore_value_is_unknown_where_there_is_none():
    with pytest.raises(InputError, match=r"255 \(105 voxels\)"):
        to_indices(np.full(SHAPE, 255, np.uint8), targets_of(1))


def test_an_error_lists_five_values_at_most():
    with pytest.raises(InputError) as error:
        to_indices(np.arange(105).reshape(SHAPE), targets_of(1))
    assert str(error.value).count("voxels") == 5


@pytest.mark.parametrize(
    ("targets", "dtype"),
    [
        (targets_of(1, 255), np.uint8),
        (targets_of(1, ignore=256), np.uint16),
        (targets_of(1, 2035), np.uint16),
        (targets_of(70_000), np.uint32),
        (targets_of(1, ignore=-1), np.int16),
        (targets_of(-5, 100), np.int16),
    ],
)
def test_results_are_as_small_as_the_values_allow(targets, dtype):
    found = smallest_dtype(targets)
    assert found.itemsize <= np.dtype(dtype).itemsize
    for value in (*targets.label_values, targets.ignore_value or 0):
        assert found.type(value) == value


def test_later_regions_paint_over_earlier_ones():
    targets = targets_of(1, 2, 4, regions=(((1, 2, 3), 2), ((1, 3), 1), ((3,), 4)))
    masks = np.zeros((3, 4, 1, 1), bool)
    masks[0, 1:] = True
    masks[1, 2:] = True
    masks[2, 3] = True
    assert paint_regions(masks, targets).ravel().tolist() == [0, 2, 1, 4]


def test_a_region_is_painted_without_the_ones_around_it():
    targets = targets_of(1, 2035, regions=(((1, 2), 1), ((2,), 2035)))
    masks = np.array([[False, False], [True, False]])[:, None, None]
    painted = paint_regions(masks, targets)
    assert painted.dtype == np.uint16
    assert painted.ravel().tolist() == [2035, 0]


def located(indices, targets, seed=0):
    return class_locations(indices, targets, np.random.default_rng(seed))


def by_class(voxels, starts):
    return [voxels[low:high] for low, high in itertools.pairwise(starts)]


def test_every_location_is_of_its_class_and_none_comes_twice():
    indices = filled([IGNORE, 0, 1, 2, 3], shape=(9, 11, 13), dtype=np.int8)
    indices[indices == 2] = 1
    voxels, starts = located(indices, targets_of(1, 2, 3))
    assert voxels.dtype == np.int32
    assert len(starts) == 5
    assert starts[0] == starts[1] == 0
    for index, found in enumerate(by_class(voxels, starts)):
        assert len(np.unique(found, axis=0)) == len(found)
        if index:
            assert (indices[tuple(found.T)] == index).all()
            assert len(found) == (indices == index).sum()


def test_of_a_large_class_ten_thousand_or_one_percent_is_remembered(monkeypatch):
    indices = np.ones((30, 40, 50), np.int8)
    assert located(indices, targets_of(1))[1] == [0, 0, 10_000]
    monkeypatch.setattr(labels, "MIN_LOCATIONS", 100)
    assert located(indices, targets_of(1))[1] == [0, 0, 600]
    indices.ravel()[50:] = 0
    assert located(indices, targets_of(1))[1] == [0, 0, 50]


def test_locations_follow_from_the_generator():
    indices = np.ones((30, 40, 50), np.int8)
    first, again, other = (located(indices, targets_of(1), seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("num_labels", [2, 12])
def test_with_an_ignore_label_background_is_located_too(num_labels):
    indices = filled([IGNORE, 0, 1, 2], dtype=np.int8)
    voxels, starts = located(indices, targets_of(*range(1, num_labels + 1), ignore=99))
    assert len(starts) == num_labels + 2
    for index, found in enumerate(by_class(voxels, starts)):
        assert {tuple(voxel) for voxel in found} == {tuple(voxel) for voxel in np.argwhere(indices == index)}


def test_a_case_of_background_has_no_locations():
    voxels, starts = located(np.zeros(SHAPE, np.int8), targets_of(1, 2))
    assert voxels.shape == (0, 3)
    assert starts == [0, 0, 0, 0]
    assert located(np.zeros(SHAPE, np.int8), targets_of())[0].shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_kept_labels_stay_and_all_others_become_background(dtype):
    segmentation = filled([0, 2, 3, 9, 100], dtype=dtype)[::-1]
    kept = keep_labels(segmentation, {3, 100, 7})
    assert kept.dtype == dtype
    assert np.array_equal(kept, np.where(np.isin(segmentation, [3, 100]), segmentation, 0))


def test_labels_that_are_negative_or_far_apart_are_kept_as_well():
    segmentation = filled([0, -3, 2035, 2**31 - 1])
    for value in (-3, 2035, 2**31 - 1):
        assert set(np.unique(keep_labels(segmentation, [value]))) == {0, value}
    assert not keep_labels(segmentation, []).any()
