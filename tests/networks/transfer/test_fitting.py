import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tumorseg.networks.transfer.fitting import Images, fit_note, fitted, misfit
from tumorseg.networks.transfer.roles import Role

FEATURES = 3
ODD = st.sampled_from((1, 3, 5))


def weight_of(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(there=st.integers(1, 5), here=st.integers(1, 6))
def test_channels_that_are_alike_give_the_features_that_they_gave(there, here):
    weight = weight_of(FEATURES, there, 3, 3)
    image = weight_of(1, 1, 6, 5)
    before = F.conv2d(image.expand(-1, there, -1, -1), weight)
    after = F.conv2d(image.expand(-1, here, -1, -1), fitted(weight, (FEATURES, here, 3, 3), Role.INPUT))
    torch.testing.assert_close(after, before)


def test_channels_of_which_all_are_repeated_equally_often_stay_apart():
    weight = weight_of(FEATURES, 2, 3, 3)
    found = fitted(weight, (FEATURES, 4, 3, 3), Role.INPUT)
    assert torch.equal(found, torch.cat((weight, weight), dim=1) / 2)


@pytest.mark.parametrize(
    ("images", "there", "note"),
    [
        (
            Images(2, 2),
            5,
            "3 channels of a previous segmentation left out; zeros for the 1 channels of the previous segmentation",
        ),
        (Images(3, 3), 5, "2 channels of a previous segmentation left out"),
        (Images(2, 4), 5, "4 input channels averaged for 2"),
        # A file that is not of the plan beside it.
        (Images(2, 9), 1, "1 input channels repeated for 2; zeros for the 1 channels of the previous segmentation"),
    ],
)
def test_the_previous_segmentation_is_taken_over_if_it_has_as_many_labels(images, there, note):
    weight, wanted = weight_of(FEATURES, there, 3, 3), (FEATURES, 3, 3, 3)
    assert fit_note(Role.INPUT, wanted, tuple(weight.shape), images) == note
    found = fitted(weight, wanted, Role.INPUT, images)
    assert found.shape == wanted
    if note.endswith("4 input channels averaged for 2"):
        assert torch.equal(found[:, 2], weight[:, 4])
    elif images.own == 3:
        assert torch.equal(found, weight[:, :3])
    else:
        assert not found[:, 2].any()


def test_a_depthwise_kernel_is_interpolated_along_all_axes_at_once():
    weight = weight_of(FEATURES, 1, 3, 3, 3)
    found = fitted(weight, (FEATURES, 1, 5, 5, 5), Role.DEPTHWISE)
    torch.testing.assert_close(found, F.interpolate(weight, size=(5, 5, 5), mode="trilinear"))
    # The middle and the corners lie where they lay.
    torch.testing.assert_close(found[:, :, 2, 2, 2], weight[:, :, 1, 1, 1])
    torch.testing.assert_close(found[:, :, 0, 4, 0], weight[:, :, 0, 2, 0])


def test_a_depthwise_kernel_of_one_voxel_along_an_axis_is_centred_there():
    weight = weight_of(FEATURES, 1, 1, 3)
    found = fitted(weight, (FEATURES, 1, 3, 3), Role.DEPTHWISE)
    assert torch.equal(found[:, :, 1], weight[:, :, 0])
    assert not found[:, :, ::2].any()


@settings(deadline=None, max_examples=30)
@given(there=ODD, here=ODD)
def test_a_kernel_that_was_centred_sees_what_it_saw(there, here):
    assume(here >= there)
    weight = weight_of(FEATURES, 2, there, 3)
    image = weight_of(1, 2, 7, 6)
    found = fitted(weight, (FEATURES, 2, here, 3), Role.OTHER)
    before = F.conv2d(image, weight, padding=(there // 2, 1))
    torch.testing.assert_close(F.conv2d(image, found, padding=(here // 2, 1)), before)


def test_a_kernel_that_was_summed_does_the_same_along_an_axis_on_which_nothing_changes():
    weight = weight_of(FEATURES, 2, 3, 3, 3)
    image = weight_of(1, 2, 1, 6, 5).expand(-1, -1, 5, -1, -1)
    found = fitted(weight, (FEATURES, 2, 1, 3, 3), Role.OTHER)
    torch.testing.assert_close(F.conv3d(image[:, :, 1:-1], found), F.conv3d(image, weight))


def test_an_upsampling_of_one_more_axis_gives_both_voxels_the_same():
    weight = weight_of(4, FEATURES, 1, 2, 2)
    features = weight_of(1, 4, 3, 2, 2)
    before = F.conv_transpose3d(features, weight, stride=(1, 2, 2))
    larger = fitted(weight, (4, FEATURES, 2, 2, 2), Role.UPSAMPLING)
    torch.testing.assert_close(F.conv_transpose3d(features, larger, stride=2), before.repeat_interleave(2, dim=2))
    assert torch.equal(fitted(larger, tuple(weight.shape), Role.UPSAMPLING), weight)


@pytest.mark.parametrize(
    ("role", "own", "there", "why"),
    [
        (Role.OTHER, (8, 4, 3, 3), (8, 5, 3, 3), "another width"),
        (Role.INPUT, (8, 4, 3, 3), (6, 4, 3, 3), "another width"),
        (Role.OTHER, (8,), (6,), "is of [6] there, of [8] here"),
        (Role.OTHER, (1, 8, 12), (1, 8, 6), "is of [1, 8, 6] there, of [1, 8, 12] here"),
        (Role.FIXED, (8, 4, 3, 3), (8, 4, 1, 3), "is of [8, 4, 1, 3] there, of [8, 4, 3, 3] here"),
        (Role.OTHER, (8, 4, 3, 3, 3), (8, 4, 3, 3), "has 4 axes there, 5 here"),
        (Role.OTHER, (8, 4, 3, 3), (8, 4, 5, 3), "a kernel of [5, 3] there, of [3, 3] here"),
        (Role.UPSAMPLING, (8, 4, 3, 2), (8, 4, 2, 2), "a kernel of [2, 2] there, of [3, 2] here"),
    ],
)
def test_what_cannot_be_fitted_is_said(role, own, there, why):
    assert why in misfit(role, own, there)


@pytest.mark.parametrize(
    ("role", "own", "there", "note"),
    [
        (Role.INPUT, (8, 4, 3, 3), (8, 2, 3, 3), "2 input channels repeated for 4"),
        (
            Role.INPUT,
            (8, 3, 3, 3),
            (8, 4, 1, 3),
            "4 input channels averaged for 3; kernel of [1, 3] centred for [3, 3]",
        ),
        (Role.OTHER, (8, 4, 1, 5), (8, 4, 3, 3), "kernel of [3, 3] summed and centred for [1, 5]"),
        (Role.DEPTHWISE, (8, 1, 5, 5), (8, 1, 3, 3), "kernel of [3, 3] interpolated for [5, 5]"),
        (Role.UPSAMPLING, (8, 4, 2, 1), (8, 4, 1, 2), "kernel of [1, 2] averaged and repeated for [2, 1]"),
    ],
)
def test_how_a_weight_is_fitted_is_said(role, own, there, note):
    assert misfit(role, own, there) is None
    assert fit_note(role, own, there) == note
    assert fitted(weight_of(*there), own, role).shape == own
