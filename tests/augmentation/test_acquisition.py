"""Missing channels and images that end early."""

import pytest
import torch

from tests.augmentation.seeded import draws_of, facts_of, sample_of
from tumorseg.augmentation.acquisition import FovDraw, MissingDraw, apply_fov, apply_missing
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.transforms.acquisition import MissingChannel, ReducedFov
from tumorseg.schema.transforms.base import Range

SPACES = {"2d": (7, 10), "3d": (5, 7, 10)}


@pytest.fixture(params=SPACES.values(), ids=SPACES)
def space(request):
    return request.param


def random_sample(space, num_channels=3, *, is_cascade=False):
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(num_channels, *space, generator=generator)
    segmentation = torch.randint(-1, 3, (1 + is_cascade, *space), generator=generator)
    return sample_of(image, segmentation)


class TestMissingChannel:
    def test_it_is_0_and_the_others_stay(self, space):
        sample = random_sample(space)
        before = sample.image.clone()
        after = apply_missing(sample, MissingDraw((0, 2)), facts_of(space, 3)).image
        assert not after[[0, 2]].any()
        assert torch.equal(after[1], before[1])

    @pytest.mark.parametrize("channel_probability", [0.5, 1.0])
    def test_one_always_stays(self, channel_probability):
        transform = MissingChannel(probability=1, channel_probability=channel_probability)
        found = {draw.channels for draw in draws_of(transform, 200, num_channels=2) if draw is not None}
        assert found == {(0,), (1,)}

    def test_only_those_that_are_named_may_be_missing(self):
        transform = MissingChannel(probability=1, channel_probability=0.5, channels=(0, 2))
        found = {draw.channels for draw in draws_of(transform, 200, num_channels=3) if draw is not None}
        assert found == {(0,), (2,), (0, 2)}

    def test_each_is_missing_by_its_probability(self):
        transform = MissingChannel(probability=0.5, channel_probability=0.2)
        drawn = [draw.channels for draw in draws_of(transform, 4000, num_channels=4) if draw is not None]
        for channel in range(4):
            assert sum(channel in channels for channels in drawn) / 4000 == pytest.approx(0.1, abs=0.02)

    def test_an_image_of_one_channel_is_refused(self):
        assert list(MissingChannel().misfits(facts_of((7, 10), 1))) == [
            "missing_channel needs images of 2 channels or more, these have 1; leave it out"
        ]

    def test_a_channel_that_is_not_there_is_refused(self):
        assert list(MissingChannel(channels=(1, 2)).misfits(facts_of((7, 10), 2))) == [
            "missing_channel.channels are (1, 2); images have channels 0 to 1"
        ]


class TestReducedFov:
    @pytest.mark.parametrize("at_end", [False, True])
    def test_the_planes_beyond_hold_nothing_and_all_others_what_they_held(self, space, at_end):
        for axis, size in enumerate(space):
            sample = random_sample(space, is_cascade=True)
            before = [part.clone().movedim(axis + 1, 0) for part in sample]
            after = apply_fov(sample, FovDraw(axis, at_end, 0.42), facts_of(space, 3))
            image, segmentation = (part.movedim(axis + 1, 0) for part in after[:2])
            cut = round(0.42 * size)
            beyond, left = (slice(size - cut, size), slice(size - cut)) if at_end else (slice(cut), slice(cut, size))
            assert not image[beyond].any()
            assert torch.equal(image[left], before[0][left])
            assert torch.equal(segmentation[left], before[1][left])
            assert torch.equal(segmentation[beyond], before[1][beyond].clamp(max=0))

    def test_what_is_ignored_stays_ignored(self, space):
        sample = random_sample(space)
        ignored = sample.segmentation == -1
        after = apply_fov(sample, FovDraw(0, True, 0.5), facts_of(space, 3))
        assert torch.equal(after.segmentation == -1, ignored)

    @pytest.mark.parametrize(("share", "cut"), [(0.0, 1), (1.0, 6)])
    def test_a_plane_at_least_is_cut_and_one_is_left(self, share, cut):
        sample = random_sample((7, 10))
        after = apply_fov(sample, FovDraw(0, False, share), facts_of((7, 10), 3))
        assert not after.image[:, :cut].any()
        assert after.image[:, cut:].all()

    def test_draws_are_of_the_axes_and_ends(self):
        transform = ReducedFov(probability=1, axes=(0, 2), share=Range(low=0.2, high=0.3))
        draws = draws_of(transform, 100)
        assert {(draw.axis, draw.at_end) for draw in draws} == {(0, False), (0, True), (2, False), (2, True)}
        assert all(0.2 <= draw.share <= 0.3 for draw in draws)
        assert {draw.axis for draw in draws_of(ReducedFov(probability=1), 100)} == {0, 1, 2}
        assert draws_of(ReducedFov(probability=0), 3) == [None] * 3

    def test_an_axis_that_is_not_there_is_refused(self):
        assert list(ReducedFov(axes=(0, 2)).misfits(facts_of((7, 10)))) == [
            "reduced_fov.axes are (0, 2); a patch of 2 axes has 0 to 1"
        ]

    def test_it_is_refused_where_distances_to_labels_are_measured_first(self):
        spec = AugmentationSpec(transforms=(ReducedFov(),))
        facts = facts_of((7, 10))
        assert list(spec.misfits(facts)) == []
        assert list(spec.misfits(facts, reads_distances=True)) == [
            "reduced_fov changes labels after the loss has measured distances to them; set "
            '"distance_maps": "device" in the loss, or leave reduced_fov out'
        ]
