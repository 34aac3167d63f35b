import math

import numpy as np
import pytest
from scipy import stats

from tumorseg.ops.significance.intervals import mean_intervals
from tumorseg.tuning.judged_folds import Contender, Training, means_of
from tumorseg.tuning.verdicts import best_gain, seed_spread, verdicts


def contender(number, *tables, fold=1):
    """Return a contender of one training for each table of scores."""
    trainings = []
    for seed, table in enumerate(tables):
        values = {f"case_{place:02}": None if value is None else float(value) for place, value in enumerate(table)}
        trainings.append(Training(fold, seed, values))
    return Contender(number, tuple(trainings))


def judged(default, *candidates, objective="dsc", patients=None):
    return verdicts(default, candidates, objective=objective, patients=patients or {})


@pytest.fixture
def drawn():
    generator = np.random.default_rng(0)
    levels = 0.8 + 0.05 * generator.standard_normal(10)
    return [levels + shift + 0.02 * generator.standard_normal(10) for shift in (0, 0.001, 0.02, 0.021)]


def test_the_gain_is_the_difference_of_means_over_seeds(drawn):
    (verdict,) = judged(contender(0, *drawn[:2]), contender(7, *drawn[2:]))
    assert verdict.number == 7
    assert verdict.gain == pytest.approx(np.mean(drawn[2:]) - np.mean(drawn[:2]))


@pytest.mark.parametrize("sign", [1, -1])
def test_p_is_that_of_all_changes_of_sign(drawn, sign):
    (verdict,) = judged(contender(0, sign * drawn[0] + 2), contender(1, sign * drawn[2] + 2))
    differences = sign * (drawn[2] - drawn[0])
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    # Exactly so on the side of a gain; on the other one what was found itself counts to neither side.
    assert verdict.p == pytest.approx(expected.pvalue, abs=0 if sign == 1 else 2**-9)


def test_without_spread_of_seeds_the_interval_is_that_of_cases(drawn):
    found = drawn[2] - drawn[0]
    (alone,) = judged(contender(0, drawn[0]), contender(1, drawn[2]))
    (twice,) = judged(contender(0, drawn[0], drawn[0]), contender(1, drawn[2], drawn[2]))
    assert alone.ci95 == mean_intervals(found[:, None])[0]
    assert twice.ci95 == pytest.approx(alone.ci95)


def test_the_luck_of_seeds_widens_the_interval_in_quadrature(drawn):
    shifts = (-0.01, 0.01)
    default = contender(0, *(drawn[0] + shift for shift in shifts))
    candidate = contender(1, *(drawn[2] + shift for shift in shifts))
    (verdict,) = judged(default, candidate)
    lower, upper = mean_intervals((drawn[2] - drawn[0])[:, None])[0]
    # Two plans of two trainings each, a variance of 2 * .01^2 each: two degrees of freedom, and half of it in a mean.
    reach = stats.t.ppf(0.975, 2) * math.sqrt(2e-4 * (1 / 2 + 1 / 2))
    assert verdict.gain - verdict.ci95[0] == pytest.approx(math.hypot(verdict.gain - lower, reach))
    assert verdict.ci95[1] - verdict.gain == pytest.approx(math.hypot(upper - verdict.gain, reach))
    assert not verdict.is_gain


def test_spread_is_pooled_within_plans_and_folds():
    assert seed_spread([np.array([[1.0, 1.0]]), np.array([[5.0, 5.0]])]) is None
    spread = seed_spread([np.array([[1.0, 3.0], [2.0, 4.0], [3.0, 5.0]]), np.array([[10.0], [14.0]])])
    assert spread.degrees == 3
    assert spread.variance == pytest.approx((2 + 8) / 3)


def test_a_gain_that_holds_is_one_and_p_are_adjusted_for_the_number_of_candidates():
    generator = np.random.default_rng(1)
    level = np.linspace(0.5, 0.9, 30)
    better, alike = level + 0.05 + 0.01 * generator.standard_normal(30), level + 0.01 * generator.standard_normal(30)
    scores = (level, alike, better, alike - 0.05)
    found = judged(*(contender(number, one, one + 1e-4) for number, one in enumerate(scores)))
    assert [verdict.is_gain for verdict in found] == [False, True, False]
    assert found[1].p_holm == pytest.approx(3 * found[1].p)
    assert found[2].p > 0.99
    assert best_gain(found).number == 2
    assert best_gain(found[:1]) is None


