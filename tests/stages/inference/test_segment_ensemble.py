"""Ensembles against direct computation on whole arrays, for members that differ in all that plans can differ in."""

import numpy as np
import pytest
import SimpleITK
import torch
from scipy import ndimage

from tests.stages.members import (
    AFFINE,
    NESTED,
    SHAPE,
    base_model,
    found_of,
    image_of,
    member,
    whole_probabilities,
)
from tumorseg.engine.uncertainty import probabilities
from tumorseg.ops.geometry import orient, restore_orientation
from tumorseg.ops.labels import to_indices
from tumorseg.schema.ensembles import Combination, KeepLargest
from tumorseg.schema.targets import targets_of
from tumorseg.stages.inference.ensembles import alone, together
from tumorseg.stages.inference.predict_array import predict_array, predict_array_probabilities
from tumorseg.stages.inference.segment_case import RunOptions, segment_case
from tumorseg.stages.inference.segment_ensemble import CaseImages, segment_ensemble

STEP = 1 / 65535


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def different(base):
    """Return models of different spacing and patch, axis order, and number of axes."""
    return (
        member(base, "fine", seed=1, num_folds=2),
        member(base, "coarse", seed=2, spacing_mm=(1.5, 2.0, 3.1), patch_size=(6, 4, 4)),
        member(base, "turned", seed=3, plan={"transpose": (2, 0, 1)}),
        member(base, "stored", seed=4, plan={"orientation": "as_stored", "transpose": (1, 2, 0)}),
        member(base, "planes", seed=5, num_axes=2),
    )


@pytest.fixture(scope="module")
def mixed(base):
    """Return models of regions, and one of labels in another axis order."""
    return (
        member(base, "nested", seed=6, dataset={"regions": NESTED}),
        member(base, "labels", seed=7, plan={"transpose": (1, 0, 2)}),
        member(base, "nested too", seed=8, dataset={"regions": NESTED}, spacing_mm=(1.3, 1.5, 2.0)),
    )


def images_of(ensemble, image):
    found = [found_of(one, image[list(ensemble.positions(one))]) for one in ensemble.members]
    return CaseImages(tuple(found), (None,) * len(found))


def is_clear(chances, least=4 * STEP):
    """Return where the likeliest class is ahead by more than what rounding may cost."""
    second, first = np.sort(chances, axis=0)[-2:]
    return first - second > least


@pytest.mark.parametrize("lead", range(5))
def test_a_mean_is_that_of_whole_arrays_whichever_member_leads(different, lead):
    members = (*different[lead:], *different[:lead])
    image = image_of()
    expected = np.mean([whole_probabilities(one, image) for one in members], axis=0)
    ensemble = together(members)
    found = predict_array_probabilities(ensemble, image, AFFINE)
    np.testing.assert_allclose(found.probabilities, expected, atol=STEP)
    decided = is_clear(expected)
    assert decided.mean() > 0.95
    indices = to_indices(found.segmentation, ensemble.targets)
    np.testing.assert_array_equal(indices[decided], expected.argmax(axis=0)[decided])
    assert len(np.unique(indices)) == 3


def test_members_of_one_axis_order_are_combined_without_rounding(different):
    members = (different[0], different[1], different[4])
    image = image_of()
    expected = np.mean([whole_probabilities(one, image) for one in members], axis=0)
    found = predict_array_probabilities(together(members), image, AFFINE).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_of_labels_are_those_of_whole_arrays(different):
    image, targets = image_of(1), targets_of(different[0].plan.dataset)
    table = {"kidney_left": (4.0, 1.0, 1.0, 0.0, 2.0), "kidney_right": (1.0, 0.0, 3.0, 1.0, 1.0)}
    rows = np.array([np.array(weights) / sum(weights) for weights in table.values()])
    weights = np.stack([rows.mean(axis=0), *rows], axis=1)
    whole = np.array([whole_probabilities(one, image) for one in different])
    expected = (weights[:, :, None, None, None] * whole).sum(axis=0)
    expected /= expected.sum(axis=0)
    found = predict_array_probabilities(together(different, Combination(weights=table)), image, AFFINE)
    np.testing.assert_allclose(found.probabilities, expected, atol=2 * STEP)
    assert targets.label_names == ("background", *table)


