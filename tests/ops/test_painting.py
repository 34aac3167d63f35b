"""Which of two structures lies on top: stated, beyond doubt, or asked for."""

import re
import shlex
import tracemalloc
from itertools import permutations

import numpy as np
import pytest

from tumorseg.cli.names import split_names
from tumorseg.ops.painting import OverlapError, paint_structures, wholes

SHAPE = (5, 11, 7)


def row(start, stop):
    """Return the voxels from start to stop, counted through the volume."""
    mask = np.zeros(SHAPE, bool)
    mask.flat[start:stop] = True
    return mask


def box(*bounds, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*bound) for bound in bounds)] = True
    return mask


def paint(masks, order=(), values=None):
    values = values or {name: number for number, name in enumerate(sorted(masks), start=1)}
    return paint_structures(masks.items(), values, shape=next(iter(masks.values())).shape, order=order)


CHAIN = {
    "PTV": box((0, 5), (1, 10), (0, 7)),
    "CTV": box((1, 4), (2, 9), (1, 6)),
    "GTV": box((2, 3), (4, 7), (2, 5)),
}


def test_of_a_chain_the_innermost_lies_on_top_whatever_names_values_and_file_order():
    values = {"GTV": 1, "CTV": 2, "PTV": 3}
    expected = np.zeros(SHAPE, np.int16)
    for name in ("PTV", "CTV", "GTV"):
        expected[CHAIN[name]] = values[name]
    for names in permutations(CHAIN):
        painted = paint({name: CHAIN[name] for name in names}, values=values)
        assert np.array_equal(painted.segmentation, expected)
    assert painted.segmentation.dtype == np.int16
    assert not painted.hidden
    assert [tuple(overlap) for overlap in painted.overlaps] == [
        ("CTV", "GTV", 9, 1.0, "nested"),
        ("PTV", "CTV", 105, 1.0, "nested"),
        ("PTV", "GTV", 9, 1.0, "nested"),
    ]
    assert wholes(painted.overlaps) == {"CTV": ("GTV",), "PTV": ("CTV", "GTV")}


@pytest.mark.parametrize(
    ("common", "why"), [(0, None), (1, "touching"), (2, "open"), (18, "open"), (19, "nested"), (20, "nested")]
)
def test_the_borders_are_5_and_95_percent_of_the_smaller_one(common, why):
    masks = {"a": row(0, 20), "b": row(20 - common, 90)}
    if why == "open":
        with pytest.raises(OverlapError, match=f"b and a overlap in {common} voxels?, {5 * common} % of a;"):
            paint(masks)
        return
    painted = paint(masks)
    assert [overlap.why for overlap in painted.overlaps] == [why] * (why is not None)
    assert (painted.segmentation == 1).sum() == 20
    assert (painted.segmentation == 2).sum() == masks["b"].sum() - common


def test_a_stated_order_decides_against_what_lies_in_what_and_others_follow_size():
    masks = CHAIN | {"node": box((0, 1), (0, 11), (0, 2)), "cyst": box((0, 1), (8, 11), (1, 3))}
    with pytest.raises(OverlapError, match=r"; node and cyst overlap in 3 voxels, 50 % of cyst;"):
        paint(masks)
    painted = paint(masks, ["PTV", "node", "PET", "cyst"])
    values = painted.segmentation
    assert (values[masks["cyst"]] == 4).all()
    assert (values[masks["node"] & ~masks["cyst"]] == 5).all()
    assert {overlap.why for overlap in painted.overlaps} == {"stated", "nested"}
    under = paint(CHAIN, ["GTV", "CTV"])
    assert under.hidden == {"GTV": ("CTV",)}
    assert 2 not in under.segmentation
    assert wholes(under.overlaps) == {"PTV": ("CTV", "GTV")}


def test_a_stated_order_that_contradicts_what_lies_in_what_is_refused():
    with pytest.raises(
        OverlapError, match=r"\(GTV, PTV\) contradicts what lies in what: .* state where CTV belongs in it"
    ):
        paint(CHAIN, ["GTV", "PTV"])
    assert paint(CHAIN, ["GTV", "CTV", "PTV"]).hidden == {"CTV": ("PTV",), "GTV": ("PTV",)}


def test_structures_that_are_the_same_are_refused_unless_an_order_is_stated():
    masks = {"a": row(3, 40), "b": row(3, 40)}
    with pytest.raises(
        OverlapError,
        match=r"b and a are the same in all 37 voxels; .* leave one of the two out of the labels, or state",
    ):
        paint(masks)
    painted = paint(masks, ["b", "a"])
    assert painted.hidden == {"b": ("a",)}
    assert set(np.unique(painted.segmentation)) == {0, 1}


