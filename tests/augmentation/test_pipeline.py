"""The list of transforms as a whole, and transforms of other packages."""

import pytest
import torch

from tests.augmentation.seeded import augmented, facts_of
from tumorseg.augmentation.pipeline import Augmentation
from tumorseg.augmentation.samples import Sample
from tumorseg.errors import InputError, PlanError
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.extensions import External
from tumorseg.schema.transforms.base import Range
from tumorseg.schema.transforms.intensity import Brightness
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform

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


def test_transforms_run_in_their_order():
    affine = SpatialTransform(
        rotation_deg=(0,), rotation_probability=0, scaling_probability=1, scaling=Range(low=2, high=2)
    )
    bright = Brightness(probability=1, factor=Range(low=2, high=2))
    images = torch.ones(1, 1, 8, 8)
    torch.testing.assert_close(run((bright, affine), images, (4, 4))[0], 2 * torch.ones(1, 1, 4, 4))
    assert run((affine, bright), images, (4, 4))[0].shape == (1, 1, 4, 4)


def test_two_spatial_transforms_are_refused():
    twice = (SpatialTransform(rotation_deg=(10,)),) * 2
    with pytest.raises(PlanError, match="spatial stands twice"):
        run(twice, torch.ones(1, 1, 12, 12), (6, 6))


def test_double_precision_images_stay_so():
    affine = SpatialTransform(rotation_deg=(10,), rotation_probability=1)
    assert run((affine, Brightness(probability=1)), ramp(9, 9).double(), (6, 6))[0].dtype == torch.float64


def test_autocast_does_not_round_positions():
    affine = SpatialTransform(rotation_deg=(170,), rotation_probability=1)
    expected = run((affine,), ramp(40, 40), (30, 30))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = run((affine,), ramp(40, 40), (30, 30))
    assert all(torch.equal(a, b) for a, b in zip(under_autocast, expected, strict=True))


@pytest.mark.parametrize(
    ("labels", "patch"), [((1, 6, 6), (5, 5)), ((1, 5, 6), (6, 6)), ((1, 5, 6), (5, 5, 5)), ((1, 1, 5, 6), (5, 5))]
)
def test_shapes_that_do_not_fit_are_named(labels, patch):
    augmentation = Augmentation(AugmentationSpec(), facts_of(patch))
    sample = Sample(torch.zeros(1, 5, 6), torch.zeros(labels, dtype=torch.int16), torch.zeros(0, 5, 6))
    with pytest.raises(InputError) as raised:
        augmentation.apply(sample, augmentation.draw(0))
    for part in ((1, 5, 6), labels, patch):
        assert str(part) in str(raised.value)


@pytest.mark.parametrize(
    ("transform", "patch", "message"),
    [
        (SpatialTransform(rotation_deg=(1, 1)), (4, 4), "2 angles for 2 axes"),
        (SpatialTransform(rotation_deg=(1,)), (4, 4, 4), "1 angles for 3 axes"),
        (SpatialTransform(rotation_deg=(1,), in_plane=True), (4, 4), "in_plane"),
        (MirrorTransform(axes=(0, 2)), (4, 4), r"mirror\.axes are \(0, 2\)"),
        (MirrorTransform(axes=(-1,)), (4, 4), "0 to 1"),
    ],
)
def test_transforms_for_another_number_of_axes_are_plan_errors(transform, patch, message):
    with pytest.raises(PlanError, match=message):
        Augmentation(AugmentationSpec(transforms=(transform,)), facts_of(patch))


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
def test_an_external_transform_has_a_generator_for_each_sample():
    images = torch.zeros(3, 1, 4, 4)
    first, again = (run((external(noise=1.0),), images, (4, 4))[0] for _ in range(2))
    assert torch.equal(first, again)
    assert len(first.unique()) == 3


@pytest.mark.usefixtures("installed")
def test_transforms_of_other_packages_cannot_move_maps_along():
    images, labels = torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    spec = AugmentationSpec(transforms=(external(),))
    with pytest.raises(PlanError, match='"distance_maps": "device"'):
        augmented(images, labels, spec, patch_size=(4, 4), maps=images)


def test_a_patch_that_is_not_turned_reads_no_margin():
    spec = AugmentationSpec(transforms=(SpatialTransform(rotation_deg=(30,), rotation_probability=0.5),))
    augmentation = Augmentation(spec, facts_of((40, 50)))
    sizes = {draws[0] is None: augmentation.source_size(draws) for draws in map(augmentation.draw, range(30))}
    assert sizes[True] == (40, 50)
    assert sizes[False] > (40, 50)


def test_a_sample_that_is_nobody_elses_may_be_overwritten_and_gives_the_same():
    augmentation = Augmentation(AugmentationSpec(transforms=(Brightness(probability=1),)), facts_of((8, 9), 1))
    draws = augmentation.draw(1)
    given = [Sample(ramp(8, 9)[0], torch.zeros(1, 8, 9, dtype=torch.int16), torch.zeros(0, 8, 9)) for _ in range(2)]
    kept, taken = augmentation.apply(given[0], draws), augmentation.apply(given[1], draws, overwrites=True)
    assert all(torch.equal(one, other) for one, other in zip(kept, taken, strict=True))
    assert torch.equal(given[0].image, ramp(8, 9)[0])
    assert torch.equal(given[1].image, taken.image)
