"""Hounsfield units shifted and scaled, and streaks, by their numbers."""

import math

import pytest
import torch
from pydantic import ValidationError

from tests.augmentation.seeded import CT, draws_of, facts_of, sample_of
from tumorseg.augmentation.ct import (
    HuShiftDraw,
    StreaksDraw,
    apply_hu_shift,
    apply_streaks,
    draw_hu_shift,
    draw_streaks,
)
from tumorseg.augmentation.dice import Dice
from tumorseg.schema.preprocessing import CtNormalization, ZScoreNormalization
from tumorseg.schema.transforms.base import CountRange, PatchFacts, Range
from tumorseg.schema.transforms.ct import HuShift, Streaks

SPACES = {"2d": (41, 53), "3d": (9, 41, 53)}
MIXED = PatchFacts((8, 9, 10), (ZScoreNormalization(masked=False), CT))


def normalised(hu):
    return (torch.as_tensor(hu, dtype=torch.float32) - CT.mean_hu) / CT.std_hu


def hounsfield(values):
    return values * CT.std_hu + CT.mean_hu


def shifted(hu, shift=0.0, scale=1.0):
    """Return HU (H, W) after a shift and a scale."""
    hu = torch.as_tensor(hu, dtype=torch.float32)
    sample = sample_of(normalised(hu)[None], torch.zeros(hu.shape, dtype=torch.int64))
    facts = facts_of(hu.shape, 1, has_ct=True)
    return hounsfield(apply_hu_shift(sample, HuShiftDraw((0,), (shift,), (scale,)), facts).image[0])


class TestHuShift:
    def test_a_shift_of_10_hu_is_10_hu_between_the_bounds_and_none_at_them(self):
        after = shifted([[-1000.0, -999.0, 0.0], [40.0, 989.0, 1000.0]], shift=10)
        torch.testing.assert_close(after, torch.tensor([[-1000.0, -989.0, 10.0], [50.0, 999.0, 1000.0]]))

    def test_a_scale_leaves_water_alone(self):
        after = shifted([[0.0, 100.0], [-100.0, 400.0]], scale=1.05)
        torch.testing.assert_close(after, torch.tensor([[0.0, 105.0], [-105.0, 420.0]]), atol=1e-3, rtol=0)

    def test_nothing_leaves_the_bounds(self):
        after = shifted([[-995.0, 995.0]], scale=1.05)
        torch.testing.assert_close(after, torch.tensor([[-1000.0, 1000.0]]))
        assert shifted([[-1003.0, 1007.0]], shift=5).tolist() == [[-1003.0, 1007.0]]  # an overshoot of interpolation

    def test_rounding_does_not_take_voxels_from_the_bounds(self):
        low = torch.full((1, 4), normalised(-1000.0).item())
        low[0, 1] = torch.nextafter(low[0, 1], torch.tensor(0.0))
        low[0, 2] += 1e-4
        sample = sample_of(low.clone()[None], torch.zeros(1, 4, dtype=torch.int64))
        facts = facts_of((1, 4), 1, has_ct=True)
        assert torch.equal(apply_hu_shift(sample, HuShiftDraw((0,), (20.0,), (1.0,)), facts).image[0], low)

    def test_a_constant_dataset_has_finite_results(self):
        flat = CtNormalization(lower_hu=40, upper_hu=40, mean_hu=40, std_hu=0)
        sample = sample_of(torch.zeros(1, 3, 3), torch.zeros(3, 3, dtype=torch.int64))
        after = apply_hu_shift(sample, HuShiftDraw((0,), (20.0,), (1.1,)), PatchFacts((3, 3), (flat,)))
        assert torch.equal(after.image, torch.zeros(1, 3, 3))

    def test_draws_are_of_the_ranges(self):
        transform = HuShift(probability=1, shift_hu=Range(low=-3, high=-1), scale=Range(low=1.1, high=1.2))
        draws = draws_of(transform, 50, has_ct=True)
        assert all(-3 <= shift <= -1 for draw in draws for shift in draw.shifts_hu)
        assert all(1.1 <= scale <= 1.2 for draw in draws for scale in draw.scales)
        assert len({draw.shifts_hu[0] for draw in draws}) == 50
        assert draws[0].shifts_hu[0] != draws[0].shifts_hu[1]


@pytest.mark.parametrize(
    ("record", "draw"), [(HuShift(probability=1), draw_hu_shift), (Streaks(probability=1), draw_streaks)]
)
def test_beside_other_channels_only_those_of_ct_are_drawn(record, draw):
    assert draw(record, MIXED, Dice(1)).channels == (1,)
    assert list(record.misfits(MIXED)) == []


@pytest.mark.parametrize("record", [HuShift(), Streaks()])
def test_without_a_ct_channel_both_are_refused(record):
    name = record.name
    assert list(record.misfits(facts_of((8, 9, 10)))) == [
        f"{name} needs a channel with the normalization ct, images have none; leave it out"
    ]
    named = record.changed(channels=(0, 1))
    assert list(named.misfits(MIXED)) == [
        f"{name}.channels has [0], which are not normalised as ct; those that are: [1]"
    ]


