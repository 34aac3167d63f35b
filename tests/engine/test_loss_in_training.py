"""Losses whose weights, numbers and distances change while training."""

import pytest
import torch

from tests.augmentation.seeded import augmented
from tests.engine.phantoms import NUM_CHANNELS, cases_of, configuration_of, fit_of, training_of, weights_of
from tumorseg.losses.distance_maps import signed_distances
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.losses import BoundaryLoss, CrossEntropyLoss, DiceLoss, LossSpec, TopKLoss
from tumorseg.schema.numbers import LinearSchedule
from tumorseg.schema.transforms.intensity import Brightness, GaussianNoise
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform
from tumorseg.schema.weighting import AdaptiveWeighting, DynamicAverageWeighting, UncertaintyWeighting

SPATIAL = (
    GaussianNoise(probability=0.9),
    SpatialTransform(rotation_deg=(30, 30, 30), rotation_probability=0.9, scaling_probability=0.9),
    Brightness(),
    MirrorTransform(axes=(0, 1, 2)),
)


def loss_spec(distance_maps="device", **options):
    components = (
        DiceLoss(weight=LinearSchedule(start=1.0, end=0.5)),
        CrossEntropyLoss(),
        TopKLoss(k=LinearSchedule(start=1.0, end=0.1)),
        BoundaryLoss(weight=LinearSchedule(start=0.0, end=0.5), distance_maps=distance_maps),
    )
    return LossSpec(preset="mine", components=components, **options)


def trained(spec, *, stop_at=None, state=None, epochs=3, transforms=SPATIAL):
    logs, seen, kept = [], [], {}
    fit = fit_of(
        configuration_of(transforms=transforms, loss=spec),
        training_of(epochs=epochs),
        on_iteration=lambda iteration, _: seen.append(iteration),
        on_epoch=lambda log, *_: logs.append(log),
        should_stop=lambda: seen[-1] == stop_at,
        on_stop=kept.update,
    )
    if state is not None:
        fit.restore(state)
    fit.run()
    return fit, logs, kept


@pytest.mark.parametrize("distance_maps", ["device", "loader"])
@pytest.mark.parametrize("weighting", [UncertaintyWeighting(lr=0.1), DynamicAverageWeighting(), AdaptiveWeighting()])
def test_a_resumed_training_weighs_as_an_uninterrupted_one(weighting, distance_maps):
    spec = loss_spec(distance_maps, weighting=weighting)
    whole, logs, _ = trained(spec)
    _, _, kept = trained(spec, stop_at=5)
    resumed, later, _ = trained(spec, state=kept)
    assert torch.equal(weights_of(resumed.learner), weights_of(whole.learner))
    assert [log.loss_weights for log in later] == [log.loss_weights for log in logs[1:]]
    assert resumed.learner.loss.weights() == whole.learner.loss.weights()


def test_schedules_follow_the_fraction_of_the_training_whatever_its_length():
    weights = [trained(loss_spec(), epochs=epochs)[1] for epochs in (2, 4)]
    assert weights[0][0].loss_weights["dice"] == pytest.approx(1 - 0.5 * 2 / 6)
    assert weights[1][1].loss_weights["dice"] == pytest.approx(1 - 0.5 * 5 / 12)
    assert weights[0][1].loss_weights["boundary"] == pytest.approx(0.5 * 5 / 6)
    assert set(weights[0][0].train_losses) == {"dice", "cross_entropy", "topk", "boundary"}


def test_log_variances_have_an_optimizer_group_of_their_own():
    fit, logs, _ = trained(loss_spec(weighting=UncertaintyWeighting(lr=0.1)))
    first, second = fit.learner.optimisation.optimizer.param_groups
    assert (second["lr"], second["weight_decay"]) == (0.1, 0.0)
    assert first["lr"] < 0.1
    assert (fit.learner.loss.weighting.log_variances != 0).all()
    assert logs[-1].loss_weights["cross_entropy"] != 1.0


def test_distances_measured_while_reading_are_those_of_the_device_where_nothing_is_turned():
    device, loader = (trained(loss_spec(place), transforms=())[0] for place in ("device", "loader"))
    assert torch.equal(weights_of(device.learner), weights_of(loader.learner))


def test_maps_are_turned_along_and_leave_everything_else_as_it_is():
    image, segmentation = cases_of(1, shape=(20, 22, 24)).arrays["case 0"]
    images, labels = torch.from_numpy(image)[None], torch.from_numpy(segmentation)[None].long()
    maps = (labels > 0).float()[:, None] * 7
    spec = AugmentationSpec(transforms=SPATIAL)
    plain = augmented(images, labels, spec, patch_size=(14, 14, 14), seed=5)
    found = augmented(images, labels, spec, patch_size=(14, 14, 14), seed=5, maps=maps)
    assert all(torch.equal(one, other) for one, other in zip(plain, found, strict=False))
    assert found[0].shape[1] == NUM_CHANNELS
    inside = found[1] > 0
    assert found[2][:, 0][inside].mean() > 6 > 1 > found[2][:, 0][~inside].mean()


def test_turned_distances_are_those_of_the_turned_labels():
    _, segmentation = cases_of(1, shape=(40, 40, 40)).arrays["case 0"]
    labels = torch.from_numpy(segmentation)[None].long()
    spec = AugmentationSpec(
        transforms=(SpatialTransform(rotation_deg=(40, 0, 0), rotation_probability=1.0, scaling_probability=0.0),)
    )
    maps = signed_distances((labels > 0)[:, None], None, (1.0,) * 3, None)
    images = torch.zeros(1, 1, 40, 40, 40)
    _, turned, found = augmented(images, labels, spec, patch_size=(24, 24, 24), maps=maps)
    expected = signed_distances((turned > 0)[:, None], None, (1.0,) * 3, None)
    near = expected.abs() < 4  # beyond, the patch's edge cuts surfaces off
    assert (found - expected)[near].abs().mean() < 0.6
