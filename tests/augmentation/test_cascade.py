import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.augmentation.seeded import augmented
from tumorseg.augmentation.cascade import OPERATIONS
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.transforms.cascade import PreviousMorphology, PreviousRemoval
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform

ALWAYS = {
    "morphology": PreviousMorphology(probability=1, label_probability=1, largest_radius=2),
    "removal": PreviousRemoval(probability=1, label_probability=1, largest_share=1),
}
SPACES = {"2d": (17, 22), "3d": (9, 16, 13)}


@pytest.fixture(params=ALWAYS)
def transform(request):
    return ALWAYS[request.param]


@pytest.fixture(params=SPACES)
def previous(request):
    return blobs(SPACES[request.param])


def change(previous, record, seed=0):
    """Return the previous segmentations (B, *space) as a transform leaves them."""
    space = tuple(previous.shape[1:])
    layers = torch.stack((torch.zeros_like(previous), previous), dim=1)
    spec = AugmentationSpec(transforms=(record,))
    return augmented(torch.zeros(len(previous), 1, *space), layers, spec, patch_size=space, seed=seed)[1][:, 1]


def blobs(space, batch=4, seed=0):
    """Return (B, *space) class indices 0, 1, 3: smoothed noise cut into blobs."""
    rng = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(rng.normal(size=space), 1.5) for _ in range(batch)]
    return torch.from_numpy(np.stack([np.select([s > 0.15, s > 0.05], [3, 1], 0) for s in smooth]))


def ball(radius, num_axes):
    grid = np.indices((2 * radius + 1,) * num_axes) - radius
    return (grid**2).sum(axis=0) <= radius**2


