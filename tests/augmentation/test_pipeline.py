"""The list of transforms as a whole, and transforms of other packages."""

import pytest
import torch

from tests.augmentation.seeded import augmented, generators
from tumorseg.augmentation.pipeline import Augmentation, source_size
from tumorseg.errors import InputError, PlanError
from tumorseg.schema.augmentation import AffineTransform, AugmentationSpec, Brightness, MirrorTransform, Range
from tumorseg.schema.extensions import External

MODULE = """
import torch

def build(parameters):
    def add(images, segmentations, *, generator):
        noise = torch.rand((), generator=generator) * parameters.get("noise", 0.0)
        return images + parameters["offset"] + noise, segmentations
    return add
"""


def run(transforms, images, patch, segmentations=None):
    labels = images[:, 0].to(torch.int16) if segmentations is None else segmentations
    spec = AugmentationSpec(transforms=transforms)
    return augmented(images, labels, spec, patch_size=patch)


def ramp(*space):
    count = torch.tensor(space).prod().item()
    return torch.arange(float(count)).reshape(1, 1, *space)


def test_no_transforms_cut_the_centre():
    images = ramp(5, 6, 7)
    patches, labels = run((), images, (3, 3, 7))
    assert torch.equal(patches, images[:, :, 1:4, 1:4])
    assert torch.equal(labels, patches[:, 0].to(torch.int16))
    assert source_size(AugmentationSpec(), (3, 3, 7)) == (3, 3, 7)


def test_transforms_run_in_their_order():
    affine = AffineTransform(rotation_deg=(0,), scaling_probability=1, scaling=Range(low=0.5, high=0.5))
    bright = Brightness(probability=1, factor=Range(low=2, high=2))
    images = torch.ones(1, 1, 8, 8)
    torch.testing.assert_close(run((bright, affine), images, (4, 4))[0], 2 * torch.ones(1, 1, 4, 4))
    assert run((affine, bright), images, (4, 4))[0].shape == (1, 1, 4, 4)


def test_two_affine_transforms_cut_once():
    affine = AffineTransform(rotation_deg=(10,), rotation_probability=1)
    assert run((affine, affine), torch.ones(1, 1, 12, 12), (6, 6))[0].shape == (1, 1, 6, 6)


def test_double_precision_images_stay_so():
    affine = AffineTransform(rotation_deg=(10,), rotation_probability=1)
    assert run((affine, Brightness(probability=1)), ramp(9, 9).double(), (6, 6))[0].dtype == torch.float64


def test_autocast_does_not_round_positions():
    affine = AffineTransform(rotation_deg=(170,), rotation_probability=1)
    expected = run((affine,), ramp(40, 40), (30, 30))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = run((affine,), ramp(40, 40), (30, 30))
    assert all(torch.equal(a, b) for a, b in zip(under_autocast, expected, strict=True))


@pytest.mark.parametrize(
    ("labels", "patch"),
    [((1, 6, 6), (5, 5)), ((2, 5, 6), (5, 5)), ((1, 5, 6), (6, 6)), ((1, 5, 6), (5, 5, 5)), ((1, 1, 5, 6), (5, 5))],
)
def test_shapes_that_do_not_fit_are_named(labels, patch):
    with pytest.raises(InputError) as raised:
        run((), torch.zeros(1, 1, 5, 6), patch, torch.zeros(labels, dtype=torch.int16))
    for part in ((1, 1, 5, 6), labels, patch):
        assert str(part) in str(raised.value)


@pytest.mark.parametrize(
    ("transform", "patch", "message"),
    [
        (AffineTransform(rotation_deg=(1, 1)), (4, 4), "2 angles for 2 axes"),
        (AffineTransform(rotation_deg=(1,)), (4, 4, 4), "1 angles for 3 axes"),
        (AffineTransform(rotation_deg=(1,), in_plane=True), (4, 4), "in_plane"),
        (MirrorTransform(axes=(0, 2)), (4, 4), r"mirror\.axes are \(0, 2\)"),
        (MirrorTransform(axes=(-1,)), (4, 4), "0 to 1"),
    ],
)
def test_transforms_for_another_number_of_axes_are_plan_errors(transform, patch, message):
    with pytest.raises(PlanError, match=message):
        Augmentation(AugmentationSpec(transforms=(transform,)), patch)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    (tmp_path / "add_offset_module.py").write_text(MODULE)
    info = tmp_path / "add_offset-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: add-offset\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[tumorseg.augmentation]\nadd_offset = add_offset_module:build\n")
    monkeypatch.syspath_prepend(tmp_path)


def external(version="2.0", **parameters):
    return External(
        name="add_offset", parameters={"offset": 3.0} | parameters, distribution="add-offset", version=version
    )


@pytest.mark.usefixtures("installed")
def test_an_external_transform_runs_at_its_place():
    double = Brightness(probability=1, factor=Range(low=2, high=2))
    images = torch.ones(1, 1, 4, 4)
    assert run((double, external()), images, (4, 4))[0].unique().tolist() == [5.0]
    assert run((external(), double), images, (4, 4))[0].unique().tolist() == [8.0]


@pytest.mark.usefixtures("installed")
def test_another_version_is_refused_with_both_named():
    with pytest.raises(PlanError, match=r"add-offset 2\.1, but add-offset 2\.0 is installed"):
        run((external("2.1"),), torch.ones(1, 1, 4, 4), (4, 4))


@pytest.mark.usefixtures("installed")
def test_an_external_transform_sees_one_sample_and_its_generator_at_a_time():
    drawn = Augmentation(AugmentationSpec(transforms=(external(noise=1.0),)), (4, 4))
    images, labels = torch.zeros(3, 1, 4, 4), torch.zeros(3, 4, 4, dtype=torch.int64)
    whole, _ = drawn.augment(images, labels, generators(3))
    alone, _ = drawn.augment(images[2:], labels[2:], generators(3)[2:])
    assert torch.equal(whole[2:], alone)
    assert len(whole.unique()) == 3


@pytest.mark.usefixtures("installed")
def test_transforms_of_other_packages_cannot_move_maps_along():
    moving = Augmentation(AugmentationSpec(transforms=(external(),)), (4, 4))
    images, labels = torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    with pytest.raises(PlanError, match='"distance_maps": "device"'):
        moving.augment_with_maps(images, labels, images, generators(1))
