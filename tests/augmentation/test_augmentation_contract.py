"""What every transform of the registry promises."""

from typing import get_args

import pytest
import torch

from tests.augmentation.seeded import augmented, generators
from tumorseg.augmentation.pipeline import BUILDERS, Augmentation, source_size
from tumorseg.planning.choices.augmentation import choose_augmentation
from tumorseg.schema.augmentation import (
    AffineTransform,
    AugmentationSpec,
    Brightness,
    Contrast,
    GaussianNoise,
    MirrorTransform,
    Range,
    TransformSpec,
)
from tumorseg.schema.extensions import External

PATCHES = {"2d": (9, 14), "3d": (5, 12, 9)}
LABELS = (-1, 0, 1, 4)


def always(num_axes):
    """Return each transform such that it changes every sample, and each with probability 0."""
    angles = (40.0,) if num_axes == 2 else (40.0, 20.0, 30.0)
    transforms = {
        "affine": AffineTransform(rotation_deg=angles, rotation_probability=1, scaling_probability=1),
        "rotation": AffineTransform(rotation_deg=angles, rotation_probability=1, scaling_probability=0),
        "zoom": AffineTransform(rotation_deg=angles, rotation_probability=0, scaling_probability=1),
        "mirror": MirrorTransform(axes=tuple(range(num_axes)), probability=0.5),
        "gaussian_noise": GaussianNoise(probability=1, std=Range(low=0.1, high=0.2)),
        "brightness": Brightness(probability=1),
        "contrast": Contrast(probability=1),
    }
    if num_axes == 3:
        in_plane = {"rotation_deg": (180.0, 0.0, 0.0), "rotation_probability": 1, "scaling_probability": 1}
        transforms["in_plane"] = AffineTransform(**in_plane, in_plane=True)
    return transforms


def never(transform):
    fields = {name: 0.0 for name in type(transform).model_fields if name.endswith("probability")}
    return transform.model_copy(update=fields)


CASES = [(name, axes) for axes in PATCHES for name in always(len(PATCHES[axes]))]


@pytest.fixture(params=CASES, ids=lambda case: " ".join(case))
def case(request):
    name, axes = request.param
    return name, always(len(PATCHES[axes]))[name], PATCHES[axes]


def batch_of(source, batch=3, channels=2):
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(batch, channels, *source, generator=generator)
    segmentations = torch.tensor(LABELS)[torch.randint(0, len(LABELS), (batch, *source), generator=generator)]
    return images, segmentations.to(torch.int16)


def run(transforms, batch, patch, seed=0):
    spec = AugmentationSpec(transforms=transforms)
    return augmented(*batch, spec, patch_size=patch, seed=seed)


def cropped(batch, patch):
    return run((), batch, patch)