def test_in_a_slice_streaks_have_no_other_axis():
    facts = facts_of((8, 9), has_ct=True)
    assert list(Streaks(axis=0).misfits(facts)) == []
    assert list(Streaks(axis=2).misfits(facts)) == [
        "streaks.axis is 2; a patch of 2 axes is a slice itself, for which it is 0"
    ]


def test_no_implants_are_none_of_the_numbers():
    with pytest.raises(ValidationError, match="low is 0; there must be 1 at least"):
        Streaks(implants=CountRange(low=0, high=2))


def streaked(hu, draw):
    """Return HU (C, *space) with the streaks of a draw."""
    space = tuple(hu.shape[1:])
    sample = sample_of(normalised(hu), torch.zeros(space, dtype=torch.int64))
    return hounsfield(apply_streaks(sample, draw, facts_of(space, len(hu), has_ct=True)).image)


def draw_of(**fields):
    drawn = StreaksDraw((0,), (200.0,), axis=0, place=0.5, length=0.3, radii=(2.0, 1.5), seed=4)
    return drawn._replace(**fields)


@pytest.fixture(params=SPACES.values(), ids=SPACES)
def space(request):
    return request.param


class TestStreaks:
    def test_the_greatest_change_beside_the_metal_is_the_strength(self, space):
        hu = torch.full((1, *space), 50.0)
        after = streaked(hu, draw_of())
        beside = (after - hu)[after < 900]
        assert beside.abs().max().item() == pytest.approx(200, rel=1e-4)
        assert beside.min() < -50
        assert beside.max() > 20

    def test_metal_is_as_bright_as_can_be_and_small(self, space):
        after = streaked(torch.full((1, *space), 50.0), draw_of())
        num_slices = 1 if len(space) == 2 else 3
        metal = (after > 999).sum().item() / num_slices
        assert metal == pytest.approx(math.pi * (2.0**2 + 1.5**2), rel=0.4)

    def test_nothing_leaves_the_bounds(self, space):
        after = streaked(torch.full((1, *space), -995.0), draw_of(strengths_hu=(900.0,)))
        assert after.min() >= -1000.001
        assert after.max() <= 1000.001

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_slices_far_from_the_metal_stay_as_they_are(self, axis):
        hu = torch.full((1, 20, 21, 22), 50.0)
        after = streaked(hu, draw_of(axis=axis, place=0.2, length=0.1))
        others = [other + 1 for other in range(3) if other != axis]
        changed = (after != hu).flatten(0, 0).any(0).permute(axis, *[other - 1 for other in others]).flatten(1).any(1)
        assert changed[:8].all()
        assert not changed[9:].any()

    def test_they_fade_beyond_the_metal(self):
        hu = torch.full((1, 21, 41, 53), 50.0)
        change = (streaked(hu, draw_of(length=0.2)) - hu).abs()[0]
        change[change > 900] = 0
        mean = change.flatten(1).mean(1)
        assert mean[10] > mean[13] > mean[14] > mean[15] > 0
        assert not mean[17:].any()

    def test_channels_share_the_metal_and_have_their_own_strengths(self):
        hu = torch.full((2, 41, 53), 50.0)
        after = streaked(hu, draw_of(channels=(0, 1), strengths_hu=(100.0, 300.0)))
        metal = after > 999
        assert torch.equal(metal[0], metal[1])
        change = (after - hu)[:, ~metal[0]]
        torch.testing.assert_close(3 * change[0], change[1], rtol=1e-3, atol=1e-2)

    def test_metal_lies_in_what_is_dense(self):
        hu = torch.full((1, 41, 53), -900.0)
        hu[:, :20, 20:45] = 60
        found = 0
        for seed in range(20):
            after = streaked(hu, draw_of(radii=(1.0,), seed=seed))
            rows, columns = (after[0] > 999).nonzero().T
            found += bool((rows < 22).all() and (columns > 17).all() and (columns < 47).all())
        assert found >= 19

    def test_draws_are_of_the_ranges(self):
        transform = Streaks(
            probability=1,
            implants=CountRange(low=2, high=3),
            radius=Range(low=1, high=2),
            length=Range(low=0.1, high=0.2),
        )
        draws = draws_of(transform, 60, has_ct=True)
        assert {len(draw.radii) for draw in draws} == {2, 3}
        assert all(1 <= radius <= 2 for draw in draws for radius in draw.radii)
        assert all(0.1 <= draw.length <= 0.2 for draw in draws)
        assert all(200 <= draw.strengths_hu[0] == draw.strengths_hu[1] <= 1000 for draw in draws)
        assert draws_of(transform.changed(probability=0), 1, has_ct=True) == [None]