def test_a_vote_is_simpleitks_where_that_decides_and_else_goes_to_the_more_probable(different):
    image = image_of(2)
    whole = np.array([whole_probabilities(one, image) for one in different[:4]])
    votes = whole.argmax(axis=1).astype(np.uint8)
    undecided = 9
    joined = SimpleITK.GetArrayFromImage(
        SimpleITK.LabelVoting([SimpleITK.GetImageFromArray(one) for one in votes], undecided)
    )
    ensemble = together(different[:4], Combination(method="vote"))
    found = to_indices(predict_array(ensemble, image, AFFINE), ensemble.targets)
    # A member that hesitates may be tipped over by the rounding of what passes through a file.
    is_sure = np.all([is_clear(one) for one in whole], axis=0)
    decided = is_sure & (joined != undecided)
    np.testing.assert_array_equal(found[decided], joined[decided])
    counts = np.stack([(votes == index).sum(axis=0) for index in range(3)])
    tied = np.where(counts == counts.max(axis=0), whole.mean(axis=0), -1)
    open_ = is_sure & (joined == undecided) & is_clear(tied)
    assert open_.sum() > 10
    np.testing.assert_array_equal(found[open_], tied.argmax(axis=0)[open_])


def test_labels_are_asked_for_regions_where_others_find_these(mixed):
    image = image_of(3)
    ensemble = together(mixed)
    expected = np.mean([whole_probabilities(one, image, ensemble.targets) for one in mixed], axis=0)
    found = predict_array_probabilities(ensemble, image, AFFINE)
    assert found.names == ("both", "right")
    np.testing.assert_allclose(found.probabilities, expected, atol=2 * STEP)
    inside = expected > 0.5
    decided = (np.abs(expected - 0.5) > 4 * STEP).all(axis=0)
    painted = np.where(inside[1], 2, np.where(inside[0], 1, 0))
    np.testing.assert_array_equal(found.segmentation[decided], painted[decided])
    turned = predict_array_probabilities(together(mixed[1:] + mixed[:1]), image, AFFINE)
    np.testing.assert_allclose(turned.probabilities, found.probabilities, atol=2 * STEP)


def test_regions_are_voted_on_one_by_one(mixed):
    image = image_of(4)
    ensemble = together(mixed, Combination(method="vote"))
    whole = np.array([whole_probabilities(one, image, ensemble.targets) for one in mixed])
    sure = (np.abs(whole - 0.5) > 4 * STEP).all(axis=(0, 1))
    inside = (whole > 0.5).sum(axis=0) >= 2
    painted = np.where(inside[1], 2, np.where(inside[0], 1, 0))
    np.testing.assert_array_equal(predict_array(ensemble, image, AFFINE)[sure], painted[sure])
    assert sure.mean() > 0.95


@pytest.mark.parametrize("with_votes", [False, True])
@pytest.mark.parametrize("number", range(5))
def test_a_model_alone_answers_with_the_very_bits_of_its_networks(different, number, with_votes):
    model, image = different[number], image_of(5)
    found = found_of(model, image)
    shown = [], []
    options = RunOptions(with_votes=with_votes)
    expected = segment_case(model, found, options=options, observers=(shown[0].append,))
    labels = segment_ensemble(
        alone(model), CaseImages((found,), (None,)), options=options, observers=(shown[1].append,)
    )
    assert np.array_equal(labels, expected)
    assert labels.dtype == expected.dtype
    for one, other in zip(*shown, strict=True):
        assert (one.position, one.window) == (other.position, other.window)
        assert torch.equal(one.logits, other.logits)
        assert one.votes is None or torch.equal(one.votes, other.votes)
        assert one.decided_by is other.decided_by is None


def test_around_its_crop_box_a_member_is_certain_of_background(base):
    """One member sees a channel that is not 0 in a smaller part of the image, the other one the whole image."""
    members = (
        member(base, "cropped", seed=1, dataset={"channels": base.plan.dataset.channels[:1]}),
        member(base, "whole", seed=2, plan={"cropping": False}),
    )
    image = image_of(6)
    ensemble = together(members)
    expected = np.mean([whole_probabilities(members[0], image[:1]), whole_probabilities(members[1], image)], axis=0)
    found = predict_array_probabilities(ensemble, image, AFFINE).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (found[0, 0] >= 0.5).all()  # a slice that the first one does not look at
    assert (found[0, 0] < 1).all()


