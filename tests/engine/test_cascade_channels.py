from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.phantoms import CLASSES, REGIONS, Cases, cases_of, configuration_of, fit_of, training_of, weights_of
from tumorseg.engine.averaging import NetworkForward
from tumorseg.engine.cascade_channels import with_previous
from tumorseg.engine.feed import Data
from tumorseg.engine.sliding_window import Tiling, predict_slabs
from tumorseg.schema.extensions import External
from tumorseg.schema.targets import num_inputs, num_previous
from tumorseg.schema.transforms.cascade import PreviousMorphology, PreviousRemoval
from tumorseg.schema.transforms.intensity import GaussianNoise
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform

MOVING = (
    SpatialTransform(rotation_deg=(40.0, 30.0, 20.0), rotation_probability=1, scaling_probability=1),
    MirrorTransform(axes=(0, 1, 2)),
)
CORRUPTING = (PreviousMorphology(probability=1, label_probability=1, largest_radius=2), PreviousRemoval(probability=1))


def cascade_of(transforms=(), **changes):
    return configuration_of(transforms=transforms, previous_configuration="3d_lowres", **changes)


def shown(count=2, seed=0):
    """Return cases whose previous segmentation is their reference."""
    cases = cases_of(count, seed=seed)
    return Cases(cases.arrays, {case_id: segmentation for case_id, (_, segmentation) in cases.arrays.items()})


def cascade_fit(transforms=(), training=None, **hooks):
    return fit_of(cascade_of(transforms), training, Data(shown(2), shown(1, seed=9)), **hooks)


def inputs_of(feed, number):
    return feed.inputs(feed.load(number))[:2]


def test_labels_become_channels_after_those_of_the_images():
    images, previous = torch.randn(2, 3, 4, 5, 6), torch.randint(0, 4, (2, 4, 5, 6))
    found = with_previous(images, previous, 3)
    assert found.shape == (2, 6, 4, 5, 6)
    assert found.dtype == torch.float32
    assert torch.equal(found[:, :3], images)
    for label in (1, 2, 3):
        assert torch.equal(found[:, 2 + label], (previous == label).float())


@pytest.mark.parametrize("targets", [CLASSES, REGIONS], ids=["labels", "regions"])
def test_one_function_counts_input_channels(targets):
    assert num_inputs(configuration_of(), targets) == 2
    assert num_previous(configuration_of(), targets) == 0
    assert num_inputs(cascade_of(), targets) == 4


@pytest.mark.parametrize("transforms", [(), MOVING, (MOVING[0], GaussianNoise(probability=1), MOVING[1])], ids=len)
def test_the_channels_of_a_batch_lie_on_the_same_voxels_as_its_labels(transforms):
    fit = cascade_fit(transforms)
    for number in range(4):
        images, segmentations = inputs_of(fit.feeds.training, number)
        assert images.shape == (2, 4, 8, 8, 8)
        assert segmentations.any()
        for label in (1, 2):
            assert torch.equal(images[:, 1 + label], (segmentations == label).float())


def test_held_out_batches_are_shown_the_previous_segmentation_uncorrupted():
    fit = cascade_fit((*MOVING, *CORRUPTING))
    images, segmentations = inputs_of(fit.feeds.validation, 0)
    assert torch.equal(images[:, 2], (segmentations == 1).float())


def test_corruption_changes_the_channels_but_never_the_labels():
    plain, corrupted = cascade_fit(), cascade_fit(CORRUPTING)
    one, other = (inputs_of(fit.feeds.training, 1) for fit in (plain, corrupted))
    assert torch.equal(one[1], other[1])
    assert torch.equal(one[0][:, :2], other[0][:, :2])
    assert not torch.equal(one[0][:, 2:], other[0][:, 2:])
    assert set(other[0][:, 2:].unique().tolist()) == {0, 1}


def test_planes_are_shown_the_previous_segmentation_too():
    fit = fit_of(cascade_of(num_axes=2), data=Data(shown(2), None))
    images, segmentations = inputs_of(fit.feeds.training, 2)
    assert images.shape == (2, 4, 8, 8)
    assert torch.equal(images[:, 2], (segmentations == 1).float())


def test_training_a_cascade_is_resumed_bit_for_bit():
    training = training_of(epochs=2, iterations_per_epoch=3)
    whole = cascade_fit((*MOVING, *CORRUPTING), training)
    assert whole.run()
    states = []
    asked = iter([False, True])
    first = cascade_fit(
        (*MOVING, *CORRUPTING), training, should_stop=lambda: next(asked), on_stop=lambda state: states.append(state)
    )
    assert not first.run()
    second = cascade_fit((*MOVING, *CORRUPTING), training)
    second.restore(states[0])
    assert second.run()
    assert torch.equal(weights_of(second.learner), weights_of(whole.learner))


class Echo(nn.Module):
    """A network whose logits are what it is shown of the previous segmentation."""

    def forward(self, images):
        assert images.shape[1] == 5
        return images[:, 2:]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_tiles_of_a_whole_image_are_shown_the_labels_at_their_own_voxels(batch_size):
    shape = (11, 14, 9)
    previous = torch.from_numpy(np.random.default_rng(0).integers(0, 4, shape))
    image = torch.cat((torch.randn(2, *shape), previous[None].float()))
    forward = NetworkForward([Echo()], (0, 2), 3, nullcontext, torch.device("cpu"), num_previous=3)
    tiling = Tiling((6, 5, 12), 0.5, 0.125, is_planar=False, batch_size=batch_size)
    logits = torch.cat([slab.logits for slab in predict_slabs(image, forward, tiling, num_outputs=3)], dim=1)
    expected = torch.stack([previous == label for label in (1, 2, 3)]).float()
    assert torch.allclose(logits, expected, atol=1e-6)


def test_a_transform_of_the_previous_segmentation_needs_one():
    with pytest.raises(ValueError, match="previous_removal, but there is no previous_configuration"):
        configuration_of(transforms=(PreviousRemoval(),))


def test_another_packages_transform_is_refused_in_a_cascade():
    warp = External(name="warp", distribution="warps", version="1")
    configuration_of(transforms=(warp,))
    with pytest.raises(ValueError, match="warp of warps: another package's transform cannot move"):
        cascade_of((warp,))
