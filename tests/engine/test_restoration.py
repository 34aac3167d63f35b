import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.engine.phantoms import CLASSES, REGIONS
from tumorseg.engine.restoration import decide, restored_slices
from tumorseg.engine.sliding_window import Slab
from tumorseg.errors import InputError
from tumorseg.ops.labels import paint_regions
from tumorseg.ops.resampling import apply_matrices, axis_matrix, axis_orders

LINEAR = axis_orders(1, None, 0)
OLD = (13, 17, 11)
NEW = [(13, 17, 11), (29, 31, 23), (7, 9, 5), (29, 9, 11), (1, 17, 11), (5, 40, 3), (13, 16, 11)]


def logits_of(num_outputs, shape, seed=0):
    rng = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(rng.normal(size=shape), 1.5) for _ in range(num_outputs)]
    return torch.from_numpy(np.stack(smooth)).float()


def cut(logits, depths):
    """Cut logits into slabs of these depths, repeated."""
    start, number = 0, 0
    while start < logits.shape[1]:
        depth = depths[number % len(depths)]
        yield Slab(start, logits[:, start : start + depth])
        start, number = start + depth, number + 1


def at_once(logits, new, orders):
    matrices = [axis_matrix(*pair, order) for *pair, order in zip(logits.shape[1:], new, orders.orders, strict=True)]
    return apply_matrices(logits.numpy(), matrices)


def decided(slabs, shapes, orders, targets):
    return np.stack([decide(logits, targets) for logits in restored_slices(slabs, shapes, orders)])


@pytest.mark.parametrize("new", NEW, ids=str)
@pytest.mark.parametrize("orders", [LINEAR, axis_orders(1, 0, 0), axis_orders(1, 2, 0), axis_orders(0, None, 0)])
def test_labels_equal_those_of_all_logits_resampled_at_once(new, orders):
    logits = logits_of(3, OLD)
    found = decided(cut(logits, (3, 1, 4)), (OLD, new), orders, CLASSES)
    expected = np.array(CLASSES.label_values)[at_once(logits, new, orders).argmax(axis=0)]
    assert found.shape == new
    assert found.dtype == np.uint8
    assert (found == expected).mean() >= 0.999


@pytest.mark.parametrize("new", NEW, ids=str)
def test_regions_equal_those_of_all_logits_resampled_at_once(new):
    logits = logits_of(2, OLD)
    found = decided(cut(logits, (5,)), (OLD, new), LINEAR, REGIONS)
    expected = paint_regions(at_once(logits, new, LINEAR) > 0, REGIONS)
    assert (found == expected).mean() >= 0.999
    assert set(np.unique(found)) == {0, 1, 4}


@given(
    st.tuples(*[st.integers(1, 12)] * 3),
    st.tuples(*[st.integers(1, 20)] * 3),
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_how_slabs_are_cut_does_not_matter(old, new, depths):
    logits = logits_of(3, old)
    whole = decided(cut(logits, (old[0],)), (old, new), LINEAR, CLASSES)
    assert whole.shape == new
    assert (decided(cut(logits, depths), (old, new), LINEAR, CLASSES) == whole).mean() >= 0.999


def test_on_its_own_grid_the_likeliest_class_is_taken():
    logits = logits_of(3, OLD)
    found = decided(cut(logits, (4,)), (OLD, OLD), LINEAR, CLASSES)
    assert np.array_equal(found, np.array([0, 1, 4])[logits.argmax(dim=0)])


def test_later_regions_are_painted_over_earlier_ones():
    logits = torch.full((2, 1, 1, 3), -1.0)
    logits[0, ..., 1:] = 1
    logits[1, ..., 2] = 1
    found = decided([Slab(0, logits)], ((1, 1, 3), (1, 1, 3)), LINEAR, REGIONS)
    assert found.ravel().tolist() == [0, 1, 4]


def test_slices_come_as_soon_as_their_logits_are_there():
    logits = logits_of(3, (40, 5, 6))
    num_pulled, restored = 0, []

    def watched():
        nonlocal num_pulled
        for slab in cut(logits, (4,)):
            # before the next slab, all but the last few slices of the earlier ones are made
            assert len(restored) >= 8 * num_pulled - 2
            num_pulled += 1
            yield slab

    for one in restored_slices(watched(), ((40, 5, 6), (80, 10, 12)), LINEAR):
        restored.append(one)
    assert num_pulled == 10
    assert [one.shape for one in restored] == [(3, 10, 12)] * 80


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_never_decided(value):
    logits = logits_of(3, OLD)
    logits[1, -1, 0, 0] = value
    with pytest.raises(InputError, match="not finite"):
        decided(cut(logits, (2,)), (OLD, OLD), LINEAR, CLASSES)