def test_without_a_spread_of_seeds_nothing_is_a_gain():
    level = np.linspace(0.5, 0.9, 30)
    (verdict,) = judged(contender(0, level), contender(1, level + np.linspace(0.04, 0.06, 30)))
    assert verdict.ci95[0] > 0
    assert verdict.p_holm < 1e-3
    assert not verdict.is_gain


def test_less_is_better_of_a_distance(drawn):
    (worse,) = judged(contender(0, drawn[0]), contender(1, drawn[2]), objective="hd95")
    assert worse.gain == pytest.approx(-(drawn[2] - drawn[0]).mean())


def test_cases_of_a_patient_stand_or_fall_together():
    differences = np.repeat([0.02, 0.01, 0.03, 0.02], 4)
    patients = {f"case_{place:02}": f"p{place // 4}" for place in range(16)}
    default, candidate = contender(0, np.zeros(16)), contender(1, differences)
    assert judged(default, candidate)[0].p < 1e-3
    assert judged(default, candidate, patients=patients)[0].p == pytest.approx(2**-4)


def test_one_case_has_no_interval_and_is_no_gain():
    (verdict,) = judged(contender(0, [0.5]), contender(1, [0.9]))
    assert verdict.ci95 is None
    assert not verdict.is_gain


def test_finding_nothing_where_there_is_nothing_is_as_good_as_can_be():
    default, candidate = contender(0, [0.5, None, None]), contender(1, [0.5, 0.0, None])
    assert judged(default, candidate)[0].gain == pytest.approx(-0.5)
    assert judged(default, candidate, objective="hd95")[0].gain == pytest.approx(0.0)


def test_folds_count_by_their_cases_and_only_where_both_were_trained():
    first, second = [0.5, 0.5, 0.5], [0.6, 0.6, 0.6]
    others = {"x": 0.5}, {"x": 1.0}
    default = Contender(0, (*contender(0, first).trainings, Training(2, 0, others[0])))
    both = Contender(1, (*contender(1, second).trainings, Training(2, 0, others[1])))
    one, none = contender(2, second), Contender(3, (Training(4, 0, {"y": 1.0}),))
    found = judged(default, both, one, none)
    assert [verdict.number for verdict in found] == [1, 2]
    assert [verdict.gain for verdict in found] == pytest.approx([0.2, 0.1])
    assert judged(Contender(0, ()), one) == ()
    assert judged(contender(0, [None]), contender(1, [None])) == ()


def test_means_are_of_the_cases_that_gains_are_of_and_of_folds_that_all_share():
    first = contender(0, [0.5, None, None, 0.7], [0.6, None, None, 0.8])
    # The default alone has a second fold.
    default = Contender(0, (*first.trainings, Training(2, 0, {"x": 0.1})))
    better = contender(1, [0.7, 0.5, None, 0.9], [0.8, None, None, 0.9])
    never = Contender(2, ())
    means = means_of([default, better, never], "dsc")
    (verdict,) = judged(default, better)
    assert means.keys() == {0, 1}
    assert means[1].mean - means[0].mean == pytest.approx(verdict.gain)
    # A case that nobody has is left out; one that one training alone finds something in counts as right in the others.
    assert means[0].by_training == pytest.approx({(1, 0): 2.2 / 3, (1, 1): 2.4 / 3, (2, 0): 0.1})
    assert means[1].by_training == pytest.approx({(1, 0): 2.1 / 3, (1, 1): 2.7 / 3})


def test_means_of_those_who_share_no_fold_are_of_their_own():
    default, other = contender(0, [5.0, 7.0]), contender(1, [3.0], fold=2)
    assert [one.mean for one in means_of([default, other], "hd95").values()] == [6.0, 3.0]