def test_nothing_is_found_where_members_find_nothing(base):
    ensemble = together((member(base, "a", seed=1), member(base, "b", seed=2)), Combination(method="vote"))
    for one in ensemble.members:
        with torch.no_grad():
            one.networks[0].layer.bias[0] += 100
    assert not predict_array(ensemble, image_of(), AFFINE).any()


def test_thresholds_move_the_decision_on_a_region_and_nothing_that_is_shown(mixed):
    image = image_of(7)
    plain = predict_array_probabilities(together(mixed), image, AFFINE)
    moved = predict_array_probabilities(together(mixed, Combination(thresholds={"right": 0.3})), image, AFFINE)
    assert np.array_equal(moved.probabilities, plain.probabilities)
    expected = np.where(plain.probabilities[1] > 0.3, 2, np.where(plain.probabilities[0] > 0.5, 1, 0))
    assert np.array_equal(moved.segmentation, expected)
    assert not np.array_equal(moved.segmentation, plain.segmentation)
    model = alone(mixed[0])._replace(combination=Combination(thresholds={"both": 0.9}))
    chances = whole_probabilities(mixed[0], image)
    expected = np.where(chances[1] > 0.5, 2, np.where(chances[0] > 0.9, 1, 0))
    assert np.array_equal(predict_array(model, image, AFFINE), expected)


def test_a_temperature_softens_what_is_shown_and_changes_no_mask(different):
    image = image_of(8)
    members = different[:2]
    plain = predict_array_probabilities(together(members), image, AFFINE)
    soft = predict_array_probabilities(together(members, Combination(temperature=2.0)), image, AFFINE)
    assert np.array_equal(soft.segmentation, plain.segmentation)
    rooted = np.sqrt(plain.probabilities.astype(np.float64))
    np.testing.assert_allclose(soft.probabilities, rooted / rooted.sum(axis=0), atol=1e-5)


def test_postprocessing_comes_last_in_the_stored_order(different):
    image = image_of(9)
    step = KeepLargest(labels=("kidney_left",))
    plain = predict_array(together(different), image, AFFINE)
    kept = predict_array(together(different, Combination(postprocessing=(step,))), image, AFFINE)
    parts, num_parts = _parts(plain == 1)
    assert num_parts > 1
    largest = np.bincount(parts.ravel())[1:].argmax() + 1
    assert np.array_equal(kept == 1, parts == largest)
    assert np.array_equal(kept == 2, plain == 2)
    one = alone(different[2])._replace(combination=Combination(postprocessing=(step,)))
    assert _parts(predict_array(one, image, AFFINE) == 1)[1] == 1


def _parts(mask):
    return ndimage.label(mask, np.ones((3, 3, 3)))


def test_votes_that_observers_are_shown_are_those_of_all_folds_and_views(different):
    """The first member has two folds of eight views, and the third, in another axis order, one of eight."""
    members, image = (different[0], different[2]), image_of(10)
    ensemble = together(members)
    options = RunOptions(with_votes=True)
    found = _votes(ensemble, images_of(ensemble, image), options)
    each = [_votes(alone(one), CaseImages((found_of(one, image),), (None,)), options) for one in members]
    np.testing.assert_allclose(found, (2 * each[0] + each[1]) / 3, atol=2 * STEP)
    assert np.mean(np.abs(each[0] - each[1])) > 0.01


def _votes(ensemble, images, options):
    lead = images.lead
    whole = np.zeros((3, *lead.image.shape[1:]))
    whole[0] = 1

    def observe(seen):
        whole[(slice(None), seen.position, *seen.window)] = seen.votes.numpy()

    segment_ensemble(ensemble, images, options=options, observers=(observe,))
    return restore_orientation(whole, lead.orientation)


def test_probabilities_of_slices_are_shown_in_the_first_members_axis_order(different):
    ensemble, image = together((different[2], different[0])), image_of(13)
    images = images_of(ensemble, image)
    shown = []
    segment_ensemble(ensemble, images, observers=(shown.append,))
    whole = orient(
        np.mean([whole_probabilities(one, image) for one in ensemble.members], axis=0), images.lead.orientation
    )
    assert images.lead.image.shape[1:] == (SHAPE[2], SHAPE[0], SHAPE[1])
    for seen in shown:
        expected = whole[(slice(None), seen.position, *seen.window)]
        np.testing.assert_allclose(probabilities(seen.logits, ensemble.targets), expected, atol=2 * STEP)
