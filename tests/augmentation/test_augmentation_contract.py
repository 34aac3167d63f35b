"""What every transform of the registry promises."""

from typing import get_args

import pytest
import torch

from tests.augmentation.seeded import augmented, draws_of, facts_of, needs_ct, sample_of
from tumorseg.augmentation.patches import AugmentedPatch
from tumorseg.augmentation.pipeline import Augmentation
from tumorseg.augmentation.presets import augmentation_preset
from tumorseg.augmentation.registry import TRANSFORMS
from tumorseg.errors import PlanError
from tumorseg.schema.augmentation import AugmentationSpec, KnownTransform
from tumorseg.schema.transforms.acquisition import MissingChannel, ReducedFov
from tumorseg.schema.transforms.base import ImageTransform, Range
from tumorseg.schema.transforms.ct import HuShift, Streaks
from tumorseg.schema.transforms.histograms import Clahe, HistogramEqualization
from tumorseg.schema.transforms.intensity import Brightness, Contrast, Gamma, GaussianNoise
from tumorseg.schema.transforms.mr import BiasField, Ghosting, Gibbs, Motion, RicianNoise, SliceJumps, Spikes
from tumorseg.schema.transforms.resolution import GaussianBlur, LowResolution, ThickSlices
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform

PATCHES = {"2d": (9, 14), "3d": (5, 12, 9)}
LABELS = (-1, 0, 1, 4)


def always(num_axes):
    """Return each transform such that it changes every sample, and each with probability 0."""
    angles = (40.0,) if num_axes == 2 else (40.0, 20.0, 30.0)
    no_turn = {"rotation_deg": angles, "rotation_probability": 0, "scaling_probability": 0}
    transforms = {
        "spatial": SpatialTransform(rotation_deg=angles, rotation_probability=1, scaling_probability=1),
        "rotation": SpatialTransform(rotation_deg=angles, rotation_probability=1, scaling_probability=0),
        "scaling": SpatialTransform(rotation_deg=angles, rotation_probability=0, scaling_probability=1),
        "elastic": SpatialTransform(**no_turn, elastic_probability=1, elastic_magnitude=Range(low=1, high=2)),
        "mirror": MirrorTransform(axes=tuple(range(num_axes)), probability=0.5),
        "gaussian_noise": GaussianNoise(probability=1, std=Range(low=0.1, high=0.2)),
        "brightness": Brightness(probability=1),
        "contrast": Contrast(probability=1),
        "hu_shift": HuShift(probability=1),
        "streaks": Streaks(probability=1),
        "clahe": Clahe(probability=1),
        "histogram_equalization": HistogramEqualization(probability=1),
        "missing_channel": MissingChannel(probability=1, channel_probability=1),
        "reduced_fov": ReducedFov(probability=1),
        "gaussian_blur": GaussianBlur(probability=1, channel_probability=1),
        "low_resolution": LowResolution(probability=1, channel_probability=1, zoom=Range(low=0.5, high=0.7)),
        "gamma": Gamma(probability=1),
        "inverted gamma": Gamma(probability=1, inverted=True),
        "thick_slices": ThickSlices(probability=1),
        "bias_field": BiasField(probability=1),
        "rician_noise": RicianNoise(probability=1),
        "motion": Motion(probability=1),
        "ghosting": Ghosting(probability=1),
        "gibbs": Gibbs(probability=1),
        "spikes": Spikes(probability=1),
        "slice_jumps": SliceJumps(probability=1),
    }
    if num_axes == 3:
        in_plane = {"rotation_deg": (180.0, 0.0, 0.0), "rotation_probability": 1, "scaling_probability": 1}
        transforms["in_plane"] = SpatialTransform(**in_plane, in_plane=True)
        transforms["low_resolution in_plane"] = transforms["low_resolution"].changed(in_plane=True)
    return transforms


def never(transform):
    fields = {name: 0.0 for name in type(transform).model_fields if name.endswith("probability")}
    return transform.model_copy(update=fields)


CASES = [(name, axes) for axes in PATCHES for name in always(len(PATCHES[axes]))]


def built(case):
    name, axes = case
    return name, always(len(PATCHES[axes]))[name], PATCHES[axes]


@pytest.fixture(params=CASES, ids=lambda case: " ".join(case))
def case(request):
    return built(request.param)


