import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.targets import classes, regions
from tumorseg.engine.combining import (
    Decision,
    as_wanted,
    class_probabilities,
    combined,
    combined_votes,
    decision_of,
    member_weights,
)
from tumorseg.schema.ensembles import Combination

LABELS, REGIONS = classes(3), regions(2)
MEAN, VOTE = Combination(), Combination(method="vote")


def chances(targets, num_members=3, seed=0, shape=(5, 7)):
    """Return members' probabilities (M, K, Y, X), float64."""
    logits = np.random.default_rng(seed).normal(0, 2, (num_members, targets.num_outputs, *shape))
    return scipy.special.expit(logits) if targets.has_regions else scipy.special.softmax(logits, axis=1)


def tensors(members):
    return [torch.from_numpy(one).float() for one in members]


def shown(logits, targets):
    return (logits.sigmoid() if targets.has_regions else logits.softmax(dim=0)).numpy()


@pytest.mark.parametrize("targets", [LABELS, REGIONS], ids=["labels", "regions"])
def test_probabilities_of_the_mean_are_the_mean_of_probabilities(targets):
    members = chances(targets)
    logits = combined(tensors(members), MEAN, targets)
    np.testing.assert_allclose(shown(logits, targets), members.mean(axis=0), atol=2e-7)
    assert torch.isfinite(logits).all()


def test_a_weight_of_two_is_as_if_the_member_were_there_twice():
    once, twice = chances(LABELS, num_members=2)
    weights = dict.fromkeys(LABELS.scored_names, (1.0, 2.0))
    found = combined(tensors([once, twice]), Combination(weights=weights), LABELS)
    expected = combined(tensors([once, twice, twice]), MEAN, LABELS)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_each_label_is_weighed_by_its_own_weights_and_the_background_by_their_mean():
    members = chances(LABELS, num_members=2)
    first, second = LABELS.scored_names
    combination = Combination(weights={first: (3.0, 1.0), second: (1.0, 4.0)})
    table = np.array([[(0.75 + 0.2) / 2, 0.75, 0.2], [(0.25 + 0.8) / 2, 0.25, 0.8]])
    np.testing.assert_allclose(member_weights(combination, LABELS, 2), table, atol=1e-7)
    expected = (table[:, :, None, None] * members).sum(axis=0)
    expected /= expected.sum(axis=0)
    found = shown(combined(tensors(members), combination, LABELS), LABELS)
    np.testing.assert_allclose(found, expected, atol=3e-7)


def test_each_region_is_weighed_by_itself_and_one_without_weights_has_the_mean():
    members = chances(REGIONS, num_members=2)
    combination = Combination(weights={"region 1": (1.0, 3.0)})
    found = shown(combined(tensors(members), combination, REGIONS), REGIONS)
    np.testing.assert_allclose(found[0], members[:, 0].mean(axis=0), atol=2e-7)
    np.testing.assert_allclose(found[1], 0.25 * members[0, 1] + 0.75 * members[1, 1], atol=2e-7)


def test_where_nobody_whose_word_counts_says_anything_there_is_background():
    first, second = LABELS.scored_names
    combination = Combination(weights={first: (1.0, 0.0), second: (0.0, 1.0)})
    # Each is certain of the label on which its word counts nothing.
    members = tensors([np.array([[0.0], [0.0], [1.0]]), np.array([[0.0], [1.0], [0.0]])])
    found = combined(members, combination, LABELS)
    assert found.argmax(dim=0).tolist() == [0]
    assert torch.isfinite(found).all()


def test_votes_are_counted_and_the_more_probable_one_wins_a_tie():
    # In the columns: two against one; three of three minds; two against two for different labels.
    members = np.array(
        [
            [[0.1, 0.6, 0.0], [0.8, 0.3, 0.9], [0.1, 0.1, 0.1]],
            [[0.2, 0.0, 0.1], [0.7, 0.9, 0.6], [0.1, 0.1, 0.3]],
            [[0.6, 0.1, 0.0], [0.2, 0.0, 0.3], [0.2, 0.9, 0.7]],
            [[0.4, 0.4, 0.1], [0.3, 0.3, 0.2], [0.3, 0.3, 0.7]],
        ]
    )
    found = combined(tensors(members), VOTE, LABELS)
    # Of the first column two votes for label 1 and two for the background, which is less probable on average.
    assert found.argmax(dim=0).tolist() == [1, 0, 1]
    votes = np.eye(3)[members.argmax(axis=1)].mean(axis=0).T
    np.testing.assert_allclose(shown(found, LABELS), votes, atol=1e-5)


