"""What artefacts of MR images have in common, and bias fields, Rician noise and slice jumps by their numbers."""

import math

import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from tests.augmentation.seeded import augmented, draws_of, facts_of
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.transforms.base import CountRange, Range
from tumorseg.schema.transforms.mr import BiasField, Ghosting, Gibbs, Motion, RicianNoise, SliceJumps, Spikes

KINDS = (BiasField, RicianNoise, Motion, Ghosting, Gibbs, Spikes, SliceJumps)
PATCHES = ((9, 14), (5, 12, 9))


def exactly(value):
    return Range(low=value, high=value)


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)) + 0.5


def changed(before, transform):
    labels = before[:, 0].to(torch.int16)
    return augmented(before, labels, AugmentationSpec(transforms=(transform,)), patch_size=before.shape[2:])[0]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.model_fields["name"].default)
def kind(request):
    return request.param


@pytest.mark.parametrize("patch", PATCHES, ids=("2d", "3d"))
class TestEveryArtefact:
    def test_what_is_outside_stays_0_and_the_rest_changes(self, kind, patch):
        before = images(4, 2, *patch)
        before[..., :4] = 0
        before[:, :, 0] = 0
        after = changed(before, kind(probability=1))
        outside = before == 0
        assert torch.equal(after[outside], before[outside])
        assert (after != before)[~outside].float().mean() > 0.5

    def test_outside_counts_as_air(self, kind, patch):
        before = images(4, 1, *patch)
        before[..., :4] = before[..., 4:].amin(tuple(range(1, before.ndim)), keepdim=True)
        masked = before.clone()
        masked[..., :4] = 0
        transform = kind(probability=1)
        torch.testing.assert_close(changed(masked, transform)[..., 4:], changed(before, transform)[..., 4:])

    def test_mean_and_deviation_stay_comparable(self, kind, patch):
        before = images(20, 2, *patch) * 0.7 - 0.2
        after = changed(before, kind(probability=1))
        space = tuple(range(2, before.ndim))
        assert (after.mean(space) - before.mean(space)).abs().max() < 0.5
        ratio = after.std(space) / before.std(space)
        # White noise, as here, has most of its deviation in the frequencies that ringing takes away.
        assert ratio.min() > 0.2
        assert ratio.max() < 2

    def test_the_level_of_intensities_does_not_matter(self, kind, patch):
        before = images(3, 2, *patch)
        transform = kind(probability=1)
        torch.testing.assert_close(changed(before + 3, transform), changed(before, transform) + 3, atol=1e-4, rtol=0)

    def test_patches_of_one_value_stay_finite_and_empty_ones_empty(self, kind, patch):
        flat = torch.full((2, 2, *patch), 0.7)
        assert changed(flat, kind(probability=1)).isfinite().all()
        assert not changed(torch.zeros(2, 2, *patch), kind(probability=1)).any()

    def test_autocast_changes_nothing(self, kind, patch):
        before = images(3, 2, *patch)
        transform = kind(probability=1)
        expected = changed(before, transform)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(changed(before, transform), expected)


@pytest.mark.parametrize("kind", [Motion, Ghosting, Gibbs, Spikes, SliceJumps])
def test_axes_that_are_not_there_are_named(kind):
    transform = kind(axes=(0, 2))
    assert not list(transform.misfits(facts_of((9, 8, 7))))
    message = f"{transform.name}.axes are (0, 2); a patch of 2 axes has 0 to 1"
    assert list(transform.misfits(facts_of((9, 8)))) == [message]


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (BiasField, {"ratio": Range(low=0.5, high=2)}, "at least 1"),
        (Spikes, {"frequency": Range(low=0.1, high=0.6)}, "at most 0.5"),
        (Spikes, {"frequency": Range(low=0, high=0.5)}, "above 0"),
        (Motion, {"num_movements": CountRange(low=0, high=2)}, "there must be 1 at least"),
        (Gibbs, {"axes": ()}, "at least 1 item"),
        (Gibbs, {"axes": (1, 1)}, "names one twice"),
    ],
)
def test_what_cannot_be_drawn_is_refused(kind, fields, message):
    with pytest.raises(ValidationError, match=message):
        kind(**fields)


def test_a_movement_needs_a_plane():
    misfits = list(Motion(axes=(1,)).misfits(facts_of((9, 8, 7))))
    assert misfits == ["motion.axes are (1,); a movement lies in a plane, name two axes or more"]


