import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from tests.targets import classes, regions
from tumorseg.engine.uncertainty import disagreement, entropy, probabilities


def logits_of(count, scale=3.0, shape=(5, 7)):
    return np.random.default_rng(count).normal(0, scale, (count, *shape)).astype(np.float32)


@pytest.mark.parametrize("count", [2, 3, 61])
def test_probabilities_and_entropy_of_classes_are_scipys(count):
    logits = logits_of(count)
    expected = scipy.special.softmax(logits.astype(np.float64), axis=0)
    np.testing.assert_allclose(probabilities(torch.from_numpy(logits), classes(count)), expected, atol=1e-6)
    found = entropy(torch.from_numpy(logits), classes(count))
    np.testing.assert_allclose(found, scipy.stats.entropy(expected, axis=0, base=count), atol=2e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_probabilities_and_entropy_of_regions_are_scipys(count):
    logits = logits_of(count)
    expected = scipy.special.expit(logits.astype(np.float64))
    np.testing.assert_allclose(probabilities(torch.from_numpy(logits), regions(count)), expected, atol=1e-6)
    binary = scipy.stats.entropy(np.stack([expected, 1 - expected]), axis=0, base=2).mean(axis=0)
    np.testing.assert_allclose(entropy(torch.from_numpy(logits), regions(count)), binary, atol=2e-6)


@pytest.mark.parametrize("targets", [classes(3), regions(3)])
def test_entropy_is_one_where_all_is_open_and_zero_where_nothing_is(targets):
    assert torch.allclose(entropy(torch.zeros(3, 2, 2), targets), torch.ones(2, 2))
    # far beyond what float32's exponential can tell from 0
    sure = torch.tensor([500.0, -500.0, -500.0])[:, None, None].expand(3, 2, 2)
    assert torch.equal(entropy(sure, targets), torch.zeros(2, 2))


def test_a_single_class_is_sure_of_itself():
    assert torch.equal(entropy(torch.randn(1, 3, 3), classes(1)), torch.zeros(3, 3))


def test_members_that_voted_for_another_class_disagree():
    members = np.stack([logits_of(3), logits_of(3) * -1, logits_of(3)[::-1], logits_of(3) + 1])
    mean, decided = members.mean(axis=0), members.argmax(axis=1)
    votes = np.stack([(decided == index).mean(axis=0) for index in range(3)])
    expected = (decided != mean.argmax(axis=0)).mean(axis=0)
    found = disagreement(torch.from_numpy(mean), torch.from_numpy(votes), classes(3))
    np.testing.assert_allclose(found, expected)
    assert len(np.unique(expected)) > 3


def test_the_region_that_members_agree_on_least_counts():
    members = np.random.default_rng(0).normal(size=(5, 3, 4, 6)).astype(np.float32)
    mean, votes = members.mean(axis=0), (members > 0).mean(axis=0)
    expected = ((members > 0) != (mean > 0)).mean(axis=0).max(axis=0)
    found = disagreement(torch.from_numpy(mean), torch.from_numpy(votes), regions(3))
    np.testing.assert_allclose(found, expected)
    assert len(np.unique(expected)) > 2
