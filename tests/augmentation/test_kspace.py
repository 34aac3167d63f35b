"""Ghosting, Gibbs ringing, spikes and motion by their numbers, against the Fourier and cosine transforms of numpy and scipy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import fft

from tests.augmentation.seeded import augmented, draws_of, facts_of, sample_of
from tumorseg.augmentation.kspace import (
    Cut,
    GhostingDraw,
    Ghosts,
    GibbsDraw,
    Spike,
    SpikesDraw,
    apply_ghosting,
    apply_gibbs,
    apply_spikes,
    filtered,
    line_filter,
    line_shares,
)
from tumorseg.augmentation.motion import MotionDraw, Movement, apply_motion
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.transforms.base import CountRange, Range
from tumorseg.schema.transforms.mr import Ghosting, Gibbs, Motion, Spikes


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(4)) + 0.3


def applied(apply, values, draw):
    """Return one channel (*space) after a draw."""
    image = values.clone()[None]
    labels = torch.zeros(values.shape, dtype=torch.int16)
    return apply(sample_of(image, labels), draw, facts_of(values.shape, 1)).image[0]


def ghosted(values, *ghosts, center_share=0.0):
    return applied(apply_ghosting, values, GhostingDraw((0,), (Ghosts(*ghosts),), center_share))


def cut(values, *cuts):
    return applied(apply_gibbs, values, GibbsDraw((0,), (cuts,)))


def spiked(values, *spikes):
    return applied(apply_spikes, values, SpikesDraw((0,), (spikes,)))


def moved(values, plane, *movements):
    return applied(apply_motion, values, MotionDraw((0,), (plane,), (movements,)))


class TestLineFilter:
    @given(size=st.integers(1, 40), seed=st.integers(0, 99))
    def test_it_weighs_the_cosine_transform(self, size, seed):
        generator = np.random.default_rng(seed)
        line, weights = generator.normal(size=size), generator.normal(size=size + 1)
        expected = fft.idct(weights[:size] * fft.dct(line, norm="ortho"), norm="ortho")
        matrix = line_filter(torch.from_numpy(weights)).numpy()
        np.testing.assert_allclose(matrix @ line, expected, atol=1e-12)

    def test_it_weighs_the_fourier_transform_of_the_line_and_its_mirror_image(self):
        line, weights = noise(13).double().numpy(), np.linspace(1, 0, 14)
        spectrum = np.fft.rfft(np.concatenate((line, line[::-1])))
        expected = np.fft.irfft(weights * spectrum)[:13]
        np.testing.assert_allclose(line_filter(torch.from_numpy(weights)).numpy() @ line, expected, atol=1e-12)

    def test_the_last_frequency_is_the_fastest_that_voxels_hold(self):
        assert line_shares(5).tolist() == [0, 0.2, 0.4, 0.6, 0.8, 1]

    @pytest.mark.parametrize(
        ("shape", "axis"), [((7, 5), 0), ((7, 5), 1), ((3, 6, 5), 0), ((3, 6, 5), 1), ((3, 6, 5), 2)]
    )
    def test_it_is_applied_along_any_axis(self, shape, axis):
        image, matrix = noise(*shape), noise(shape[axis], shape[axis]).double()
        expected = np.apply_along_axis(lambda line: matrix.numpy() @ line, axis, image.numpy())
        found = filtered(image, matrix, axis)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


class TestGhosting:
    def test_a_point_gets_copies_on_either_side_at_the_distances_and_intensities_drawn(self):
        values = torch.ones(61, 4)
        values[30] += 10
        found = ghosted(values, 0, 2, 12, 0.3)[:, 1]
        expected = torch.ones(61)
        expected[30] += 10
        for ghost, intensity in ((18, 0.3), (42, 0.3), (6, 0.15), (54, 0.15)):
            expected[ghost] += 10 * intensity
        # The mean is not modulated: what the ghosts brought is taken off everywhere alike.
        torch.testing.assert_close(found, expected - 10 * 0.9 / 61)

    def test_a_copy_beyond_a_face_comes_back_mirrored(self):
        values = torch.ones(5, 40)
        values[:, 3] += 10
        found = ghosted(values, 1, 1, 8, 0.2)[2]
        # One is at 11; the other would be at -5, which the mirror image shows at 4.
        assert (found > 2).nonzero().flatten().tolist() == [3, 4, 11]

    def test_it_is_a_modulation_of_the_lines_of_k_space(self):
        values = noise(6, 9, 20)
        both = np.concatenate((values.numpy(), values.numpy()[:, ::-1]), axis=1)
        frequencies = np.fft.fftfreq(18)[:, None]
        modulation = 1 + 2 * 0.25 * np.cos(2 * np.pi * frequencies * 3)
        modulation[np.abs(frequencies) <= 0.2 / 2] = 1
        expected = np.fft.ifft(np.fft.fft(both, axis=1) * modulation, axis=1).real[:, :9]
        found = ghosted(values, 1, 1, 3, 0.25, center_share=0.2)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)

    def test_the_mean_of_every_line_stays(self):
        values = noise(12, 9, 7)
        found = ghosted(values, 2, 3, 2, 0.3)
        torch.testing.assert_close(found.mean(2), values.mean(2))

    def test_draws_are_of_the_ranges_and_the_patch(self):
        record = Ghosting(
            probability=1, num_ghosts=CountRange(low=2, high=3), axes=(0, 2), spacing=Range(low=0, high=0.5)
        )
        draws = draws_of(record, 60, patch_size=(20, 9, 10), num_channels=1)
        ghosts = [draw.ghosts[0] for draw in draws]
        assert {ghost.axis for ghost in ghosts} == {0, 2}
        assert {ghost.num_ghosts for ghost in ghosts} == {2, 3}
        assert {ghost.spacing for ghost in ghosts if ghost.axis == 0} <= set(range(1, 11))
        assert {ghost.spacing for ghost in ghosts if ghost.axis == 2} == {1, 2, 3, 4, 5}
        assert all(0.05 <= ghost.intensity <= 0.2 for ghost in ghosts)


class TestGibbs:
    def test_a_step_rings_by_nine_percent_of_its_height(self):
        values = torch.ones(400, 3)
        values[200:] = 3
        found = cut(values, Cut(0, 0.1))[:, 1]
        overshoot = (found.max() - 3) / 2
        assert overshoot.item() == pytest.approx(0.0895, abs=0.003)
        assert ((1 - found.min()) / 2).item() == pytest.approx(0.0895, abs=0.003)
        # Two voxels a cycle at the fastest frequency, twenty at a tenth of it.
        peaks = [n for n in range(201, 320) if found[n - 1] < found[n] > found[n + 1]]
        assert np.diff(peaks).mean() == pytest.approx(20, abs=0.5)

    def test_it_cuts_the_spectrum_of_the_mirrored_image_along_its_axes_alone(self):
        values = noise(6, 9, 8)
        found = cut(values, Cut(0, 0.5), Cut(2, 0.7))
        spectrum = fft.dctn(values.double().numpy(), norm="ortho")
        spectrum[4:] = 0
        spectrum[:, :, 6:] = 0
        np.testing.assert_allclose(found.numpy(), fft.idctn(spectrum, norm="ortho"), atol=1e-5)

    def test_all_lines_kept_is_the_identity(self):
        values = noise(5, 8, 7)
        torch.testing.assert_close(cut(values, Cut(0, 1.0), Cut(1, 1.0), Cut(2, 1.0)), values, atol=1e-5, rtol=0)

    def test_faces_do_not_ring(self):
        ramp = torch.linspace(1, 3, 60).expand(4, 60).contiguous()
        found = cut(ramp, Cut(1, 0.5))
        # A transform that joined the faces would ring by 9 % of their difference.
        assert (found - ramp).abs().max() < 0.01

    def test_one_axis_at_least_is_drawn(self):
        record = Gibbs(probability=1, axis_probability=0, axes=(1, 2))
        draws = draws_of(record, 30)
        assert {cuts[0].axis for draw in draws for cuts in draw.cuts} == {1, 2}
        assert {len(cuts) for draw in draws for cuts in draw.cuts} == {1}

    def test_each_axis_is_cut_with_its_probability(self):
        draws = draws_of(Gibbs(probability=1, axis_probability=1), 5)
        assert {tuple(cut.axis for cut in cuts) for draw in draws for cuts in draw.cuts} == {(0, 1, 2)}


class TestSpikes:
    def test_a_wave_is_one_point_of_k_space(self):
        values = noise(12, 10, 16)
        wave = spiked(values, Spike((2 / 12, -3 / 10, 5 / 16), 0.4, 30.0)) - values
        spectrum = np.fft.fftn(wave.double().numpy())
        expected = np.zeros(wave.shape, complex)
        # A cosine is a frequency and its negative, each of half the amplitude.
        point = 0.4 / 2 * values.numel() * np.exp(1j * math.radians(30))
        expected[2, -3, 5], expected[-2, 3, -5] = point, point.conjugate()
        np.testing.assert_allclose(spectrum, expected, atol=1e-3)

    def test_its_stripes_have_the_period_of_the_frequency(self):
        values = torch.full((3, 60), 5.0)
        found = spiked(values, Spike((0.0, 0.1), 1.0, 0.0))[0]
        peaks = [n for n in range(1, 59) if found[n - 1] < found[n] > found[n + 1]]
        assert np.diff(peaks).tolist() == [10] * 4

    @pytest.mark.slow
    def test_it_is_what_monai_makes_of_one_point(self):
        from monai.transforms import KSpaceSpikeNoise

        values = noise(10, 12)
        spectrum = torch.fft.fftshift(torch.fft.fftn(values))
        row, column = 7, 3  # two and minus three cycles
        magnitude = 60.0
        theirs = KSpaceSpikeNoise((row, column), math.log(magnitude))(values[None])[0]
        old = spectrum[row, column]
        amplitude = (magnitude - old.abs().item()) / values.numel()
        ours = spiked(values, Spike((2 / 10, -3 / 12), amplitude, math.degrees(old.angle().item())))
        torch.testing.assert_close(ours, torch.as_tensor(theirs), atol=1e-5, rtol=0)

    def test_directions_are_unit_vectors_of_the_axes_times_the_frequency(self):
        draws = draws_of(Spikes(probability=1, axes=(0, 2), num_spikes=CountRange(low=2, high=2)), 40)
        spikes = [spike for draw in draws for channel in draw.spikes for spike in channel]
        assert len(spikes) == 40 * 2 * 2
        assert {spike.frequencies[1] for spike in spikes} == {0.0}
        lengths = [math.hypot(*spike.frequencies) for spike in spikes]
        assert 0.08 <= min(lengths) < 0.1
        assert 0.3 < max(lengths) <= 0.35 + 1e-9


class TestMotion:
    def test_structures_stay_where_their_labels_are(self):
        places = torch.stack(torch.meshgrid(*(torch.arange(size) - size // 2 for size in (25, 33, 29)), indexing="ij"))
        ball = places.square().sum(0) <= 49
        images = torch.where(ball, 2.0, -1.0).expand(24, 1, -1, -1, -1)
        spec = AugmentationSpec(transforms=(Motion(probability=1),))
        found = augmented(images, ball.expand(24, -1, -1, -1).to(torch.int16), spec, patch_size=ball.shape)[0][:, 0]
        bright = found > 0.5
        middles = torch.stack([places[:, one].float().mean(1) for one in bright]).norm(dim=1)
        # Movements shift by up to 2.5 voxels.
        assert middles.median() < 0.2
        assert middles.max() < 1.2
        overlap = 2 * (bright & ball).sum((1, 2, 3)) / (bright.sum((1, 2, 3)) + ball.sum())
        assert overlap.min() > 0.85

    @pytest.mark.parametrize("shape", [(9, 12), (5, 12, 9)])
    def test_no_movement_is_the_identity(self, shape):
        values = noise(*shape)
        still = (Movement(0.1, 0.0, (0.0, 0.0)), Movement(0.4, 0.0, (0.0, 0.0)))
        torch.testing.assert_close(moved(values, (0, 1), *still), values, atol=1e-5, rtol=0)

    def test_lines_before_the_movement_are_at_rest_and_those_after_it_moved(self):
        values = noise(7, 10, 8)
        values[:, :, :3] = values[:, :, :1]  # what comes in is known
        shifted = torch.cat((values[:, :, :2], values[:, :, :-2]), dim=2)
        found = moved(values, (1, 2), Movement(0.35, 0.0, (0.0, 2.0)))
        spectrum, still, copy = (
            fft.dct(volume.double().numpy(), axis=1, norm="ortho") for volume in (found, values, shifted)
        )
        np.testing.assert_allclose(spectrum[:, :4], still[:, :4], atol=1e-5)
        np.testing.assert_allclose(spectrum[:, 4:], copy[:, 4:], atol=1e-5)

    def test_each_position_is_kept_until_the_next(self):
        values = noise(10, 9)
        values[:, :3], values[:, 6:] = values[:, :1], values[:, 8:]
        right, left = torch.cat((values[:, :1], values[:, :-1]), 1), torch.cat((values[:, 1:], values[:, -1:]), 1)
        found = moved(values, (0, 1), Movement(0.2, 0.0, (0.0, 1.0)), Movement(0.6, 0.0, (0.0, -1.0)))
        spectra = [fft.dct(volume.double().numpy(), axis=0, norm="ortho") for volume in (found, values, right, left)]
        for lines, source in ((slice(0, 2), 1), (slice(2, 6), 2), (slice(6, 10), 3)):
            np.testing.assert_allclose(spectra[0][lines], spectra[source][lines], atol=1e-5)

    @pytest.mark.parametrize("plane", [(0, 1), (1, 0), (0, 2), (2, 1)])
    def test_it_turns_in_its_plane_about_the_middle(self, plane):
        values = noise(7, 7, 7)
        found = moved(values, plane, Movement(0.0, 90.0, (0.0, 0.0)))
        turned = torch.rot90(values, 1, plane)
        # The mean of each line is of the first position.
        phase = plane[0]
        expected = turned - turned.mean(phase, keepdim=True) + values.mean(phase, keepdim=True)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

    def test_the_mean_of_every_line_stays(self):
        values = noise(6, 9, 8)
        found = moved(values, (1, 0), Movement(0.0, 20.0, (1.5, 0.5)))
        torch.testing.assert_close(found.mean(1), values.mean(1), atol=1e-5, rtol=0)

    def test_draws_are_of_the_ranges(self):
        record = Motion(probability=1, num_movements=CountRange(low=2, high=3), axes=(1, 2))
        draws = draws_of(record, 60)
        assert {draw.planes[0] for draw in draws} == {(1, 2), (2, 1)}
        assert {len(draw.movements[0]) for draw in draws} == {2, 3}
        for movements in (draw.movements[0] for draw in draws):
            onsets = [movement.onset for movement in movements]
            assert onsets == sorted(onsets)
            assert 0.2 <= onsets[0] <= 0.5
            assert all(0.5 <= abs(movement.angle_deg) <= 3 for movement in movements)
            assert all(0.5 <= math.hypot(*movement.shift) <= 2.5 for movement in movements)

    def test_channels_move_independently_unless_they_are_to_move_alike(self):
        alone = draws_of(Motion(probability=1), 1)[0]
        alike = draws_of(Motion(probability=1, per_channel=False), 1)[0]
        assert alone.movements[0] != alone.movements[1]
        assert alike.movements[0] == alike.movements[1]
        assert alike.planes[0] == alike.planes[1]