def batch_of(source, batch=3, channels=2):
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(batch, channels, *source, generator=generator)
    segmentations = torch.tensor(LABELS)[torch.randint(0, len(LABELS), (batch, *source), generator=generator)]
    return images, segmentations.to(torch.int16)


def run(transforms, batch, patch, seed=0, maps=None):
    spec = AugmentationSpec(transforms=transforms)
    return augmented(*batch, spec, patch_size=patch, seed=seed, maps=maps)


def widest(transform, patch):
    """Return a source that holds whatever the transform draws."""
    augmentation = Augmentation(AugmentationSpec(transforms=(transform,)), facts_of(patch, has_ct=needs_ct(transform)))
    return tuple(
        max(sizes)
        for sizes in zip(*(augmentation.source_size(augmentation.draw(seed)) for seed in range(3)), strict=True)
    )


def cropped(batch, patch):
    return run((), batch, patch)


class TestEveryTransform:
    def test_gives_the_patch_in_unchanged_types(self, case):
        _, transform, patch = case
        source = widest(transform, patch)
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
        assert torch.equal(after[1], before[1]) != (transform.moves_voxels or transform.changes_labels)

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

    def test_a_draw_says_all_that_is_random(self, case):
        _, transform, patch = case
        augmentation = Augmentation(
            AugmentationSpec(transforms=(transform,)), facts_of(patch, has_ct=needs_ct(transform))
        )
        images, segmentations = batch_of(patch)
        draws = augmentation.draw(1)
        first, again = (augmentation.apply(sample_of(images[0], segmentations[0]), draws) for _ in range(2))
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))

    def test_what_was_drawn_can_be_read(self, case):
        _, transform, _ = case
        if isinstance(transform, MirrorTransform):
            pytest.skip("nothing is drawn where no axis is flipped")
        draw = draws_of(transform, 1, patch_size=case[2], has_ct=needs_ct(transform))[0]
        assert isinstance(draw, tuple)
        assert draw._fields

    def test_maps_move_along_where_voxels_move(self, case):
        _, transform, patch = case
        images, segmentations = batch_of(patch)
        maps = segmentations.float().unsqueeze(1)
        moved = run((transform,), (images, segmentations), patch, maps=maps)[2]
        assert torch.equal(moved, maps) != transform.moves_voxels

    def test_only_the_channels_that_are_named_change(self, case):
        _, transform, patch = case
        if not isinstance(transform, ImageTransform):
            pytest.skip("it moves all channels alike")
        batch = batch_of(patch)
        images, _ = run((transform.changed(channels=(1,)),), batch, patch)
        assert torch.equal(images[:, 0], batch[0][:, 0])
        assert not torch.equal(images[:, 1], batch[0][:, 1])

    def test_channels_that_are_not_there_are_refused(self, case):
        _, transform, patch = case
        if not isinstance(transform, ImageTransform):
            pytest.skip("it names no channels")
        with pytest.raises(PlanError, match=r"channels are \(2,\); images have channels 0 to 1"):
            run((transform.changed(channels=(2,)),), batch_of(patch), patch)

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
        source = widest(transform, patch)
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
def test_the_usual_augmentation_leaves_its_input_alone_and_repeats_itself(patch):
    normalization = facts_of(patch).normalization
    kinds = ("mr",) * len(normalization)
    axes = tuple(range(len(patch)))
    shown = AugmentedPatch(patch_size=patch, mirroring_axes=axes, kinds=kinds, normalization=normalization)
    spec = augmentation_preset("nnunet", shown)
    batch = batch_of(tuple(2 * size for size in patch), batch=30)
    before = [tensor.clone() for tensor in batch]
    first, again = (run(spec.transforms, batch, patch) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(batch, before, strict=True))


def test_every_record_of_the_schema_says_whether_it_moves_voxels():
    for record in get_args(KnownTransform):
        assert isinstance(record.moves_voxels, bool)
        assert isinstance(record.changes_labels, bool)


def test_registry_and_schema_name_the_same_transforms():
    names = {record.model_fields["name"].default for record in get_args(KnownTransform)}
    assert names == set(TRANSFORMS)
    # test_cascade.py, test_outside.py and test_copy_paste.py have the promises of these.
    elsewhere = {"previous_morphology", "previous_removal", "zero_outside", "copy_paste"}
    assert names <= {transform.name for _, transform, _ in map(built, CASES)} | elsewhere
