"""Rotation, zoom and mirroring against exact cases."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.augmentation.seeded import augmented, draws_of, facts_of, sample_of
from tumorseg.augmentation.lookup import ElasticDraw, SpatialDraw, matrix_of
from tumorseg.augmentation.samples import center_crop
from tumorseg.augmentation.spatial import apply_spatial, spatial_source_size
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.transforms.base import Range
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def turned(image, patch, *, degrees, scaling=1.0, in_plane=False, labels=None, elastic=None):
    """Apply exactly these angles and this scaling to an image (C, *source); return image and labels."""
    draw = SpatialDraw(tuple(degrees), scaling, elastic, in_plane)
    segmentation = torch.zeros(image.shape[1:], dtype=torch.int64) if labels is None else labels
    moved = apply_spatial(sample_of(image, segmentation), draw, facts_of(patch, len(image)))
    return moved.image, moved.segmentation[0]


def test_a_quarter_turn_in_2d_is_rot90():
    image = noise(2, 7, 7)
    found, _ = turned(image, (7, 7), degrees=(90,))
    assert any(torch.allclose(found, torch.rot90(image, k, (1, 2)), atol=1e-4) for k in (1, 3))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quarter_turn_about_an_axis_leaves_that_axis_alone(axis):
    image = noise(1, 5, 5, 5)
    degrees = tuple(90.0 if other == axis else 0.0 for other in range(3))
    found, _ = turned(image, (5, 5, 5), degrees=degrees)
    plane = tuple(1 + other for other in range(3) if other != axis)
    assert any(torch.allclose(found, torch.rot90(image, k, plane), atol=1e-4) for k in (1, 3))


def test_no_turn_and_scaling_1_is_the_centre_for_even_and_odd_margins():
    image = noise(2, 9, 12, 8)
    same, _ = turned(image, (6, 9, 8), degrees=(0.0,) * 3)
    torch.testing.assert_close(same, center_crop(image, (6, 9, 8)), atol=1e-5, rtol=0)


def scipys(image, patch, *, degrees, scaling):
    """Return an image (*source) at the same places, and the weights of labels there."""
    matrix = matrix_of(SpatialDraw(degrees, scaling, None, False))
    middle = [(a - b) // 2 + (b - 1) / 2 for a, b in zip(image.shape, patch, strict=True)]
    offset = middle - matrix @ [(size - 1) / 2 for size in patch]
    return ndimage.affine_transform(
        image.astype(np.float64), matrix, offset, output_shape=patch, order=1, mode="grid-constant"
    )


GENERAL = [
    ((14, 11, 12), (8, 5, 7), 0.8, (25.0, -10.0, 40.0)),
    ((14, 11, 12), (8, 5, 7), 1.3, (0.0, 30.0, -5.0)),
    ((14, 11, 12), (16, 15, 17), 1.4, (30.0, 30.0, -30.0)),
    ((14, 11), (16, 15), 1.4, (33.0,)),
]


@pytest.mark.parametrize(("source", "patch", "scaling", "degrees"), GENERAL)
def test_a_general_transform_of_images_equals_scipy(source, patch, scaling, degrees):
    image = noise(1, *source)
    expected = scipys(image[0].numpy(), patch, degrees=degrees, scaling=scaling)
    ours, _ = turned(image, patch, degrees=degrees, scaling=scaling)
    torch.testing.assert_close(ours[0].double(), torch.from_numpy(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("source", "patch", "scaling", "degrees"), GENERAL)
def test_labels_are_those_of_the_largest_share(source, patch, scaling, degrees):
    values = torch.tensor((-1, 0, 2, 5))
    labels = values[(ndimage.zoom(noise(*source).numpy(), 1, order=1) * 1.5).astype(int).clip(-1, 2) + 1]
    _, found = turned(noise(1, *source), patch, degrees=degrees, scaling=scaling, labels=labels)
    masks = [(labels == value).numpy() for value in values]
    shares = np.stack([scipys(mask, patch, degrees=degrees, scaling=scaling) for mask in masks])
    # What lies beyond the source is a label of its own, and becomes background.
    shares = np.concatenate((shares, 1 - shares.sum(0, keepdims=True)))
    ordered = np.sort(shares, axis=0)
    is_clear = ordered[-1] - ordered[-2] > 1e-4
    expected = np.append(values.numpy(), 0)[shares.argmax(axis=0)]
    assert is_clear.mean() > 0.95
    assert np.array_equal(found.numpy()[is_clear], expected[is_clear])


def test_scaling_above_1_shows_more_smaller():
    image = torch.zeros(1, 21, 21)
    image[..., 6:15, 6:15] = 1
    areas = [turned(image, (21, 21), degrees=(0.0,), scaling=scaling)[0].sum() for scaling in (1.4, 1.0, 0.7)]
    assert areas[0] < areas[1] < areas[2]
    assert areas[0] / areas[1] == pytest.approx(1 / 1.96, rel=0.1)


def test_in_plane_never_mixes_slices():
    image = torch.arange(1.0, 5.0).reshape(1, 4, 1, 1).expand(2, 4, 9, 9)
    labels = image[0].long()
    found, moved = turned(image, (4, 5, 5), degrees=(33.0,), scaling=0.9, in_plane=True, labels=labels)
    torch.testing.assert_close(found, center_crop(image, (4, 5, 5)))
    assert torch.equal(moved, center_crop(labels, (4, 5, 5)))


def test_in_plane_turns_every_slice_alike():
    image = noise(2, 1, 9, 9).expand(2, 3, 9, 9)
    found, _ = turned(image, (3, 5, 5), degrees=(33.0,), scaling=1.1, in_plane=True)
    flat, _ = turned(image[:, 0], (5, 5), degrees=(33.0,), scaling=1.1)
    torch.testing.assert_close(found, flat.unsqueeze(1).expand_as(found))


def test_outside_the_source_images_are_0_and_labels_background():
    still = {"rotation_deg": (0,), "rotation_probability": 0}
    transform = SpatialTransform(**still, scaling_probability=1, scaling=Range(low=2, high=2))
    spec = AugmentationSpec(transforms=(transform,))
    ones = torch.ones(2, 1, 8, 8)
    images, labels = augmented(ones, ones[:, 0].long() * 3, spec, patch_size=(8, 8))
    assert (labels[:, 0] == 0).all()
    assert (images[:, 0, 0] == 0).all()
    assert (labels[:, 3:5, 3:5] == 3).all()


def test_angles_and_scalings_stay_in_their_ranges_and_fill_them():
    transform = SpatialTransform(rotation_deg=(30, 0, 90), rotation_probability=0.5, scaling_probability=0.25)
    draws = draws_of(transform, 4000)
    drawn = [draw for draw in draws if draw is not None]
    degrees = torch.tensor([draw.angles_deg for draw in drawn])
    assert degrees.abs().amax(0).tolist() == pytest.approx([30, 0, 90], abs=0.1)
    assert (degrees[:, 2] != 0).sum().item() / 4000 == pytest.approx(0.5, abs=0.03)
    scalings = torch.tensor([draw.scaling for draw in drawn if draw.scaling != 1])
    assert len(scalings) / 4000 == pytest.approx(0.25, abs=0.03)
    # Uniform over all of it, unlike factors of intensities.
    assert scalings.mean().item() == pytest.approx(1.05, abs=0.02)
    assert (scalings.min().item(), scalings.max().item()) == pytest.approx((0.7, 1.4), abs=0.01)
    assert len(drawn) / 4000 == pytest.approx(1 - 0.5 * 0.75, abs=0.03)


def test_in_plane_has_the_first_axis_angle_alone():
    transform = SpatialTransform(rotation_deg=(180, 30, 30), rotation_probability=1, in_plane=True)
    assert len(draws_of(transform, 1)[0].angles_deg) == 1


@pytest.mark.parametrize(
    ("patch", "draw"),
    [
        ((12, 20), SpatialDraw((33.0,), 1.4, None, False)),
        ((12, 20), SpatialDraw((180.0,), 0.7, None, False)),
        ((9, 12, 15), SpatialDraw((30.0, -30.0, 30.0), 1.4, None, False)),
        ((4, 12, 15), SpatialDraw((77.0,), 1.2, None, True)),
        ((9, 12, 15), SpatialDraw((0.0, 0.0, 0.0), 1.0, ElasticDraw((2.0, 2.0, 2.0), (3.0, 2.0, 1.0), 4), False)),
    ],
)
def test_the_source_region_holds_all_that_is_looked_at_and_little_more(patch, draw):
    facts = facts_of(patch, 1)
    source = spatial_source_size(draw, facts)
    ones = apply_spatial(sample_of(torch.ones(1, *source), torch.ones(source, dtype=torch.int64)), draw, facts)
    torch.testing.assert_close(ones.image, torch.ones(1, *patch))
    assert (ones.segmentation == 1).all()
    if draw.elastic is None:
        smaller = tuple(size - 4 if size > wanted else size for size, wanted in zip(source, patch, strict=True))
        if min(smaller) > 0 and smaller != source and all(a >= b for a, b in zip(smaller, patch, strict=True)):
            image = torch.ones(1, *smaller)
            cut = apply_spatial(sample_of(image, image[0].long()), draw, facts)
            assert (cut.image < 0.999).any()


def test_a_deformation_moves_voxels_smoothly_by_its_magnitude_at_most():
    places = torch.stack(torch.meshgrid(*(torch.arange(30.0),) * 2, indexing="ij"))
    draw = ElasticDraw((4.0, 4.0), (3.0, 3.0), 1)
    found, _ = turned(places, (20, 20), degrees=(0.0,), elastic=draw)
    moved = found - center_crop(places, (20, 20))
    assert 1.5 < moved.abs().max() <= 4.5  # the mean displacement is taken off
    assert moved.diff(dim=1).abs().max() < 1.5
    assert moved.mean().abs() < 0.05


def test_mirroring_flips_the_axes_named_alone():
    images = noise(16, 1, 3, 4, 5)
    spec = AugmentationSpec(transforms=(MirrorTransform(axes=(0, 2), probability=1),))
    labels = images[:, 0].mul(10).to(torch.int16)
    flipped, turned = augmented(images, labels, spec, patch_size=(3, 4, 5))
    assert torch.equal(flipped, images.flip(2, 4))
    assert torch.equal(turned, labels.flip(1, 3))


def test_mirroring_draws_each_axis_by_itself():
    images = torch.arange(4.0).reshape(1, 1, 2, 2).expand(200, 1, 2, 2)
    spec = AugmentationSpec(transforms=(MirrorTransform(axes=(0, 1)),))
    flipped, _ = augmented(images, images[:, 0].int(), spec, patch_size=(2, 2))
    counts = flipped[:, 0, 0, 0].int().bincount(minlength=4)
    assert (counts > 30).all()
