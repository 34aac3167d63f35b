import numpy as np
import pytest
from scipy import stats

from tests.ops.significance.intervals import mean_interval
from tumorseg.ops.significance.intervals import mean_intervals
from tumorseg.ops.significance.resampling import SEED
from tumorseg.schema.metrics import Intervals

METHODS = ("percentile", "bca", "studentised")
SKEWED = np.random.default_rng(3).beta(8, 1.5, size=47)


def of(method: str, num_resamples: int = 2000, cluster: str | None = None) -> Intervals:
    return Intervals(method=method, num_resamples=num_resamples, cluster=cluster)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_are_those_of_scipy(method: str) -> None:
    # The same generator draws the same resamples.
    oracle = stats.bootstrap((SKEWED,), np.mean, method=method, n_resamples=2000, rng=np.random.default_rng(SEED))
    np.testing.assert_allclose(mean_interval(SKEWED, intervals=of(method)), oracle.confidence_interval, rtol=1e-9)


def test_a_studentised_interval_is_that_of_its_definition() -> None:
    generator = np.random.default_rng(SEED)
    drawn = SKEWED[generator.integers(SKEWED.size, size=(2000, SKEWED.size))]
    errors = drawn.std(axis=1, ddof=1) / SKEWED.size**0.5
    high, low = np.quantile((drawn.mean(axis=1) - SKEWED.mean()) / errors, (0.025, 0.975))
    error = SKEWED.std(ddof=1) / SKEWED.size**0.5
    oracle = SKEWED.mean() - low * error, SKEWED.mean() - high * error
    np.testing.assert_allclose(mean_interval(SKEWED, intervals=of("studentised")), oracle, rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_intervals_are_the_same_whatever_stands_beside_them_and_however_often(method: str) -> None:
    values = np.stack([SKEWED, 5 * SKEWED**2], axis=1)
    values[3:9, 1] = np.nan
    both = mean_intervals(values, intervals=of(method))
    for column in (0, 1):
        alone = mean_interval(values[:, column], intervals=of(method))
        np.testing.assert_allclose(both[column], alone, rtol=1e-12)
    assert mean_intervals(values, intervals=of(method)) == both


@pytest.mark.parametrize("method", METHODS)
def test_undefined_values_count_as_absent(method: str) -> None:
    values = np.array([0.5, np.nan, 0.7, 0.9, np.nan, 0.4, 0.8])
    defined = values[~np.isnan(values)]
    assert mean_interval(values, intervals=of(method)) == mean_interval(defined, intervals=of(method))


@pytest.mark.parametrize("method", METHODS)
def test_values_that_are_alike_have_an_interval_of_no_width(method: str) -> None:
    assert mean_interval(np.full(11, 0.7), intervals=of(method)) == (0.7, 0.7)


@pytest.mark.parametrize("values", [[], [0.4], [np.nan, 0.4, np.nan], [np.nan, np.nan]])
def test_fewer_than_two_cases_have_no_interval(values: list[float]) -> None:
    assert mean_interval(np.array(values)) is None


@pytest.mark.parametrize("method", METHODS)
def test_one_cluster_has_no_interval(method: str) -> None:
    clusters = np.zeros(9, dtype=np.int64)
    assert mean_interval(SKEWED[:9], clusters=clusters, intervals=of(method, cluster="site")) is None


@pytest.mark.parametrize("method", METHODS)
def test_clusters_of_one_case_each_are_cases(method: str) -> None:
    clusters = np.arange(SKEWED.size)[::-1]
    found = mean_interval(SKEWED[::-1], clusters=clusters, intervals=of(method))
    np.testing.assert_allclose(found, mean_interval(SKEWED, intervals=of(method)), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_cases_that_repeat_within_clusters_add_no_certainty(method: str) -> None:
    repeated, clusters = np.repeat(SKEWED, 3), np.repeat(np.arange(SKEWED.size), 3)
    clustered = mean_interval(repeated, clusters=clusters, intervals=of(method))
    np.testing.assert_allclose(clustered, mean_interval(SKEWED, intervals=of(method)), rtol=1e-9)
    lower, upper = mean_interval(repeated, intervals=of(method)) or (0.0, 1.0)
    assert clustered is not None
    assert upper - lower < 0.7 * (clustered[1] - clustered[0])


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_clustered_intervals_are_those_of_scipy_over_sums_and_counts(method: str) -> None:
    generator = np.random.default_rng(5)
    clusters = np.repeat(np.arange(23), generator.integers(1, 7, size=23))
    values = generator.normal(size=23)[clusters] + generator.normal(size=clusters.size)
    sums, counts = np.bincount(clusters, values), np.bincount(clusters)
    oracle = stats.bootstrap(
        (sums, counts),
        lambda s, n, axis: s.sum(axis=axis) / n.sum(axis=axis),
        method=method,
        paired=True,
        n_resamples=2000,
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    found = mean_interval(values, clusters=clusters, intervals=of(method))
    np.testing.assert_allclose(found, oracle, rtol=1e-9)


def test_a_rare_failure_leaves_the_studentised_interval_finite() -> None:
    values = np.array([0.0] + 39 * [1.0])
    found = mean_interval(values, intervals=of("studentised"))
    assert found == mean_interval(values, intervals=of("bca"))
    assert found is not None
    assert 0.8 < found[0] < 0.975 <= found[1] <= 1


OUTLIERS = {
    "of eight": np.array([1, 1.01, 1.02, 1.03, 1.04, 1.05, 1.02, 50]),
    "a penalty among fifty": np.append(np.random.default_rng(0).lognormal(np.log(3), 0.8, size=49), 374.0),
}


@pytest.mark.parametrize("values", OUTLIERS.values(), ids=OUTLIERS)
def test_a_value_far_off_leaves_the_studentised_interval_among_the_others(values: np.ndarray) -> None:
    lower, upper = mean_interval(values) or (0.0, 0.0)
    assert values.min() <= lower < values.mean() < upper
    # Student's t is 21.6 and 26.
    assert upper < 4 * values.mean()


@pytest.mark.parametrize("count", range(5, 12))
def test_intervals_stay_within_what_was_seen(count: int) -> None:
    table = np.random.default_rng(count).lognormal(0, 2, size=(count, 50))
    lower, upper = np.array(mean_intervals(table)).T
    assert (lower >= table.min(axis=0)).all()
    assert (upper <= table.max(axis=0)).all()
    assert (lower < table.mean(axis=0)).all()
    assert (table.mean(axis=0) < upper).all()


@pytest.mark.parametrize("count", [2, 3, 4])
def test_of_few_cases_the_studentised_interval_is_that_of_students_t(count: int) -> None:
    values = SKEWED[:count]
    oracle = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values, intervals=of("studentised")) == pytest.approx(oracle)