class TestEveryTransform:
    def test_gives_the_patch_in_unchanged_types(self, case):
        _, transform, patch = case
        source = source_size(AugmentationSpec(transforms=(transform,)), patch)
        images, segmentations = run((transform,), batch_of(source), patch)
        assert images.shape == (3, 2, *patch)
        assert segmentations.shape == (3, *patch)
        assert (images.dtype, segmentations.dtype) == (torch.float32, torch.int16)
        assert images.is_contiguous()
        assert segmentations.is_contiguous()
        assert images.isfinite().all()

    def test_labels_come_from_the_input_or_are_background(self, case):
        _, transform, patch = case
        _, segmentations = run((transform,), batch_of(patch), patch)
        assert set(segmentations.unique().tolist()) <= set(LABELS)

    def test_nothing_becomes_ignored_that_was_not(self, case):
        _, transform, patch = case
        images, segmentations = batch_of(patch)
        _, after = run((transform,), (images, segmentations.clamp(min=0)), patch)
        assert after.min() == 0  # the loss does not look again

    def test_changes_something(self, case):
        _, transform, patch = case
        batch = batch_of(tuple(size + 3 for size in patch))
        before, after = cropped(batch, patch), run((transform,), batch, patch)
        assert not torch.equal(after[0], before[0])
        assert torch.equal(after[1], before[1]) != transform.moves_voxels

    def test_probability_0_only_cuts_the_centre(self, case):
        _, transform, patch = case
        batch = batch_of(tuple(size + 3 for size in patch))
        for after, before in zip(run((never(transform),), batch, patch), cropped(batch, patch), strict=True):
            assert torch.equal(after, before)

    def test_the_same_seed_gives_the_same_and_another_seed_does_not(self, case):
        _, transform, patch = case
        batch = batch_of(patch)
        first, again, other = (run((transform,), batch, patch, seed=seed)[0] for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_a_sample_does_not_depend_on_the_batch_around_it(self, case):
        _, transform, patch = case
        augmentation = Augmentation(AugmentationSpec(transforms=(transform,)), patch)
        images, segmentations = batch_of(patch, batch=7)
        whole = augmentation.augment(images, segmentations, generators(7))
        for part in (slice(0, 3), slice(3, 7)):
            alone = augmentation.augment(images[part], segmentations[part], generators(7)[part])
            assert all(torch.equal(one[part], other) for one, other in zip(whole, alone, strict=True))

    def test_maps_move_along_where_voxels_move(self, case):
        _, transform, patch = case
        augmentation = Augmentation(AugmentationSpec(transforms=(transform,)), patch)
        images, segmentations = batch_of(patch)
        maps = segmentations.float().unsqueeze(1)
        _, _, moved = augmentation.augment_with_maps(images, segmentations, maps, generators(3))
        assert torch.equal(moved, maps) != transform.moves_voxels

    def test_inputs_are_left_as_they_were(self, case):
        _, transform, patch = case
        batch = batch_of(patch)
        before = [tensor.clone() for tensor in batch]
        run((transform,), batch, patch)
        assert all(torch.equal(tensor, copy) for tensor, copy in zip(batch, before, strict=True))

    def test_only_the_samples_that_drew_it_change(self, case):
        _, transform, patch = case
        if isinstance(transform, MirrorTransform):
            pytest.skip("mirroring draws per axis; a sample stays as it is if no axis was drawn")
        fields = {f: 0.3 for f in type(transform).model_fields if f.endswith("probability") and getattr(transform, f)}
        batch = batch_of(patch, batch=24)
        images, _ = run((transform.model_copy(update=fields),), batch, patch)
        same = (images == batch[0]).flatten(1).all(1)
        assert 6 <= same.sum() <= 23

    def test_image_and_labels_stay_aligned(self, case):
        name, transform, patch = case
        if not transform.moves_voxels:
            pytest.skip("labels are left alone, which another test asserts")
        source = source_size(AugmentationSpec(transforms=(transform,)), patch)
        ramps = torch.meshgrid(*(torch.arange(size) for size in source), indexing="ij")
        # A linear image is interpolated exactly, so the nearest label is half a voxel's step away at most per axis.
        labels = (sum(ramps) + 100).to(torch.int16).expand(3, *source)
        images = torch.stack((labels.float(), torch.ones(labels.shape)), dim=1)
        images, segmentations = run((transform,), (images, labels), patch)
        inside = images[:, 1] > 1 - 1e-5  # no zeros from beyond the source in the mean
        assert inside.float().mean() > 0.75
        distance = (images[:, 0] - segmentations)[inside].abs()
        interpolated = name != "mirror"
        assert distance.max() <= (0.5 * len(patch) + 2e-3 if interpolated else 0)


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
def test_a_sample_of_the_usual_augmentation_does_not_depend_on_the_batch_around_it(patch):
    spec = choose_augmentation(patch, range(len(patch)))
    augmentation = Augmentation(spec, patch)
    images, segmentations = batch_of(source_size(spec, patch), batch=60)
    own = generators(60)
    whole = augmentation.augment(images, segmentations, own)
    for number, generator in enumerate(generators(60)):
        sample = slice(number, number + 1)
        alone = augmentation.augment(images[sample], segmentations[sample], [generator])
        assert all(torch.equal(one[sample], other) for one, other in zip(whole, alone, strict=True))


def test_every_record_of_the_schema_says_whether_it_moves_voxels():
    records = [record for record in get_args(get_args(TransformSpec)[0]) if record is not External]
    assert all(isinstance(vars(record)["moves_voxels"], bool) for record in records)


def test_registry_and_schema_name_the_same_transforms():
    records = get_args(get_args(TransformSpec)[0])
    names = {record.model_fields["name"].default for record in records if record is not External}
    assert names == set(BUILDERS)
    on_previous = {"previous_morphology", "previous_removal"}  # test_previous.py has their promises
    assert names <= {name for name, _ in CASES} | on_previous