def test_of_two_equally_large_ones_none_is_the_inner_one_but_a_touch_is_decided():
    with pytest.raises(OverlapError, match=r"b and a overlap in 40 voxels, 97.6 % of a \(both have the same number\)"):
        paint({"a": row(0, 41), "b": row(1, 42)})
    for names in ("ab", "ba"):
        masks = {"a": row(0, 41), "b": row(40, 81)}
        assert (paint({name: masks[name] for name in names}).segmentation == 1).sum() == 41


def test_a_structure_that_others_cover_together_is_refused_and_regions_are_advised():
    masks = {"whole": row(5, 65), "core": row(5, 25), "edema": row(25, 65)}
    with pytest.raises(
        OverlapError, match=r"whole is hidden: .* in core and edema, .* --regions FILE \(whole = core \+ edema\)"
    ):
        paint(masks)
    assert paint(masks, ["whole", "core", "edema"]).hidden == {"whole": ("core", "edema")}
    with pytest.raises(OverlapError, match="whole is hidden"):
        paint(masks, ["whole", "core"])


def test_several_open_pairs_are_named_at_once():
    masks = {name: row(10 * number, 10 * number + 20) for number, name in enumerate("fedcba")}
    with pytest.raises(
        OverlapError,
        match=r"b and a overlap.*; c and b .*; d and c .*; so do 2 more pairs; .* --paint-order a,b,c,d,e,f ",
    ):
        paint(masks)


def test_empty_structures_and_values_of_any_size_are_no_trouble():
    masks = {"a": row(0, 0), "b": row(4, 9)}
    assert np.unique(paint(masks, values={"a": -7, "b": 70000}).segmentation).tolist() == [0, 70000]
    assert paint_structures([], {}, shape=SHAPE).segmentation.dtype == np.int16


@pytest.mark.slow
def test_more_combinations_than_16_bits_hold_are_counted():
    rng = np.random.default_rng(0)
    shape = (17, 91, 103)
    masks = {f"s{number:02d}": rng.random(shape) < 0.5 for number in range(18)}
    painted = paint(masks, sorted(masks))
    expected = np.zeros(shape, np.int16)
    for number, mask in enumerate(masks.values(), start=1):
        expected[mask] = number
    assert np.array_equal(painted.segmentation, expected)
    found = {(overlap.lower, overlap.upper): overlap.num_voxels for overlap in painted.overlaps}
    assert found["s03", "s17"] == (masks["s03"] & masks["s17"]).sum()
    assert len(found) == 18 * 17 // 2


def test_sixty_structures_in_a_body_take_five_bytes_per_voxel():
    shape = (60, 160, 170)
    bounds = [
        ((z, z + 9), (y, y + 13), (x, x + 40))
        for z in (1, 21, 41)
        for y in (3, 33, 63, 93, 123)
        for x in (2, 40, 78, 116)
    ]
    expected = np.zeros(shape, np.int16)
    expected[:, 1:150, 1:160] = 1
    for number, bound in enumerate(bounds, start=2):
        expected[box(*bound, shape=shape)] = number

    def structures():
        yield "body", box((0, 60), (1, 150), (1, 160), shape=shape)
        for number, bound in enumerate(bounds):
            yield f"organ {number}", box(*bound, shape=shape)

    values = {"body": 1} | {f"organ {number}": number + 2 for number in range(len(bounds))}
    tracemalloc.start()
    try:
        painted = paint_structures(structures(), values, shape=shape)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * np.prod(shape) + 20 * 2**20
    assert (painted.segmentation > 0).sum() == (expected > 0).sum()
    assert {overlap.why for overlap in painted.overlaps} == {"nested", "touching"}


def test_the_order_that_is_advised_can_be_pasted_into_a_shell():
    with pytest.raises(OverlapError, match=r"--paint-order 'left lung,ball' \(the last on top\)"):
        paint({"left lung": row(0, 100), "ball": row(90, 130)})


def test_the_order_that_is_advised_is_read_back_whatever_is_in_the_names():
    structures = {'PTV "54,0" Gy': row(0, 100), "it's": row(90, 130)}
    with pytest.raises(OverlapError) as refused:
        paint(structures)
    advised = re.search(r"--paint-order (.*) \(the last", str(refused.value))[1]
    assert split_names(*shlex.split(advised)) == tuple(structures)
