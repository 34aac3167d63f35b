"""Whether a CT can be in Hounsfield units."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from tumorseg.ops.units import ct_doubt

DATA = Path(__file__).parents[3] / "shared" / "data"
SHAPE = (23, 61, 74)


def patient(seed=0):
    """Return a CT (Z, Y, X) in HU: air, fat around soft tissue, a lung, a vertebra with a dense rim, and a table."""
    rng = np.random.default_rng(seed)
    grid = np.indices(SHAPE, dtype=np.float32)
    across = np.hypot((grid[1] - 29) / 24, (grid[2] - 36) / 31)
    ct = np.full(SHAPE, -1000.0)
    ct[across < 1] = -100
    ct[across < 0.85] = 45
    ct[np.hypot((grid[1] - 25) / 9, (grid[2] - 22) / 7) < 1] = -820
    spine = np.hypot(grid[1] - 42, grid[2] - 36)
    ct[spine < 7] = 900
    ct[spine < 5] = 250
    ct[:, 58:, :] = -600
    ct = ndimage.gaussian_filter(ct, 0.5) + rng.normal(0, 12, SHAPE)
    return np.clip(ct, -1024, 3071).round().astype(np.float32)


def body(ct):
    """Return the mask of what is no air around the patient."""
    grid = np.indices(ct.shape)
    return np.hypot((grid[1] - 29) / 24, (grid[2] - 36) / 31) < 1


def crop(ct):
    """Return soft tissue with neither air nor lung."""
    return ct[:, 22:34, 34:60]


def brain(ct):
    """Return a brain with its ventricles, and 0 where the skull and what is outside were taken away."""
    grid = np.indices(ct.shape)
    radius = np.hypot((grid[1] - 30) / 20, (grid[2] - 36) / 16)
    noise = np.random.default_rng(3).normal(0, 8, ct.shape)
    return np.where(radius < 1, np.where(radius < 0.3, 6, 34) + noise, 0).astype(np.float32)


def window(ct):
    return np.clip((ct + 160) / 400 * 255, 0, 255)


def padded(ct, value):
    """Return a CT whose corners outside a round field of view hold padding."""
    grid = np.indices(ct.shape)
    return np.where(np.hypot((grid[1] - 30) / 34, (grid[2] - 36) / 40) < 1, ct, value).astype(np.float32)


def z_scores(ct, inside):
    return (ct - ct[inside].mean()) / ct[inside].std()


def zoomed(ct):
    return ndimage.zoom(ct, (1.0, 1.3, 0.8), order=3)


@pytest.mark.parametrize(
    "change",
    [
        lambda ct: ct,
        lambda ct: padded(ct, -2000),
        lambda ct: padded(ct, -2048),
        lambda ct: padded(ct, -3024),
        lambda ct: padded(ct, -32768),
        lambda ct: zoomed(padded(ct, -2000)),
        lambda ct: np.clip(ct, -1000, 1000),
        lambda ct: np.where(body(ct), ct, 0),
        lambda ct: np.where(ct > 3000, np.nan, ct) * np.where(ct == ct.max(), np.inf, 1),
        lambda ct: ct[:, 17:33, 17:28],
        lambda ct: ct.transpose(2, 0, 1)[:, ::-1],
        lambda ct: ct[body(ct)],
        lambda ct: np.full_like(ct, 40),
        lambda ct: np.full_like(ct, np.nan),
    ],
    ids=[
        "as it is",
        "padding of -2000",
        "padding of -2048",
        "padding of -3024",
        "padding of -32768",
        "padding, interpolated",
        "cut off at air",
        "masked with 0, with lung",
        "NaN and infinity",
        "lung only",
        "other axes",
        "voxels of a mask",
        "constant",
        "all NaN",
    ],
)
def test_hounsfield_units_raise_no_doubt(change):
    assert ct_doubt(change(patient())) is None


@pytest.mark.parametrize(
    "change",
    [
        crop,
        lambda ct: np.maximum(crop(ct), 5),
        lambda ct: np.where(body(ct) & (ct > -200), ct, 0),
        brain,
        lambda ct: np.clip(ct, -160, 240),
        lambda ct: np.clip(ct, -512, 512),
        lambda ct: ct[:, 36:48, 29:46],
    ],
    ids=["soft tissue", "none negative", "masked without lung", "masked brain", "window", "wide window", "bone"],
)
def test_an_image_without_air_is_no_more_than_a_note(change):
    doubt = ct_doubt(change(patient()))
    assert doubt is not None
    assert not doubt.is_impossible
    assert "without air" in doubt.message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ct: ct + 1024, "intercept is missing"),
        (lambda ct: np.maximum(ct + 1000, 0), "intercept is missing"),
        (lambda ct: ct + 1000, "intercept is missing"),
        (lambda ct: padded(ct + 1024, -2000), "intercept is missing"),
        (lambda ct: zoomed(ct + 1024), "intercept is missing"),
        (lambda ct: crop(ct) + 1024, "intercept is missing"),
        (lambda ct: ct + 32768, "intercept is missing"),
        (lambda ct: ct - 1024, "not of one value"),
        (lambda ct: ct / 1000, "scaled"),
        (lambda ct: np.minimum(ct, 300) / 10, "scaled"),
        (lambda ct: ct / 2 + np.random.default_rng(1).normal(0, 3, SHAPE), "the background near -"),
        (lambda ct: ct * 10, "not of one value"),
        (lambda ct: z_scores(ct, ct > -2000), "scaled"),
        (lambda ct: z_scores(ct, (ct > -150) & (ct < 150)), "scaled"),
        (window, "a picture of 8 bits"),
        (lambda ct: window(ct).astype(np.uint8).astype(np.float32), "a picture of 8 bits"),
        (lambda ct: window(ct) / 255, "scaled"),
        (lambda ct: window(ct) / 127.5 - 1, "scaled"),
        (lambda ct: window(ct) * 16, "nothing below 0 and the background near 0"),
        (lambda ct: np.clip(ct, 0, 80), "nothing below 0 and the background near 0"),
        (lambda ct: np.where(ct == ct.max(), -1e6, ct), "no less than"),
        (lambda ct: np.where(ct == ct.max(), 1e6, ct), "few thousand HU at most"),
        (lambda ct: ct - 5000, "all below -300"),
        (lambda ct: np.abs(ct) * 30, "intercept is missing"),
    ],
)
def test_what_cannot_be_hounsfield_units_is_told(change, words):
    doubt = ct_doubt(change(patient()).astype(np.float32))
    assert doubt is not None
    assert doubt.is_impossible
    assert words in doubt.message
    assert "\n" not in doubt.message


def test_the_extremes_are_those_of_every_voxel():
    ct = np.tile(patient(), (3, 4, 4))
    ct[5, 7, 9], ct[6, 8, 11] = -1023.5, 2999.5
    doubt = ct_doubt(np.maximum(ct, -1000) + 1024)
    assert doubt is not None
    assert "intensities from 24 to 4023.5" in doubt.message


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    "pattern", ["CT_Liver_IRCADb17/image.nii.gz", "Dataset051_*/imagesTr/*_0000.nii.gz", "DICOM/CT*/nifti/image/*.nii*"]
)
def test_real_ct_raises_no_doubt_until_it_is_shifted_or_scaled(pattern):
    import nibabel

    paths = sorted(DATA.glob(pattern))
    assert paths
    for path in paths:
        ct = np.asarray(nibabel.load(path).dataobj, np.float32).T
        assert ct_doubt(ct) is None, path
        for changed in (ct + 1024, ct / 1000, window(ct), np.maximum(ct + 1000, 0)):
            doubt = ct_doubt(changed)
            assert doubt is not None, path
            assert doubt.is_impossible, path
