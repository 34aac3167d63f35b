import numpy as np
import pytest

from tests.ops.significance.scored import absent, invented, missed, scored
from tumorseg.errors import InputError
from tumorseg.ops.significance.scores import (
    check_cluster_column,
    cluster_numbers,
    differences,
    goodness_table,
    score_table,
    size_table,
)

METRICS = ("dsc", "hd95_mm", "volume_error_ml")
CASES = [scored("a", 0.8, 2.5, volumes=(18.0, 20.0)), missed("b"), invented("c"), absent("d")]
SITES = {"a": {"site": "x"}, "b": {"site": "y"}, "c": {"site": "x"}, "d": {"scanner": "1"}}


def test_what_is_undefined_or_not_measured_is_no_number() -> None:
    found = score_table(CASES, (*METRICS, "nsd"))
    np.testing.assert_array_equal(found[0], [0.8, 2.5, -2.0, np.nan])
    np.testing.assert_array_equal(found[3], [np.nan, np.nan, 0.0, np.nan])
    assert score_table([], METRICS).shape == (0, 3)


def test_of_errors_around_zero_the_size_is_compared() -> None:
    np.testing.assert_array_equal(size_table(CASES, METRICS)[:, 2], [2.0, 20.0, 20.0, 0.0])


def test_goodness_rises_with_every_metric_and_orders_failures_last_and_the_rightly_empty_first() -> None:
    found = goodness_table(CASES, METRICS)
    np.testing.assert_array_equal(found[0], [0.8, -2.5, -2.0])
    np.testing.assert_array_equal(found[1], [0.0, -np.inf, -20.0])
    np.testing.assert_array_equal(found[2], [0.0, -np.inf, -20.0])
    np.testing.assert_array_equal(found[3], [np.inf, np.inf, 0.0])


def test_what_is_undefined_for_no_such_reason_orders_nothing() -> None:
    assert np.isnan(goodness_table([scored("a", 0.4, None)], METRICS)[0, 1])
    # None of the lesions that were missed is large enough to count.
    assert np.isnan(goodness_table([missed("a").changed(scores={"lesion_dsc": None})], ["lesion_dsc"])[0, 0])


def test_a_table_without_volumes_still_tells_a_failure() -> None:
    unknown = {"prediction_volume_ml": None, "reference_volume_ml": None}
    assert goodness_table([missed("a").changed(**unknown)], METRICS)[0, 1] == -np.inf


def test_two_failures_tie_and_one_is_the_worse() -> None:
    first = np.array([[-np.inf, -np.inf, np.inf, 0.5, np.nan]])
    second = np.array([[-np.inf, -3.0, 0.0, 0.25, 0.1]])
    np.testing.assert_array_equal(differences(first, second), [[0.0, -np.inf, np.inf, 0.25, np.nan]])


def test_differences_that_are_alike_up_to_rounding_are_equal() -> None:
    first, second = np.array([[0.3], [0.4], [0.8], [0.7]]), np.array([[0.2], [0.3], [0.7], [0.7 + 1e-16]])
    assert np.unique(first - second).size > 2
    assert differences(first, second)[:, 0].tolist() == [0.1, 0.1, 0.1, 0.0]


def test_rounding_is_that_of_the_largest_score_of_its_own_column() -> None:
    # 1e-9 is rounding of 374 mm a million times over, and more than that of 0.001.
    first = np.array([[374_000_000.0, 0.001], [1e-9, 1e-9]])
    np.testing.assert_array_equal(differences(first, np.zeros((2, 2)))[1], [0.0, 1e-9])


def test_cases_of_one_value_are_a_cluster_and_those_without_are_by_themselves() -> None:
    found = cluster_numbers(["a", "b", "c", "d", "x"], SITES, "site")
    assert found is not None
    assert found.tolist() == [0, 1, 0, 2, 3]
    assert cluster_numbers(["a", "b"], SITES, None) is None


def test_a_column_of_clusters_that_no_case_has_is_refused() -> None:
    check_cluster_column(["d", "a"], SITES, "site")
    with pytest.raises(InputError, match=r"no case has a value of 'patient'.*expected one of site, scanner"):
        check_cluster_column(["a", "b"], SITES, "patient")