class TestBiasField:
    @staticmethod
    def fields(transform, *shape):
        """Return the fields (B, C, *space): what a signal of 1 becomes."""
        before = torch.full(shape, 2.0)
        # One voxel of air, whose level the signal is counted from.
        corner = (slice(None), slice(None), *[0] * (len(shape) - 2))
        before[corner] = 1.0
        return changed(before, transform) - 1

    @pytest.mark.parametrize("patch", PATCHES)
    def test_its_greatest_value_over_its_least_is_the_ratio(self, patch):
        fields = self.fields(BiasField(probability=1, ratio=exactly(2.0)), 4, 2, *patch).flatten(2)[..., 1:]
        # But for the voxel of air, whose field cannot be seen, and which may be the extreme one.
        ratios = fields.amax(2) / fields.amin(2)
        assert ratios.max().item() == pytest.approx(2, rel=1e-5)
        assert ratios.min() > 1.6
        assert ratios.max() < 2 + 1e-5

    def test_the_mean_of_the_signal_stays(self):
        before = images(4, 2, 9, 8, 7)
        after = changed(before, BiasField(probability=1))
        torch.testing.assert_close(after.mean((2, 3, 4)), before.mean((2, 3, 4)))

    @pytest.mark.parametrize("degree", [1, 2, 3])
    def test_its_logarithm_is_a_polynomial_of_the_degree(self, degree):
        fields = self.fields(BiasField(probability=1, degree=degree), 2, 1, 11, 12, 13)[:, :, 1:]
        log = fields.double().log()
        for axis in (2, 3, 4):
            assert torch.diff(log, n=degree + 1, dim=axis).abs().max() < 1e-4
        assert torch.diff(log, n=degree, dim=3).abs().max() > 1e-4

    def test_channels_have_fields_of_their_own_unless_they_share_one(self):
        alone = self.fields(BiasField(probability=1), 1, 2, 9, 8)[0]
        shared = self.fields(BiasField(probability=1, per_channel=False), 1, 2, 9, 8)[0]
        assert (alone[0] - alone[1]).abs().max() > 0.05
        assert torch.equal(shared[0], shared[1])

    def test_draws_are_of_the_range(self):
        ratios = [ratio for draw in draws_of(BiasField(probability=1), 200) for ratio in draw.ratios]
        assert 1.3 <= min(ratios) < 1.35
        assert 2.45 < max(ratios) <= 2.5


class TestRicianNoise:
    def test_air_gets_the_mean_and_deviation_of_rayleighs_distribution(self):
        before = torch.full((1, 1, 200, 200), -1.5)
        noise = changed(before, RicianNoise(probability=1, std=exactly(0.2))) - before
        assert noise.min() >= 0
        assert noise.mean().item() == pytest.approx(0.2 * math.sqrt(math.pi / 2), rel=0.01)
        assert noise.std().item() == pytest.approx(0.2 * math.sqrt(2 - math.pi / 2), rel=0.02)

    @pytest.mark.parametrize("signal", [0.1, 0.5, 4.0])
    def test_signals_get_rices_distribution(self, signal):
        before = torch.full((1, 1, 101, 100), signal - 1.5)
        before[:, :, 0] = -1.5
        after = changed(before, RicianNoise(probability=1, std=exactly(0.25)))
        found = (after[0, 0, 1:] + 1.5).double().flatten().numpy()
        assert stats.kstest(found, stats.rice(signal / 0.25, scale=0.25).cdf).pvalue > 1e-3

    def test_each_channel_has_noise_of_its_own(self):
        before = torch.full((1, 2, 100, 100), 3.0)
        before[:, :, 0] = -1
        noise = (changed(before, RicianNoise(probability=1, per_channel=False)) - before)[0, :, 1:].flatten(1)
        assert abs(torch.corrcoef(noise)[0, 1].item()) < 0.05
        assert noise[0].std().item() == pytest.approx(noise[1].std().item(), rel=0.05)


class TestSliceJumps:
    def test_slices_take_the_factors_of_the_passes_in_turn(self):
        before = images(1, 1, 11, 7, 6)
        transform = SliceJumps(
            probability=1, axes=(1,), num_interleaves=CountRange(low=3, high=3), single_probability=0
        )
        air = before.min()
        gains = (changed(before, transform) - air) / (before - air)
        jumps = draws_of(transform, 1, patch_size=(11, 7, 6), num_channels=1)[0].jumps[0]
        expected = [jumps.factors[number % 3] for number in range(7)]
        torch.testing.assert_close(
            gains.nanmedian(2).values.nanmedian(-1).values[0, 0], torch.tensor(expected), atol=1e-4, rtol=0
        )

    def test_only_whole_slices_change(self):
        before = images(1, 1, 40, 9, 8)
        transform = SliceJumps(probability=1, axes=(0,), factor=exactly(1.0), single_probability=0.3)
        after = changed(before, transform)
        jumps = draws_of(transform, 1, patch_size=(40, 9, 8), num_channels=1)[0].jumps[0]
        jumping = {number for number, _ in jumps.singles}
        assert 4 <= len(jumping) <= 20
        for number in range(40):
            is_same = after[0, 0, number] == before[0, 0, number]
            # The air stays where it is in any slice.
            assert is_same.all() if number not in jumping else is_same.sum() <= 1

    def test_draws_are_of_the_ranges(self):
        draws = draws_of(SliceJumps(probability=1), 100)
        jumps = [one for draw in draws for one in draw.jumps]
        assert {one.axis for one in jumps} == {0, 1, 2}
        assert {len(one.factors) for one in jumps} == {2, 3, 4}
        assert all(0.93 / 1.07 <= factor <= 1.07 / 0.93 for one in jumps for factor in one.factors)
        assert all(sum(one.factors) / len(one.factors) == pytest.approx(1) for one in jumps)
        singles = [factor for one in jumps for _, factor in one.singles]
        assert 0.02 * 200 * 9 < len(singles) < 0.1 * 200 * 9
        assert all(0.7 <= factor <= 1.15 for factor in singles)
