"""What lies outside the body, through transforms that move voxels and through those that change intensities."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.augmentation.seeded import sample_of
from tumorseg.augmentation.outside import OutsideDraw, body_of
from tumorseg.augmentation.pipeline import Augmentation
from tumorseg.errors import PlanError
from tumorseg.ops.resampling import axis_orders, resample_image
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.extensions import External
from tumorseg.schema.preprocessing import ZScoreNormalization
from tumorseg.schema.transforms.base import PatchFacts, Range
from tumorseg.schema.transforms.histograms import HistogramEqualization
from tumorseg.schema.transforms.intensity import Contrast, Gamma, GaussianNoise, ZeroOutside
from tumorseg.schema.transforms.mr import Ghosting, Gibbs, Motion
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform

MASKED, PLAIN = ZScoreNormalization(masked=True), ZScoreNormalization(masked=False)
SPACES = {"2d": (24, 31), "3d": (13, 24, 19)}


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]


def head(space):
    """Return an image (2, *space) that is 0 outside an ellipsoid off the centre, and the ellipsoid."""
    grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in space), indexing="ij")
    inside = torch.from_numpy(sum((axis - 0.1) ** 2 for axis in grid) < 0.6)
    return torch.randn(2, *space, generator=torch.Generator().manual_seed(1)) * inside, inside


def run(image, transforms, normalization, segmentation=None, patch=None):
    """Return the augmented sample."""
    space = tuple(image.shape[1:])
    augmentation = Augmentation(AugmentationSpec(transforms=transforms), PatchFacts(patch or space, normalization))
    labels = torch.zeros(space, dtype=torch.int64) if segmentation is None else segmentation
    return augmentation.apply(sample_of(image, labels), augmentation.draw(3))


def test_outside_the_body_images_are_0_again(space):
    image, inside = head(space)
    changes = (GaussianNoise(probability=1, std=Range(low=1, high=1)), Gamma(probability=1), Contrast(probability=1))
    without = run(image, changes, (MASKED, MASKED)).image
    found = run(image, (*changes, ZeroOutside()), (MASKED, MASKED)).image
    assert (without[:, ~inside] != 0).all()
    assert (found[:, ~inside] == 0).all()
    assert torch.equal(found[:, inside], without[:, inside])


def test_channels_that_are_normalised_as_a_whole_stay(space):
    image, inside = head(space)
    noise = GaussianNoise(probability=1, std=Range(low=1, high=1))
    found = run(image, (noise, ZeroOutside()), (PLAIN, MASKED)).image
    assert (found[0] != 0).all()
    assert (found[1, ~inside] == 0).all()


def test_the_body_moves_along(space):
    image, inside = head(space)
    angles = (50.0,) if len(space) == 2 else (30.0, 20.0, 40.0)
    turn = SpatialTransform(rotation_deg=angles, rotation_probability=1, scaling_probability=1)
    flip = MirrorTransform(axes=(0, 1), probability=1)
    noise = GaussianNoise(probability=1, std=Range(low=1, high=1))
    found = run(image, (turn, flip, noise, ZeroOutside()), (MASKED, MASKED), inside.long())
    # Labels go where the largest share is, the body where over half is.
    agree = (found.image[0] != 0) == (found.segmentation[0] == 1)
    assert agree.float().mean() > 0.995
    assert found.maps.shape == (0, *space)


def test_beyond_the_source_is_outside():
    ones = torch.ones(1, 12, 12)
    out = SpatialTransform(
        rotation_deg=(0,), rotation_probability=0, scaling_probability=1, scaling=Range(low=2, high=2)
    )
    noise = GaussianNoise(probability=1, std=Range(low=1, high=1))
    found = run(ones, (out, noise, ZeroOutside()), (MASKED,)).image[0]
    assert (found[3:9, 3:9] != 0).all()
    assert (found != 0).sum() == 36


def test_holes_of_the_body_that_are_not_0_stay_and_labels_are_in_the_body(space):
    image, inside = head(space)
    image[:, inside] += 10  # no voxel of the body is near 0
    middle = tuple(size // 2 for size in space)
    image[:, *middle] = 0.01
    labels = torch.zeros(space, dtype=torch.int64)
    labels[*(0 for _ in space)] = 2
    body = body_of(sample_of(image, labels), OutsideDraw((0, 1)), PatchFacts(space, (MASKED, MASKED)))[0]
    expected = inside.clone()
    expected[*(0 for _ in space)] = True
    assert torch.equal(body == 1, expected)


def test_ripples_of_splines_are_outside():
    image, inside = head((13, 24, 19))
    fine = np.stack([ndimage.zoom(channel + 3 * inside.numpy(), 1.6, order=3) for channel in image.numpy()])
    body = body_of(
        sample_of(torch.from_numpy(fine), torch.zeros(fine.shape[1:], dtype=torch.int64)),
        OutsideDraw((0, 1)),
        PatchFacts(fine.shape[1:], (MASKED, MASKED)),
    )
    expected = ndimage.zoom(inside.numpy().astype(np.float32), 1.6, order=1) > 0
    near = ndimage.binary_dilation(expected, iterations=6)
    assert (fine[:, ~near] != 0).any()
    assert not body[0].numpy()[~near].any()
    assert body[0].numpy()[ndimage.binary_erosion(expected, iterations=2)].all()


@pytest.mark.parametrize(
    ("record", "normalization", "message"),
    [
        (ZeroOutside(), (PLAIN, PLAIN), "no channel is"),
        (ZeroOutside(channels=(0,)), (PLAIN, MASKED), r"channels are \(0,\); normalised within .* are \(1,\)"),
    ],
)
def test_channels_that_have_no_mask_are_refused(record, normalization, message):
    with pytest.raises(PlanError, match=message):
        Augmentation(AugmentationSpec(transforms=(record,)), PatchFacts((8, 8), normalization))


def test_another_packages_transform_may_not_come_before():
    other = External(name="add_offset", parameters={}, distribution="add-offset", version="2.0")
    with pytest.raises(PlanError, match=r"zero_outside comes after add_offset.*; put zero_outside first"):
        Augmentation(AugmentationSpec(transforms=(other, ZeroOutside())), PatchFacts((8, 8), (MASKED,)))


def test_two_of_them_take_a_map_each(space):
    image, inside = head(space)
    noise = GaussianNoise(probability=1, std=Range(low=1, high=1))
    both = (noise, ZeroOutside(channels=(0,)), noise, ZeroOutside(channels=(1,)))
    found = run(image, both, (MASKED, MASKED))
    assert (found.image[1, ~inside] == 0).all()
    assert (found.image[0, ~inside] != 0).all()  # the second noise comes after
    assert found.maps.shape == (0, *space)


RIPPLED = {
    "ghosting": Ghosting(probability=1),
    "gibbs": Gibbs(probability=1),
    "histogram_equalization": HistogramEqualization(probability=1),
    "motion": Motion(probability=1),
}


@pytest.mark.parametrize("name", RIPPLED)
def test_artefacts_take_the_ripples_of_resampling_for_what_they_were(name):
    image, inside = head((40, 48, 44))
    finer = (48, 56, 52)
    rippled = torch.from_numpy(resample_image(image.numpy() * 2 + inside.numpy(), finer, axis_orders(3, None, 0)))
    assert (rippled == 0).float().mean() < 0.3  # splines reach far
    body = body_of(sample_of(rippled, torch.zeros(finer, dtype=torch.int64)), OutsideDraw((0, 1)), None)[0] > 0.5
    transforms = (RIPPLED[name], ZeroOutside())
    found, expected = (run(one, transforms, (MASKED, MASKED)).image for one in (rippled, rippled * body))
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found, rippled * body)  # it did something