class TestBothTransforms:
    def test_give_the_labels_that_there_were_and_change_something(self, transform, previous):
        record = transform
        changed = change(previous, record)
        assert (changed.shape, changed.dtype) == (previous.shape, previous.dtype)
        assert set(changed.unique().tolist()) <= {0, 1, 3}
        assert not torch.equal(changed, previous)

    def test_leave_what_they_were_given_alone(self, transform, previous):
        record = transform
        before = previous.clone()
        change(previous, record)
        assert torch.equal(previous, before)

    @pytest.mark.parametrize("field", ["probability", "label_probability"])
    def test_change_nothing_with_probability_0(self, transform, previous, field):
        record = transform
        never = record.model_copy(update={field: 0.0})
        assert torch.equal(change(previous, never), previous)

    def test_are_repeated_by_the_same_seed_alone(self, transform, previous):
        record = transform
        first, again, other = (change(previous, record, seed) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_leave_samples_that_did_not_draw_them_alone(self, transform):
        record = transform
        previous = blobs((9, 11, 8), batch=30)
        changed = change(previous, record.model_copy(update={"probability": 0.3}))
        same = (changed == previous).flatten(1).all(1)
        assert 12 <= same.sum() <= 29

    def test_leave_an_empty_segmentation_empty(self, transform):
        record = transform
        empty = torch.zeros((2, 7, 9, 5), dtype=torch.int64)
        assert torch.equal(change(empty, record), empty)

    def test_touch_the_previous_segmentation_only(self, transform, previous):
        record = transform
        space = tuple(previous.shape[1:])
        images = torch.randn(4, 2, *space)
        maps = torch.stack((previous, previous), dim=1)
        spec = AugmentationSpec(transforms=(record,))
        found, changed = augmented(images, maps, spec, patch_size=space)
        assert torch.equal(found, images)
        assert torch.equal(changed[:, 0], previous)
        assert not torch.equal(changed[:, 1], previous)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("radius", [1, 2, 5])
def test_each_operation_is_scipys_with_a_ball_where_nothing_beyond_the_patch_matters(space, radius):
    mask = np.zeros(space, bool)
    inner = tuple(slice(size // 3, size - size // 4) for size in space)
    mask[inner] = blobs(space)[0].numpy()[inner] > 0
    wide = np.pad(mask, 2 * radius)  # scipy would take what is beyond for background, here it is unknown
    element = ball(radius, len(space))
    expected = [
        operation(wide, element)
        for operation in (
            ndimage.binary_dilation,
            ndimage.binary_erosion,
            ndimage.binary_opening,
            ndimage.binary_closing,
        )
    ]
    for ours, theirs in zip(OPERATIONS, expected, strict=True):
        assert np.array_equal(ours(torch.from_numpy(wide), radius).numpy(), theirs)


def test_a_label_that_reaches_the_edge_of_the_patch_is_not_eroded_from_there():
    mask = torch.zeros(6, 9, dtype=torch.bool)
    mask[:, :5] = True
    eroded = OPERATIONS[1](mask, 2)
    assert eroded[:, :3].all()
    assert not eroded[:, 3:].any()


def test_a_label_that_grows_replaces_others_and_one_that_is_gone_does_not_come_back():
    previous = torch.zeros(1, 9, 9, dtype=torch.int64)
    previous[0, 4, 4], previous[0, 4, 5] = 2, 1
    transform = PreviousMorphology(probability=1, label_probability=1, least_radius=8, largest_radius=8)
    found = {tuple(change(previous, transform, seed).unique().tolist()) for seed in range(12)}
    assert (1,) in found or (2,) in found
    assert all(set(values) <= {0, 1, 2} for values in found)


def test_cutting_out_the_label_first_changes_no_result():
    previous = torch.zeros(1, 40, 41, 19, dtype=torch.int64)
    previous[0, 15:22, 17:30, 5:9] = 1
    previous[0, 17:19, 20:22, 7] = 0
    for seed in range(8):
        transform = PreviousMorphology(probability=1, label_probability=1, least_radius=3, largest_radius=3)
        changed = change(previous, transform, seed)[0]
        whole = [operation(previous[0] == 1, 3) for operation in OPERATIONS]
        assert any(torch.equal(changed == 1, expected) for expected in whole)


def test_one_whole_component_is_removed_and_never_a_large_one():
    previous = torch.zeros(1, 20, 20, dtype=torch.int64)
    previous[0, 1:3, 1:3] = previous[0, 3, 3] = previous[0, 15, 15] = 1  # the first two touch at a corner
    previous[0, 8:12] = 2  # a fifth of the patch
    transform = PreviousRemoval(probability=1, label_probability=1)
    left = set()
    for seed in range(20):
        changed = change(previous, transform, seed)
        assert torch.equal(changed == 2, previous == 2)
        left.add(int((changed == 1).sum()))
    assert left == {1, 5}


def test_the_least_radius_is_not_above_the_largest():
    with pytest.raises(ValueError, match="least_radius 5 is above largest_radius 4"):
        PreviousMorphology(least_radius=5, largest_radius=4)


@pytest.mark.parametrize("in_plane", [False, True])
def test_rotation_zoom_and_mirroring_move_the_previous_segmentation_with_the_reference(in_plane):
    angles = (180.0, 0.0, 0.0) if in_plane else (40.0, 30.0, 20.0)
    spec = AugmentationSpec(
        transforms=(
            SpatialTransform(rotation_deg=angles, rotation_probability=1, scaling_probability=1, in_plane=in_plane),
            MirrorTransform(axes=(0, 1, 2)),
        )
    )
    patch = (7, 12, 9)
    source = (14, 24, 19)
    reference = blobs(source, batch=6)
    previous = blobs(source, batch=6, seed=1)
    images = torch.randn(6, 1, *reference.shape[1:])

    def run(maps):
        return augmented(images, maps, spec, patch_size=patch, seed=4)

    moved, both = run(torch.stack((reference, previous), dim=1))
    alone = [run(maps) for maps in (reference, previous)]
    assert torch.equal(moved, alone[0][0])
    assert torch.equal(both[:, 0], alone[0][1])
    assert torch.equal(both[:, 1], alone[1][1])
