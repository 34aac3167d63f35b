import numpy as np
import pytest

from tests.ops.trust.phantoms import SUBJECT, phantom, trust_cases
from tumorseg.ops.trust.changes import changed, explain
from tumorseg.ops.trust.fitting import fit_trust
from tumorseg.ops.trust.image_profile import ProfiledImage, image_profile
from tumorseg.ops.trust.measures import Measure
from tumorseg.ops.trust.thumbnails import STEPS, decode_thumbnail


@pytest.fixture(scope="module")
def profile():
    return fit_trust(trust_cases(24), SUBJECT)


def four_channels(seed=0):
    random = np.random.default_rng(seed)
    image = random.gamma(2, 50, (4, 9, 13, 17)).astype(np.float32) + np.arange(4)[:, None, None, None]
    return ProfiledImage(image, (3.0, 1.0, 1.5), ("mr",) * 4)


def test_exchanging_channels_of_a_profile_is_profiling_the_exchanged_image():
    found = four_channels()
    order = [0, 3, 2, 1]
    exchanged = image_profile(found._replace(image=found.image[order]))
    assert changed(image_profile(found), Measure("swap", (1, 3))) == exchanged


@pytest.mark.parametrize("axis", range(3))
def test_mirroring_a_profile_is_profiling_the_mirrored_image(axis):
    found = four_channels(axis)
    mirrored = image_profile(found._replace(image=np.flip(found.image, axis + 1)))
    expected = changed(image_profile(found), Measure("flip", (axis,)))
    assert (expected.edges, expected.body_mm) == (mirrored.edges, mirrored.body_mm)
    for one, other in zip(expected.channels, mirrored.channels, strict=True):
        for name in ("thumbnail", "overview"):
            pictures = [decode_thumbnail(getattr(channel, name)) for channel in (one, other)]
            np.testing.assert_allclose(*pictures, atol=1.5 / STEPS)


@pytest.mark.parametrize("measure", [Measure("flip", (1,)), Measure("swap", (0, 2))])
def test_a_change_undoes_itself(measure):
    found = image_profile(four_channels())
    assert changed(changed(found, measure), measure) == found
    assert changed(found, measure) != found


def test_what_was_done_to_an_image_is_found_and_undone(profile):
    found = phantom(500)
    twice = np.flip(found.image[::-1], 3)
    explained = explain(image_profile(found._replace(image=twice)), profile.image, profile.threshold)
    assert set(explained.changes) == {Measure("swap", (0, 1)), Measure("flip", (2,))}
    assert max(score for score, _ in explained.left.values()) <= profile.threshold
    assert max(score for score, _ in explained.scores.values()) > profile.threshold


def test_a_shift_that_makes_a_channel_look_like_another_is_not_taken_for_a_swap(profile):
    found = phantom(501)
    found.image[0] += 2000
    explained = explain(image_profile(found), profile.image, profile.threshold)
    assert explained.changes == ()


def test_a_sound_image_is_left_as_it_is(profile):
    explained = explain(image_profile(phantom(502)), profile.image, profile.threshold)
    assert explained.changes == ()
    assert explained.left == explained.scores
