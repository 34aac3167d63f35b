"""A sample of what benchmarks/statistics.py shows."""

import json

import pytest

from benchmarks.statistics import LEVEL, RESULT, UNHEEDED, Cell, coverage, fewest, size
from tumorseg.ops.significance.few import FEW_CASES, FEW_CLUSTERS
from tumorseg.schema.metrics import IntervalMethod

SAMPLES = 500
"""Of which a share of 5 % has a standard error of 1 %."""


@pytest.mark.slow
@pytest.mark.parametrize("population", ["DSC, beta(5, 0.5)", "HD95, log-normal, sigma 1"])
def test_the_default_interval_holds_the_mean_of_skewed_scores_and_the_percentile_one_less_often(
    population: str,
) -> None:
    found = {row["method"]: row["coverage"] for row in coverage(Cell(population, "cases", 50), SAMPLES)}
    assert 0.92 <= found["studentised"] <= 0.98
    assert found["percentile"] < found["studentised"]


@pytest.mark.slow
def test_intervals_by_cluster_hold_the_mean() -> None:
    rows = coverage(Cell("DSC, beta(9, 1.5)", "clusters", 20), SAMPLES)
    assert 0.92 <= rows[-1]["coverage"] <= 0.98


def test_tests_of_counts_that_tie_find_no_more_than_they_say() -> None:
    found = size(Cell("lesions missed, Poisson, mean 1", "cases", 20), 200)
    assert 0 < found["wilcoxon"] < LEVEL + 0.03
    assert found["permutation"] < LEVEL + 0.03


@pytest.mark.slow
def test_tests_find_a_difference_between_like_models_in_one_of_twenty_samples() -> None:
    found = size(Cell("DSC, beta(9, 1.5), 10 % failures", "cases", 20), SAMPLES)
    assert abs(found["permutation"] - LEVEL) < 0.03
    assert abs(found["wilcoxon"] - LEVEL) < 0.03


@pytest.mark.slow
def test_with_clusters_only_tests_that_heed_them_do() -> None:
    found = size(Cell("DSC, beta(9, 1.5)", "clusters", 20), SAMPLES)
    assert abs(found["permutation"] - LEVEL) < 0.03
    assert abs(found["wilcoxon"] - LEVEL) < 0.03
    assert found[UNHEEDED] > 0.1


@pytest.mark.parametrize("method", ["percentile", "bca", "studentised"])
def test_few_is_what_the_benchmark_says(method: IntervalMethod) -> None:
    result = json.loads(RESULT.read_text())
    assert FEW_CASES[method] == fewest(result, "cases", method)
    assert FEW_CLUSTERS[method] == fewest(result, "clusters", method)
