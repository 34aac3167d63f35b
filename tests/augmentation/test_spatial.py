"""Rotation, zoom and mirroring against exact cases."""

import math

import pytest
import torch
from scipy import ndimage

from tests.augmentation.seeded import augmented, generators
from tumorseg.augmentation.pipeline import source_size
from tumorseg.augmentation.spatial import AffineDraw, _matrices, _resample, center_crop, draw_affine
from tumorseg.schema.augmentation import AffineTransform, AugmentationSpec, MirrorTransform, Range


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def resample(batch, transform, patch, *, degrees, zoom=1.0, mode="bilinear"):
    """Apply exactly these angles and this zoom."""
    angles = torch.tensor([[math.radians(angle) for angle in degrees]])
    draw = AffineDraw(angles, torch.tensor([zoom]), torch.tensor([True]))
    matrices = _matrices(draw, transform, len(patch))
    return _resample(batch, matrices[:, 1:, 1:] if transform.in_plane else matrices, patch, mode=mode)


def test_a_quarter_turn_in_2d_is_rot90():
    image = noise(1, 2, 7, 7)
    turned = resample(image, AffineTransform(rotation_deg=(90,)), (7, 7), degrees=(90,))
    expected = [torch.rot90(image, k, (2, 3)) for k in (1, 3)]
    assert any(torch.allclose(turned, option, atol=1e-4) for option in expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quarter_turn_about_an_axis_leaves_that_axis_alone(axis):
    image = noise(1, 1, 5, 5, 5)
    degrees = tuple(90.0 if other == axis else 0.0 for other in range(3))
    turned = resample(image, AffineTransform(rotation_deg=(90,) * 3), (5, 5, 5), degrees=degrees)
    plane = tuple(2 + other for other in range(3) if other != axis)
    expected = [torch.rot90(image, k, plane) for k in (1, 3)]
    assert any(torch.allclose(turned, option, atol=1e-4) for option in expected)


def test_no_turn_and_zoom_1_is_the_centre_for_even_and_odd_margins():
    image = noise(1, 2, 9, 12, 8)
    patch = (6, 9, 8)
    same = resample(image, AffineTransform(rotation_deg=(9,) * 3), patch, degrees=(0.0,) * 3)
    torch.testing.assert_close(same, center_crop(image, patch), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("zoom", "degrees"), [(0.8, (25.0, -10.0, 40.0)), (1.3, (0.0, 30.0, -5.0))])
def test_a_general_transform_equals_scipy(zoom, degrees):
    image, patch = noise(1, 1, 14, 11, 12), (8, 5, 7)
    transform = AffineTransform(rotation_deg=(90,) * 3)
    draw = AffineDraw(torch.tensor([degrees]).deg2rad(), torch.tensor([zoom]), torch.tensor([True]))
    matrix = _matrices(draw, transform, 3)[0].numpy()
    centres = [torch.tensor([(a - b) // 2 + (b - 1) / 2 for a, b in zip(image.shape[2:], patch, strict=True)])]
    offset = centres[0].numpy() - matrix @ [(size - 1) / 2 for size in patch]
    expected = ndimage.affine_transform(
        image[0, 0].double().numpy(), matrix, offset, output_shape=patch, order=1, mode="grid-constant"
    )
    ours = resample(image, transform, patch, degrees=degrees, zoom=zoom)[0, 0]
    torch.testing.assert_close(ours.double(), torch.from_numpy(expected), atol=1e-4, rtol=0)


def test_zoom_below_1_shows_more_smaller():
    image = torch.zeros(1, 1, 21, 21)
    image[..., 6:15, 6:15] = 1
    transform = AffineTransform(rotation_deg=(0,))
    areas = [resample(image, transform, (21, 21), degrees=(0.0,), zoom=zoom).sum() for zoom in (0.7, 1.0, 1.4)]
    assert areas[0] < areas[1] < areas[2]
    assert areas[0] / areas[1] == pytest.approx(0.49, rel=0.1)


def test_in_plane_never_mixes_slices():
    image = torch.arange(1.0, 5.0).reshape(1, 1, 4, 1, 1).expand(1, 2, 4, 9, 9)
    transform = AffineTransform(rotation_deg=(180, 0, 0), in_plane=True)
    turned = resample(image, transform, (4, 5, 5), degrees=(33.0,), zoom=1.1)
    torch.testing.assert_close(turned, center_crop(image, (4, 5, 5)))


def test_in_plane_turns_every_slice_alike():
    image = noise(1, 2, 1, 9, 9).expand(1, 2, 3, 9, 9)
    transform = AffineTransform(rotation_deg=(180, 0, 0), in_plane=True)
    turned = resample(image, transform, (3, 5, 5), degrees=(33.0,), zoom=0.9)
    flat = resample(image[:, :, 0], AffineTransform(rotation_deg=(180,)), (5, 5), degrees=(33.0,), zoom=0.9)
    torch.testing.assert_close(turned, flat.unsqueeze(2).expand_as(turned))


def test_outside_the_source_images_are_0_and_labels_background():
    transform = AffineTransform(rotation_deg=(0,), scaling_probability=1, scaling=Range(low=0.5, high=0.5))
    spec = AugmentationSpec(transforms=(transform,))
    ones = torch.ones(2, 1, 8, 8)
    images, labels = augmented(ones, ones[:, 0].long() * 3, spec, patch_size=(8, 8))
    assert (labels[:, 0] == 0).all()
    assert (images[:, 0, 0] == 0).all()
    assert (labels[:, 3:5, 3:5] == 3).all()


def test_angles_and_zooms_stay_in_their_ranges_and_fill_them():
    transform = AffineTransform(rotation_deg=(30, 0, 90), rotation_probability=0.5, scaling_probability=0.25)
    draw = draw_affine(transform, 3, [torch.Generator().manual_seed(0)] * 4000)
    degrees = draw.angles.rad2deg()
    assert degrees.abs().amax(0).tolist() == pytest.approx([30, 0, 90], abs=0.1)
    assert (degrees[:, 2] != 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    changed = draw.zooms[draw.zooms != 1]
    assert len(changed) / 4000 == pytest.approx(0.25, abs=0.03)
    assert (changed < 1).float().mean().item() == pytest.approx(0.5, abs=0.06)
    assert (changed.min().item(), changed.max().item()) == pytest.approx((0.7, 1.4), abs=0.01)
    assert torch.equal(draw.changed, (draw.angles != 0).any(1) | (draw.zooms != 1))


def test_in_plane_has_the_first_axis_angle_alone():
    transform = AffineTransform(rotation_deg=(180, 30, 30), rotation_probability=1, in_plane=True)
    assert draw_affine(transform, 3, generators(5)).angles.shape == (5, 1)


@pytest.mark.parametrize(
    ("fields", "patch", "expected"),
    [
        ({"rotation_deg": (30,) * 3}, (128, 128, 128), (206, 206, 206)),
        ({"rotation_deg": (30,) * 3, "scaling_probability": 0}, (128, 128, 128), (175, 175, 175)),
        ({"rotation_deg": (30,) * 3, "rotation_probability": 0}, (17, 34, 51), (20, 40, 60)),
        ({"rotation_deg": (180,), "scaling_probability": 0}, (30, 40), (50, 50)),
        ({"rotation_deg": (180, 0, 0), "in_plane": True, "scaling_probability": 0}, (20, 30, 40), (20, 50, 50)),
        ({"rotation_deg": (0, 0, 0), "in_plane": True}, (20, 34, 51), (20, 40, 60)),
        ({"rotation_deg": (0,), "scaling": Range(low=0.9, high=1.1)}, (36, 45), (40, 50)),
        ({"rotation_deg": (0,), "scaling": Range(low=1.1, high=1.2)}, (36, 45), (36, 45)),
    ],
)
def test_the_source_region_covers_turns_and_zooms(fields, patch, expected):
    assert source_size(AugmentationSpec(transforms=(AffineTransform(**fields),)), patch) == expected


def test_turning_a_patch_out_of_its_source_region_finds_real_voxels():
    patch, transform = (12, 20), AffineTransform(rotation_deg=(180,), rotation_probability=1)
    source = source_size(AugmentationSpec(transforms=(transform,)), patch)
    ones = torch.ones(1, 1, *source)
    for degrees in range(0, 181, 15):
        turned = resample(ones, transform, patch, degrees=(float(degrees),), zoom=0.86)
        torch.testing.assert_close(turned, torch.ones(1, 1, *patch))


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
