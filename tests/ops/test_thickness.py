"""Runs along each axis, counted in one pass over all labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tumorseg.ops import thickness
from tumorseg.ops.thickness import count_runs

CUBE = (64, 64, 64)


def counted(mask):
    return count_runs(mask.astype(np.int8), [(1,)], 2)[0]


def mean_chords(mask):
    return mask.sum() / counted(mask)


def rows_by_scipy(mask, axis):
    """Return how many runs there are, as pieces connected along one axis only."""
    connected = np.zeros((3,) * mask.ndim, int)
    connected[tuple(slice(None) if other == axis else 1 for other in range(mask.ndim))] = 1
    return ndimage.label(mask, connected)[1]


def ball(radius, spacing_mm=(1.0, 1.0, 1.0)):
    z, y, x = (edge * (np.arange(size) - size / 2 + 0.2) for size, edge in zip(CUBE, spacing_mm, strict=True))
    return z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= radius**2


@pytest.mark.parametrize("part", [1, 40, 1 << 20], ids=["a plane", "few planes", "all"])
@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.1, 0.6, 1.0]),
    is_turned=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_runs_of_labels_and_regions_equal_scipys_pieces_along_an_axis(part, shape, seed, share, is_turned):
    rng = np.random.default_rng(seed)
    indices = np.where(rng.random(shape) < share, rng.integers(-1, 4, shape), 0).astype(np.int16)
    indices = indices.transpose(2, 0, 1)[::-1] if is_turned else indices
    members = [(1,), (2,), (3,), (1, 3), (1, 2, 3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thickness, "PART", part)
        found = count_runs(indices, members, 4)
    expected = [[rows_by_scipy(np.isin(indices, classes), axis) for axis in range(3)] for classes in members]
    assert found.tolist() == expected


def test_a_plates_chord_is_its_thickness():
    mask = np.zeros((9, 31, 30), bool)
    mask[2:5] = True
    assert mean_chords(mask).tolist() == [3, 31, 30]


def test_a_rods_chord_is_pi_quarters_of_its_diameter():
    y, x = (np.arange(60)[:, None] - 29.3), (np.arange(60) - 29.7)
    mask = np.broadcast_to(y**2 + x**2 <= 20**2, (11, 60, 60))
    assert mean_chords(mask) == pytest.approx([11, np.pi / 4 * 40, np.pi / 4 * 40], rel=0.02)


def test_a_balls_chord_is_two_thirds_of_its_diameter():
    assert mean_chords(ball(25)) == pytest.approx([2 / 3 * 50] * 3, rel=0.02)


def test_in_millimetres_a_ball_has_the_same_chord_on_any_grid():
    spacing = (2.5, 0.8, 1.0)
    chords = mean_chords(ball(22, spacing)) * spacing
    assert chords == pytest.approx([2 / 3 * 44] * 3, rel=0.05)


def test_pieces_and_place_do_not_matter_and_noise_matters_little():
    one, two = np.zeros(CUBE, bool), np.zeros(CUBE, bool)
    one[:7, :7, :7] = True
    two[3:10, 40:47, 57:64] = two[50:57, 1:8, 5:12] = True
    assert mean_chords(two).tolist() == mean_chords(one).tolist() == [7, 7, 7]
    one[20:30:2, 40, 40] = True  # 5 voxels of noise beside 343
    assert mean_chords(one) == pytest.approx([7, 7, 7], rel=0.1)


def test_neighbouring_labels_are_thin_where_their_union_is_thick():
    indices = np.zeros((5, 6, 9), np.int8)
    indices[1:3], indices[3:5] = 1, 2
    assert count_runs(indices, [(1,), (2,), (1, 2)], 3)[:, 0].tolist() == [54, 54, 54]
    assert (indices > 0).sum() / 54 == 4


def test_many_labels_are_counted_together():
    indices = np.arange(300, dtype=np.int16).reshape(1, 20, 15)
    found = count_runs(indices, [(index,) for index in range(1, 300)], 300)
    assert (found == 1).all()


@pytest.mark.parametrize("value", [0, -1])
def test_what_is_in_no_set_has_no_runs(value):
    assert count_runs(np.full((3, 4, 5), value, np.int8), [(1,), (2,)], 3).tolist() == [[0, 0, 0]] * 2
