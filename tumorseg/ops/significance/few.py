"""Where intervals rest on too few cases, or clusters, to hold what they promise."""

from collections.abc import Mapping, Sequence

import numpy as np

from tumorseg.ops.significance.scores import Numbers
from tumorseg.schema.metrics import IntervalMethod, Intervals
from tumorseg.types import FloatArray

FEW_CASES: dict[IntervalMethod, int] = {"percentile": 50, "bca": 50, "studentised": 40}
"""From it on 95 % intervals held the mean in at least 90 % of samples of each population without penalties (docs/statistics.md)."""
FEW_CLUSTERS: dict[IntervalMethod, int] = {"percentile": 40, "bca": 40, "studentised": 20}
"""The same for clusters drawn as wholes."""
_MOST_NAMED = 3


def num_units(values: FloatArray, clusters: Numbers | None) -> list[int]:
    """Return how many cases, or clusters, define each column.

    Args:
        values: (N, M), NaN where undefined.
        clusters: (N,), the cluster of each case; None where each is its own.
    """
    defined = ~np.isnan(values)
    if clusters is None:
        return [int(count) for count in defined.sum(axis=0)]
    return [np.unique(clusters[column]).size for column in defined.T]


def few_warnings(counts: Mapping[str, int], intervals: Intervals, *, where: str = "") -> list[str]:
    """Return a line that names the figures whose intervals rest on too few units, or no line.

    Args:
        counts: name of a figure to its cases or clusters; fewer than two have no interval.
        intervals: how they were computed.
        where: what the line begins with.
    """
    cluster = intervals.cluster
    least = (FEW_CASES if cluster is None else FEW_CLUSTERS)[intervals.method]
    units = "cases" if cluster is None else f"clusters by {cluster!r}"
    few = {name: count for name, count in counts.items() if 2 <= count < least}
    if not few:
        return []
    ordered = sorted(few.items(), key=lambda item: item[1])
    named = name_some([f"{name} ({count})" for name, count in ordered])
    return [f"{where}intervals rest on fewer than {least} {units}, and may be too narrow: {named}"]


def name_some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
