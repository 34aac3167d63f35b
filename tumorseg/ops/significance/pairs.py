"""Two models compared by the pairs of their scores of one label."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tumorseg.ops.significance.effects import cohens_dz, outcomes, rank_biserial
from tumorseg.ops.significance.intervals import Interval, mean_intervals
from tumorseg.ops.significance.paired_tests import permutation_tests, wilcoxon_test
from tumorseg.ops.significance.scores import Numbers, differences
from tumorseg.ops.significance.words import tie_tolerance
from tumorseg.schema.comparisons import ComparedMetric, ComparisonRules
from tumorseg.schema.metric_names import METRICS
from tumorseg.types import FloatArray


class Pairs(NamedTuple):
    """Scores of one label in two reports: N cases, M metrics."""

    label: str
    metrics: Sequence[str]
    case_ids: Sequence[str]
    first: FloatArray
    """(N, M), NaN where undefined."""
    second: FloatArray
    gains: FloatArray
    """(N, M): by how much the first is better; infinite where one alone failed, NaN where that cannot be told."""
    clusters: Numbers | None

    @property
    def differences(self) -> FloatArray:
        """Return first minus second (N, M), NaN where either is undefined."""
        return differences(self.first, self.second)


def compare_metrics(pairs: Pairs, rules: ComparisonRules) -> list[ComparedMetric]:
    """Compare by every metric, without adjusting p.

    What needs numbers on both sides (means, their difference, its interval, the permutation test, d_z) rests on the pairs where both are
    defined. What needs an order alone (wins, signed ranks, superiority) counts a failure as the worst, too.
    """
    found = pairs.differences
    intervals = mean_intervals(found, clusters=pairs.clusters, intervals=rules.intervals)
    tests = permutation_tests(found, clusters=pairs.clusters, num_permutations=rules.num_permutations)
    rows = []
    for column, name in enumerate(pairs.metrics):
        row = ComparedMetric(
            label=pairs.label,
            metric=name,
            ci95=_within_range(name, intervals[column]),
            p_permutation=tests[column],
            p_permutation_holm=None,
            p_wilcoxon_holm=None,
            **_from_numbers(pairs.first[:, column], pairs.second[:, column], found[:, column]),
            cohens_dz=cohens_dz(METRICS[name].sign * found[~np.isnan(found[:, column]), column]),
            **_from_order(pairs, column, rules),
        )
        rows.append(row)
    return rows


def _from_numbers(first: FloatArray, second: FloatArray, apart: FloatArray) -> dict[str, Any]:
    """Return the fields that rest on pairs of numbers (N,), and on what these are apart (N,)."""
    has_first, has_second = ~np.isnan(first), ~np.isnan(second)
    both = has_first & has_second
    apart = apart[both]
    return {
        "num_pairs": apart.size,
        "num_first_only": int(np.count_nonzero(has_first & ~has_second)),
        "num_second_only": int(np.count_nonzero(has_second & ~has_first)),
        "first_mean": _mean(first[both]),
        "second_mean": _mean(second[both]),
        "mean_difference": _mean(apart),
        "std_difference": float(apart.std(ddof=1)) if apart.size > 1 else None,
    }


def _within_range(name: str, interval: Interval | None) -> Interval | None:
    """Return the part of an interval that lies where differences can: the studentised one may reach beyond."""
    if interval is None or not METRICS[name].is_share:
        return interval
    lower, upper = (min(max(bound, -1.0), 1.0) for bound in interval)
    return lower, upper


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if values.size else None


def _from_order(pairs: Pairs, column: int, rules: ComparisonRules) -> dict[str, Any]:
    """Return the fields that rest on which of the two is better."""
    name = pairs.metrics[column]
    gains = pairs.gains[:, column]
    known = ~np.isnan(gains)
    clusters = None if pairs.clusters is None else pairs.clusters[known]
    found = outcomes(gains[known], tie_tolerance(name, rules))
    return {
        "p_wilcoxon": wilcoxon_test(gains[known], clusters=clusters, num_permutations=rules.num_permutations),
        "rank_biserial": rank_biserial(gains[known]),
        "superiority": found.superiority,
        **found._asdict(),
    }
