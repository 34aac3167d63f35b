import numpy as np
import pytest

from tumorseg.ops.normalization import normalize
from tumorseg.schema.preprocessing import (
    CtNormalization,
    NoNormalization,
    RescaleNormalization,
    RgbNormalization,
    ZScoreNormalization,
)

CT = CtNormalization(lower_hu=-100, upper_hu=250, mean_hu=42, std_hu=31)
EVERY = {
    "ct": CT,
    "zscore": ZScoreNormalization(masked=False),
    "masked zscore": ZScoreNormalization(masked=True),
    "rescale": RescaleNormalization(),
    "rgb": RgbNormalization(),
    "none": NoNormalization(),
}


def image_of(seed=0, channels=1, shape=(3, 5, 7)):
    return (np.random.default_rng(seed).normal(size=(channels, *shape)) * 150 + 60).astype(np.float32)


def masked_image():
    """Return an image of two channels whose rim is 0 in both; inside, channel 0 has a hole of 0."""
    image = np.zeros((2, 5, 7, 9), np.float32)
    image[:, 1:-1, 1:-1, 1:-1] = image_of(1, 2, (3, 5, 7))
    image[0, 2, 3, 4] = 0
    return image


def one(image, spec):
    return normalize(image, [spec] * len(image))


@pytest.mark.parametrize("spec", EVERY.values(), ids=EVERY)
def test_every_scheme_gives_finite_float32_of_the_same_shape_and_leaves_the_input_alone(spec):
    image = masked_image()
    before = image.copy()
    normalized = one(image, spec)
    assert normalized.dtype == np.float32
    assert normalized.shape == image.shape
    assert np.isfinite(normalized).all()
    assert np.array_equal(image, before)


def test_ct_is_clipped_then_standardised_with_the_datasets_values():
    image = image_of()
    expected = (np.clip(image.astype(np.float64), -100, 250) - 42) / 31
    assert np.allclose(one(image, CT), expected, atol=1e-5)


def test_zscore_uses_the_images_own_mean_and_std():
    image = image_of().astype(np.float64)
    expected = (image - image.mean()) / image.std()
    assert np.allclose(one(image.astype(np.float32), ZScoreNormalization(masked=False)), expected, atol=1e-4)


def test_masked_zscore_looks_and_acts_only_inside_the_mask():
    image = masked_image()
    normalized = one(image, ZScoreNormalization(masked=True))
    inside = np.zeros(image.shape[1:], bool)
    inside[1:-1, 1:-1, 1:-1] = True
    assert (normalized[:, ~inside] == 0).all()
    for before, after in zip(image, normalized, strict=True):
        values = before[inside].astype(np.float64)
        assert np.allclose(after[inside], (values - values.mean()) / values.std(), atol=1e-4)
    assert normalized[0, 2, 3, 4] != 0  # a hole is inside


def test_masked_zscore_of_an_image_of_zeros_is_zeros():
    assert (one(np.zeros((2, 3, 4, 5), np.float32), ZScoreNormalization(masked=True)) == 0).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567, 3e6])
@pytest.mark.parametrize("name", ["zscore", "masked zscore", "rescale"])
def test_a_constant_image_becomes_zero(name, value):
    assert (one(np.full((1, 9, 11, 7), value, np.float32), EVERY[name]) == 0).all()


def test_a_ct_dataset_of_one_intensity_becomes_zero():
    spec = CtNormalization(lower_hu=40, upper_hu=40, mean_hu=40, std_hu=0)
    assert (one(image_of(), spec) == 0).all()


def test_rescaling_maps_the_range_to_0_and_1():
    image = image_of()
    normalized = one(image, RescaleNormalization())
    assert normalized.min() == 0
    assert normalized.max() == pytest.approx(1)
    assert np.allclose(normalized, (image - image.min()) / np.ptp(image), atol=1e-6)


def test_rgb_is_divided_by_255():
    image = np.array([0, 51, 255], np.float32).reshape(1, 1, 1, 3)
    assert np.allclose(one(image, RgbNormalization()).ravel(), [0, 0.2, 1])


def test_none_changes_nothing():
    assert np.array_equal(one(image_of(), NoNormalization()), image_of())


def test_each_channel_has_its_own_scheme():
    image = masked_image()
    both = normalize(image, [CT, ZScoreNormalization(masked=True)])
    assert np.array_equal(both[0], one(image, CT)[0])
    assert np.array_equal(both[1], one(image, ZScoreNormalization(masked=True))[1])


@pytest.mark.parametrize(
    "spec", [ZScoreNormalization(masked=False), ZScoreNormalization(masked=True), RescaleNormalization()]
)
def test_voxels_that_a_channel_does_not_cover_change_nothing_of_the_others(spec):
    image = np.random.default_rng(3).normal(50, 9, (2, 6, 7, 5)).astype(np.float32)
    covered = np.ones(image.shape[1:], bool)
    covered[:, 4:] = False
    padded = image.copy()
    padded[1][~covered] = -1024
    found = normalize(padded, [spec, spec], (None, covered))
    np.testing.assert_allclose(found[0], normalize(image[:1], [spec])[0], atol=1e-6)
    expected = normalize(image[1:, :, :4], [spec])[0]
    np.testing.assert_allclose(found[1][:, :4], expected, atol=1e-5)
    assert (found[1][~covered] < expected.min()).all()  # changed like them, not left as it was
