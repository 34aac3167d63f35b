import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.engine.phantoms import CLASSES, REGIONS
from tumorseg.engine import restoration
from tumorseg.engine.restoration import segment_slabs
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


@pytest.mark.parametrize("new", NEW, ids=str)
@pytest.mark.parametrize("orders", [LINEAR, axis_orders(1, 0, 0), axis_orders(1, 2, 0), axis_orders(0, None, 0)])
def test_labels_equal_those_of_all_logits_resampled_at_once(new, orders):
    logits = logits_of(3, OLD)
    found = segment_slabs(cut(logits, (3, 1, 4)), (OLD, new), orders, CLASSES)
    expected = np.array(CLASSES.label_values)[at_once(logits, new, orders).argmax(axis=0)]
    assert found.shape == new
    assert found.dtype == np.uint8
    assert (found == expected).mean() >= 0.999


@pytest.mark.parametrize("new", NEW, ids=str)
def test_regions_equal_those_of_all_logits_resampled_at_once(new):
    logits = logits_of(2, OLD)
    found = segment_slabs(cut(logits, (5,)), (OLD, new), LINEAR, REGIONS)
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
    whole = segment_slabs(cut(logits, (old[0],)), (old, new), LINEAR, CLASSES)
    assert whole.shape == new
    assert (segment_slabs(cut(logits, depths), (old, new), LINEAR, CLASSES) == whole).mean() >= 0.999


def test_on_its_own_grid_the_likeliest_class_is_taken():
    logits = logits_of(3, OLD)
    found = segment_slabs(cut(logits, (4,)), (OLD, OLD), LINEAR, CLASSES)
    assert np.array_equal(found, np.array([0, 1, 4])[logits.argmax(dim=0)])


def test_later_regions_are_painted_over_earlier_ones():
    logits = torch.full((2, 1, 1, 3), -1.0)
    logits[0, ..., 1:] = 1
    logits[1, ..., 2] = 1
    found = segment_slabs([Slab(0, logits)], ((1, 1, 3), (1, 1, 3)), LINEAR, REGIONS)
    assert found.ravel().tolist() == [0, 1, 4]


def test_slices_are_decided_as_soon_as_their_logits_are_there(monkeypatch):
    logits = logits_of(3, (40, 5, 6))
    events = []
    decide = restoration._decide
    monkeypatch.setattr(restoration, "_decide", lambda *given: events.append("decided") or decide(*given))

    def watched():
        for slab in cut(logits, (4,)):
            events.append("pulled")
            yield slab

    found = segment_slabs(watched(), ((40, 5, 6), (80, 10, 12)), LINEAR, CLASSES)
    assert found.shape == (80, 10, 12)
    for number in range(1, 10):  # before the next slab, all but the last few slices of the earlier ones are decided
        upto = [position for position, event in enumerate(events) if event == "pulled"][number]
        assert events[:upto].count("decided") >= 8 * number - 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_never_decided(value):
    logits = logits_of(3, OLD)
    logits[1, -1, 0, 0] = value
    with pytest.raises(InputError, match="not finite"):
        segment_slabs(cut(logits, (2,)), (OLD, OLD), LINEAR, CLASSES)