def test_votes_on_regions_are_by_majority_and_the_mean_decides_between_as_many():
    members = np.array([[[0.9, 0.51, 0.2]], [[0.6, 0.3, 0.4]], [[0.1, 0.9, 0.9]], [[0.2, 0.2, 0.2]]])
    targets = regions(1)
    found = combined(tensors(members), VOTE, targets)
    assert (found > 0).tolist() == [[False, False, False]]
    assert (combined(tensors(members[:3]), VOTE, targets) > 0).tolist() == [[True, True, False]]
    # Two against two still, and 0.525 on average.
    certain = members.copy()
    certain[0, 0, 0] = 1.0
    certain[3, 0, 0] = 0.4
    assert (combined(tensors(certain), VOTE, targets) > 0)[0, 0]


def test_weights_count_votes():
    members = np.array([[[0.1], [0.8], [0.1]], [[0.9], [0.1], [0.0]], [[0.8], [0.1], [0.1]]])
    weights = dict.fromkeys(LABELS.scored_names, (2.5, 1.0, 1.0))
    assert combined(tensors(members), VOTE, LABELS).argmax(dim=0).tolist() == [0]
    found = combined(tensors(members), Combination(method="vote", weights=weights), LABELS)
    assert found.argmax(dim=0).tolist() == [1]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=7), st.integers(0, 5))
def test_a_vote_goes_to_one_of_the_labels_with_most_votes(votes, seed):
    rng = np.random.default_rng(seed)
    members = rng.uniform(0, 0.2, (len(votes), 3, 1))
    members[np.arange(len(votes)), votes, 0] += 1
    members /= members.sum(axis=1, keepdims=True)
    found = combined(tensors(members), VOTE, LABELS)
    counts = np.bincount(votes, minlength=3)
    tied = np.flatnonzero(counts == counts.max())
    assert found.argmax() == tied[members.mean(axis=0)[tied, 0].argmax()]


def test_classes_become_regions_by_their_sum_and_regions_stay_as_they_are():
    wanted = regions(2)
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (3, 5, 7))).float()
    softmax = logits.softmax(dim=0)
    found = class_probabilities(logits, wanted.changed(region_names=(), regions=(), region_values=()), wanted)
    torch.testing.assert_close(found, torch.stack((softmax[1] + softmax[2], softmax[2])), atol=1e-6, rtol=0)
    assert (found <= 1).all()
    assert torch.equal(class_probabilities(logits[:2], wanted, wanted), logits[:2].sigmoid())
    assert torch.equal(as_wanted(softmax, LABELS, LABELS), softmax)


def test_certainty_survives_a_temperature():
    sure = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    torch.testing.assert_close((combined([sure, sure], MEAN, LABELS) / 4).softmax(dim=0), sure, atol=1e-8, rtol=0)
    outside = torch.zeros(2, 1, 1)
    assert ((combined([outside, outside], MEAN, REGIONS) / 4).sigmoid() < 1e-8).all()


def test_thresholds_become_margins_of_regions_alone():
    combination = Combination(thresholds={"region 1": 0.8}, temperature=1.5)
    decision = decision_of(combination, REGIONS)
    np.testing.assert_allclose(decision.margins, [0, np.log(0.8 / 0.2)])
    assert decision.temperature == 1.5
    assert decision_of(Combination(), REGIONS) == Decision()


def test_every_voter_counts_alike_however_they_are_spread_over_members():
    rng = np.random.default_rng(0)
    ballots = rng.integers(0, 2, (8, 3, 5)).astype(np.float32)
    shares = [torch.from_numpy(part.mean(axis=0)) for part in (ballots[:6], ballots[6:])]
    torch.testing.assert_close(combined_votes(shares, [6, 2]), torch.from_numpy(ballots.mean(axis=0)))


def test_staple_is_not_made_of_probabilities():
    with pytest.raises(ValueError, match="whole masks"):
        combined(tensors(chances(LABELS)), Combination(method="staple"), LABELS)
