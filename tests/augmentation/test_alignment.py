"""Image and labels move together, no label is invented, left stays left."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.augmentation.seeded import facts_of, sample_of
from tumorseg.augmentation.lookup import ElasticDraw, SpatialDraw
from tumorseg.augmentation.pipeline import Augmentation
from tumorseg.augmentation.samples import Sample
from tumorseg.augmentation.spatial import MirrorDraw, apply_mirror, apply_spatial, spatial_source_size
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.transforms.intensity import Brightness, Contrast, Gamma, GaussianNoise
from tumorseg.schema.transforms.resolution import GaussianBlur, LowResolution
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform

VALUES = (-1, 0, 2, 5)
NNUNET = (
    GaussianNoise(),
    GaussianBlur(),
    Brightness(),
    Contrast(),
    LowResolution(),
    Gamma(probability=0.1, inverted=True),
    Gamma(),
)


@st.composite
def spatial_draws(draw):
    """Return a patch and what may be drawn for it."""
    num_axes = draw(st.sampled_from((2, 3)))
    patch = draw(st.tuples(*[st.integers(1, 9)] * num_axes))
    in_plane = num_axes == 3 and draw(st.booleans())
    num_angles = 1 if num_axes == 2 or in_plane else 3
    angles = draw(st.tuples(*[st.sampled_from((0.0, 90.0)) | st.floats(-180, 180)] * num_angles))
    scaling = draw(st.sampled_from((1.0, 2.0)) | st.floats(0.5, 2))
    num_moving = 2 if num_angles == 1 else 3
    magnitudes = draw(st.tuples(*[st.floats(0, 3)] * num_moving))
    elastic = ElasticDraw((1.5,) * num_moving, magnitudes, draw(st.integers(0, 9)))
    return patch, SpatialDraw(angles, scaling, draw(st.sampled_from((None, elastic))), in_plane)


def shares_and_labels(source, seed):
    """Return a sample whose channels are the masks of its labels (2, *source)."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor(VALUES)
    labels = values[torch.randint(0, len(VALUES), (2, *source), generator=generator)]
    masks = torch.stack([(labels[0] == value).float() for value in VALUES])
    return Sample(masks, labels, masks[:1].clone())


@settings(max_examples=60, deadline=None)
@given(spatial_draws(), st.integers(-3, 3), st.integers(0, 99))
def test_each_label_is_that_of_the_largest_share_of_the_image_and_none_is_invented(drawn, margin, seed):
    patch, draw = drawn
    facts = facts_of(patch, len(VALUES))
    needed = spatial_source_size(draw, facts)
    # Sources that are smaller than what is looked at are continued, larger ones cut.
    source = tuple(max(size + margin, edge) for size, edge in zip(needed, patch, strict=True))
    sample = shares_and_labels(source, seed)
    moved = apply_spatial(sample, draw, facts)
    assert {tuple(part.shape[1:]) for part in moved} == {patch}
    assert [part.dtype for part in moved] == [part.dtype for part in sample]
    assert set(moved.segmentation.unique().tolist()) <= {*VALUES, 0}
    torch.testing.assert_close(moved.maps[0], moved.image[0], atol=1e-5, rtol=0)
    # Beyond the source the shares do not add up to 1: the rest is background's, but weighed by itself.
    shares = torch.cat((moved.image, 1 - moved.image.sum(0, keepdim=True)))
    largest, second = shares.topk(2, 0).values
    expected = torch.tensor([*VALUES, 0])[shares.argmax(0)]
    is_clear = largest - second > 1e-4
    assert torch.equal(moved.segmentation[0][is_clear], expected[is_clear])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from((0, 1, 2)), min_size=1, max_size=3, unique=True), st.integers(0, 99))
def test_mirroring_moves_everything_alike_and_twice_is_not_at_all(axes, seed):
    sample, draw = shares_and_labels((3, 5, 4), seed), MirrorDraw(tuple(axes))
    facts = facts_of((3, 5, 4), len(VALUES))
    once = apply_mirror(sample, draw, facts)
    masks = torch.stack([(once.segmentation[0] == value).float() for value in VALUES])
    assert torch.equal(once.image, masks)
    assert torch.equal(once.maps, masks[:1])
    again = apply_mirror(once, draw, facts)
    assert all(torch.equal(one, other) for one, other in zip(again, sample, strict=True))


def body(space):
    """Return a sample with a left organ (1) and a brighter, larger right one (2) along the last axis."""
    grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in space), indexing="ij")
    from_middle = sum(axis**2 for axis in grid[:-1])
    left, right = from_middle + (grid[-1] + 0.35) ** 2 < 0.06, from_middle + (grid[-1] - 0.35) ** 2 < 0.09
    labels = torch.from_numpy(np.select([left, right], [1, 2], 0))
    return sample_of((labels.float() + 0.5).repeat(2, *[1] * len(space)), labels)


@pytest.mark.parametrize(
    ("space", "spatial", "axes"),
    [
        ((30, 34, 37), SpatialTransform(rotation_deg=(30.0,) * 3, rotation_probability=0.7), (0, 1)),
        ((9, 34, 37), SpatialTransform(rotation_deg=(30.0, 0.0, 0.0), rotation_probability=0.7, in_plane=True), (0, 1)),
        ((34, 37), SpatialTransform(rotation_deg=(15.0,), rotation_probability=0.7), (0,)),
    ],
)
def test_left_stays_left_where_no_mirroring_along_the_lateral_axis_is_planned(space, spatial, axes):
    transforms = (spatial.changed(scaling_probability=0.7), *NNUNET, MirrorTransform(axes=axes))
    augmentation = Augmentation(AugmentationSpec(transforms=transforms), facts_of(space))
    sample = body(space)
    kept = []
    for seed in range(25):
        made = augmentation.apply(sample, augmentation.draw(seed))
        places = [(made.segmentation[0] == label).nonzero()[:, -1].float() for label in (1, 2)]
        assert places[0].mean() < places[1].mean()
        # The image as well: the right organ is the brighter one, whatever happened to intensities.
        means = [made.image[0][made.segmentation[0] == label].mean() for label in (1, 2)]
        kept.append(bool(means[0] < means[1]))
    assert all(kept)
