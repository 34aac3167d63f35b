import numpy as np
import pytest
from scipy import stats

from tumorseg.ops.choosing.evidence import evidence

GAINS = np.random.default_rng(4).normal([0.01, 0.0, -0.02], 0.05, (37, 3))


def test_chance_is_that_of_a_one_sided_paired_t_test():
    found = evidence(GAINS, None)
    oracle = stats.ttest_1samp(GAINS, 0, alternative="greater")
    np.testing.assert_allclose(found.p, oracle.pvalue)
    np.testing.assert_allclose(found.gain, GAINS.mean(axis=0))
    np.testing.assert_allclose(found.error, stats.sem(GAINS))


def test_cases_of_one_patient_are_no_independent_witnesses():
    repeated = np.repeat(GAINS, 3, axis=0)
    patients = np.repeat(np.arange(37), 3)
    np.testing.assert_allclose(evidence(repeated, patients).p, evidence(GAINS, None).p, rtol=1e-6)
    assert evidence(repeated, None).p[0] < evidence(repeated, patients).p[0]


def test_a_gain_in_few_cases_is_no_less_likely_than_their_signs():
    gains = np.zeros((200, 1))
    gains[:3, 0] = 0.3, 0.3001, 0.2999
    assert evidence(gains, None).p[0] == 0.5**3
    gains[:] = 0.01
    assert evidence(gains, None).p[0] == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("clusters", [None, np.zeros(1, np.int64)])
def test_one_case_proves_nothing(clusters):
    found = evidence(np.array([[0.2, -0.1]]), clusters)
    assert found.p.tolist() == [1, 1]
    assert np.isinf(found.error).all()


def test_no_change_at_all_is_no_gain():
    found = evidence(np.zeros((5, 1)), None)
    assert (found.gain[0], found.error[0], found.p[0]) == (0, 0, 1)
