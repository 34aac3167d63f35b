import numpy as np
import pytest
import torch

from tests.targets import classes, regions
from tumorseg.engine.prediction_features import PredictionFeatures
from tumorseg.engine.restoration import decide
from tumorseg.engine.segmentation import SliceResult
from tumorseg.engine.uncertainty import entropy, probabilities

SHAPE = (5, 7, 9)
SPACING = (2.5, 1.25, 0.8)
WINDOW = (slice(0, 7), slice(0, 9))


def slices_of(targets, seed=0, has_votes=True):
    """Return logits (K, Z, Y, X) and what an observer is shown of them."""
    random = np.random.default_rng(seed)
    logits = torch.from_numpy(random.normal(0, 2, (targets.num_outputs, *SHAPE)).astype(np.float32))
    votes = torch.from_numpy(random.uniform(0, 1, logits.shape).astype(np.float32)) if has_votes else None
    shown = [
        SliceResult(z, WINDOW, logits[:, z], None if votes is None else votes[:, z], decide(logits[:, z], targets))
        for z in range(SHAPE[0])
    ]
    return logits, votes, shown


def watched(targets, shown):
    observer = PredictionFeatures(targets, SPACING)
    for found in shown:
        observer(found)
    return observer.features()


@pytest.mark.parametrize("targets", [classes(3), regions(2)], ids=["labels", "regions"])
def test_features_are_those_of_whole_arrays(targets):
    logits, votes, shown = slices_of(targets)
    values = np.stack([found.values for found in shown])
    found = watched(targets, shown)
    assert list(found) == list(targets.scored_names)
    first = 0 if targets.has_regions else 1
    for number, members in enumerate(targets.scored_classes):
        mask = np.isin(values, [targets.label_values[index] for index in members])
        likely = probabilities(logits.flatten(2), targets)[first + number].reshape(SHAPE).double().numpy()
        unsure = entropy(logits.flatten(2), targets).reshape(SHAPE).double().numpy()
        voted = votes[first + number].double().numpy()
        features = found[targets.scored_names[number]]
        assert features.expected_dsc == pytest.approx(2 * (likely * mask).sum() / (likely.sum() + mask.sum()), abs=2e-6)
        assert features.agreement == pytest.approx(2 * (voted * mask).sum() / (voted.sum() + mask.sum()), abs=2e-6)
        assert features.entropy == pytest.approx(unsure[mask].mean(), abs=2e-6)
        assert features.volume_mm3 == pytest.approx(mask.sum() * 2.5 * 1.25 * 0.8)
        assert features.largest_probability == pytest.approx(likely.max(), abs=2e-6)


def test_slices_that_are_shown_again_count_once():
    targets = classes(3)
    _, _, shown = slices_of(targets)
    for stopped in (1, 3, len(shown)):
        assert watched(targets, [*shown[:stopped], *shown]) == watched(targets, shown)


def test_a_mask_that_all_are_sure_of_expects_the_truth():
    targets = classes(2)
    logits = torch.zeros(2, *SHAPE) - 40
    logits[1, :, 2:5, 3:6] = 40
    shown = [SliceResult(z, WINDOW, logits[:, z], None, decide(logits[:, z], targets)) for z in range(SHAPE[0])]
    # The background is as unlikely as the label where both have -40: even odds, but for nothing decided.
    logits[0, :, :2] = logits[0, :, 5:] = logits[0, :, :, :3] = logits[0, :, :, 6:] = 40
    (features,) = watched(targets, shown).values()
    assert features.expected_dsc == pytest.approx(1, abs=1e-6)
    assert features.entropy == pytest.approx(0, abs=1e-6)


def test_where_nothing_is_found_the_closest_probability_is_told():
    targets = regions(1)
    logits = torch.full((1, *SHAPE), -3.0)
    logits[0, 2, 3, 4] = -0.5
    shown = [SliceResult(z, WINDOW, logits[:, z], None, decide(logits[:, z], targets)) for z in range(SHAPE[0])]
    (features,) = watched(targets, shown).values()
    assert (features.expected_dsc, features.agreement, features.entropy, features.volume_mm3) == (None, None, None, 0)
    assert features.largest_probability == pytest.approx(1 / (1 + np.exp(0.5)), abs=1e-6)


def test_without_votes_there_is_no_agreement():
    targets = classes(3)
    _, _, shown = slices_of(targets, has_votes=False)
    assert {features.agreement for features in watched(targets, shown).values()} == {None}


def test_what_postprocessing_takes_away_or_adds_is_told():
    targets = classes(3)
    _, _, shown = slices_of(targets)
    observer = PredictionFeatures(targets, SPACING)
    for found in shown:
        observer(found)
    mask = np.stack([found.values for found in shown])
    assert observer.features(mask) == observer.features()
    first, second = targets.scored_names
    left = observer.features(np.where(mask == targets.values_by_name[first], 0, mask).transpose(2, 0, 1)[::-1])
    assert left[second] == observer.features()[second]
    removed = left[first]
    assert (removed.expected_dsc, removed.agreement, removed.entropy, removed.volume_mm3) == (None, None, None, 0)
    assert (removed.by_postprocessing, removed.is_missing) == ("removed", True)
    assert removed.largest_probability == observer.features()[first].largest_probability > 0


def test_a_name_that_postprocessing_alone_gives_is_not_missing_though_nothing_is_expected_of_it():
    targets = classes(2)
    observer = PredictionFeatures(targets, SPACING)
    logits = torch.tensor([1.0, 0.0])[:, None, None].expand(2, *SHAPE[1:])
    observer(SliceResult(0, WINDOW, logits, None, np.zeros(SHAPE[1:], np.uint8)))
    (name,) = targets.scored_names
    assert observer.features()[name].is_missing
    added = observer.features(np.full(SHAPE, targets.values_by_name[name]))[name]
    assert (added.by_postprocessing, added.is_missing, added.expected_dsc) == ("added", False, None)


def test_an_image_without_a_slice_has_nothing_found():
    (features,) = PredictionFeatures(classes(2), SPACING).features().values()
    assert (features.expected_dsc, features.largest_probability) == (None, 0)
