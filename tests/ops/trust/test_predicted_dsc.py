import numpy as np
import pytest

from tumorseg.ops.trust.predicted_dsc import (
    PENALTIES,
    Known,
    feature_row,
    fit_dsc_rule,
    from_odds,
    is_telling,
    predict_dsc,
    to_odds,
)
from tumorseg.schema.trust import ImageProfile, NameFeatures

IMAGE = ImageProfile(
    spacing_mm=(2.0, 1.0, 1.5), shape=(30, 40, 50), body_mm=(50, 40, 60), edges=((0, 0), (0, 0), (0, 0)), channels=()
)


def features_of(expected, entropy=0.2, volume=1000.0):
    return NameFeatures(expected_dsc=expected, agreement=0.9, entropy=entropy, volume_mm3=volume, largest_probability=1)


def drawn(count, seed=0, noise=0.4, num_parts=5):
    """Return cases whose log odds follow from the features, with noise of their own, and their features."""
    random = np.random.default_rng(seed)
    found = [
        features_of(*map(float, row))
        for row in zip(
            random.uniform(0.5, 0.97, count),
            random.uniform(0.05, 0.4, count),
            10 ** random.uniform(2, 4, count),
            strict=True,
        )
    ]
    table = np.stack([feature_row(one, IMAGE) for one in found])
    odds = 0.8 * table[:, 0] - 1.5 * table[:, 1] + 0.2 * table[:, 2] + random.normal(0, noise, count)
    return Known(table, from_odds(odds), np.arange(count) % num_parts), found


def test_odds_and_dsc_are_each_others_inverse():
    dsc = np.linspace(0, 1, 41)
    np.testing.assert_allclose(from_odds(to_odds(dsc)), dsc, atol=1e-12)
    assert from_odds(np.array([-1e9, 1e9])).tolist() == [0, 1]


def test_predictions_are_those_of_ridge_regression():
    known, found = drawn(60, noise=0.01)
    rule = fit_dsc_rule(known).rule
    # With hardly any noise, what was drawn from is found again.
    for features, real in zip(found[:10], known.dsc, strict=False):
        assert predict_dsc(rule, features, IMAGE).value == pytest.approx(real, abs=0.02)
    assert rule.spearman > 0.99


def test_the_penalty_is_the_one_with_which_left_out_cases_are_predicted_best():
    known, _ = drawn(30, seed=2, noise=0.6)
    rule = fit_dsc_rule(known).rule
    table, odds = (known.features - rule.centers) / rule.scales, to_odds(known.dsc)

    def solved(rows, penalty):
        # A column of ones that is not penalised stands for the intercept.
        left = np.column_stack([table[rows], np.ones(len(table[rows]))])
        return np.linalg.solve(left.T @ left + penalty * np.diag([1, 1, 1, 1, 0]), left.T @ odds[rows])

    errors = {}
    for penalty in PENALTIES:
        kept = [np.delete(np.arange(30), out) for out in range(30)]
        missed = [odds[out] - np.append(table[out], 1) @ solved(rows, penalty) for out, rows in enumerate(kept)]
        errors[penalty] = np.square(missed).mean()
    *coefficients, intercept = solved(slice(None), min(errors, key=errors.get))
    np.testing.assert_allclose(
        [*rule.linear.coefficients, rule.linear.intercept], [*coefficients, intercept], rtol=1e-4, atol=1e-9
    )


def test_parts_are_predicted_from_the_others_only():
    known, _ = drawn(40)
    before = fit_dsc_rule(known).predicted
    changed = known.dsc.copy()
    changed[known.parts == 2] = 0.1
    after = fit_dsc_rule(known._replace(dsc=changed)).predicted
    # The standardisation is of features alone, which have not changed.
    np.testing.assert_array_equal(after[known.parts == 2], before[known.parts == 2])
    assert (after[known.parts != 2] != before[known.parts != 2]).all()


def test_the_interval_is_cv_plus_computed_by_hand():
    known, found = drawn(39, seed=3)
    rule = fit_dsc_rule(known).rule
    row = (feature_row(found[4], IMAGE) - rule.centers) / rule.scales
    around = []
    for linear, left in zip(rule.parts, rule.residuals, strict=True):
        around += [linear.intercept + float(row @ linear.coefficients) + residual for residual in left]
    # Of 39 values a new one is below the second smallest with a probability of 2 in 40.
    low, high = np.sort(around)[1], np.sort(around)[-2]
    shown = predict_dsc(rule, found[4], IMAGE)
    assert (shown.low, shown.high) == pytest.approx((float(from_odds(low)), float(from_odds(high))), abs=1e-4)


def test_the_interval_covers_nine_in_ten_of_new_cases():
    covered, below, count = 0, 0, 0
    for seed in range(25):
        known, found = drawn(130, seed=100 + seed)
        rule = fit_dsc_rule(Known(known.features[:50], known.dsc[:50], known.parts[:50])).rule
        for features, real in zip(found[50:], known.dsc[50:], strict=True):
            shown = predict_dsc(rule, features, IMAGE)
            covered += shown.low <= real <= shown.high
            below += real < shown.low
            count += 1
    assert 0.88 < covered / count < 0.95
    assert 0.02 < below / count < 0.08


def test_few_cases_have_a_prediction_without_an_interval_and_fewer_none():
    known, found = drawn(18)
    shown = predict_dsc(fit_dsc_rule(known).rule, found[0], IMAGE)
    assert (shown.low, shown.high) == (None, None)
    assert fit_dsc_rule(drawn(9)[0]) is None
    assert fit_dsc_rule(known._replace(parts=np.array([0] * 15 + [1] * 3))) is None


def test_nineteen_cases_are_enough_for_an_interval():
    known, found = drawn(19)
    assert predict_dsc(fit_dsc_rule(known).rule, found[0], IMAGE).low is not None


def test_where_nothing_was_found_nothing_is_predicted():
    rule = fit_dsc_rule(drawn(30)[0]).rule
    nothing = NameFeatures(expected_dsc=None, agreement=None, entropy=None, volume_mm3=0, largest_probability=0.2)
    assert predict_dsc(rule, nothing, IMAGE) is None


def test_volumes_beyond_all_that_were_seen_count_like_the_largest_and_expectations_count_on():
    rule = fit_dsc_rule(drawn(60)[0]).rule
    largest = predict_dsc(rule, features_of(0.9, volume=10 ** rule.highs[2]), IMAGE)
    assert predict_dsc(rule, features_of(0.9, volume=1e9), IMAGE) == largest
    least = float(from_odds(np.array(rule.lows[0])))
    assert (
        predict_dsc(rule, features_of(least / 2), IMAGE).value
        < predict_dsc(rule, features_of(least), IMAGE).value - 0.05
    )


def test_predictions_by_chance_are_not_telling():
    known, _ = drawn(60)
    shuffled = np.random.default_rng(5).permutation(known.dsc)
    assert is_telling(fit_dsc_rule(known).rule)
    assert not is_telling(fit_dsc_rule(known._replace(dsc=shuffled)).rule)


def test_equal_dsc_have_no_rank_correlation():
    known, _ = drawn(30)
    rule = fit_dsc_rule(known._replace(dsc=np.full(30, 0.8))).rule
    assert rule.spearman is None
    assert rule.mean_error == pytest.approx(0, abs=1e-5)
