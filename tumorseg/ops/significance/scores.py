"""Scores of cases as arrays, and which cases belong together."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import CaseMetrics
from tumorseg.types import FloatArray

Numbers = NDArray[np.int64]
"""(N,), the number of each case's cluster, from 0."""
_DIGITS = 12
"""Digits of the largest score that are more than rounding: means of some thousand numbers are off by less."""


def score_table(cases: Sequence[CaseMetrics], metrics: Sequence[str]) -> FloatArray:
    """Return the scores (N cases, M metrics) of one label, float64; NaN where one is undefined, or was not measured."""
    rows = [[case.scores.get(name) for name in metrics] for case in cases]
    # numpy reads None as NaN.
    return np.array(rows, dtype=np.float64).reshape(len(cases), len(metrics))


def size_table(cases: Sequence[CaseMetrics], metrics: Sequence[str]) -> FloatArray:
    """Return `score_table` with the size of those scores of which `nearer 0` is better."""
    table = score_table(cases, metrics)
    is_signed = [METRICS[name].better == "nearer 0" for name in metrics]
    table[:, is_signed] = np.abs(table[:, is_signed])
    return table


def goodness_table(cases: Sequence[CaseMetrics], metrics: Sequence[str]) -> FloatArray:
    """Return what can be ordered (N cases, M metrics), float64: more is better, whatever the metric.

    A score that is undefined because the structure is in neither segmentation is infinite, since no prediction is better than a right
    one; a distance that is undefined because the structure was missed, or invented, is minus infinity. NaN where a score is undefined
    for another reason, which orders nothing.

    References:
        Lachin, Worst-rank score analysis with informatively missing observations in clinical trials, Controlled Clinical Trials 1999.
    """
    signs = np.array([METRICS[name].sign for name in metrics], dtype=np.float64)
    table = size_table(cases, metrics) * signs
    # Scores of lesions may be undefined where a structure is missed, since none of its lesions counts.
    is_distance = np.array([METRICS[name].group == "surface" for name in metrics])
    for row, case in zip(table, cases, strict=True):
        is_open = np.isnan(row)
        if case.is_undefined:
            row[is_open] = np.inf
        elif _has_failed(case):
            row[is_open & is_distance] = -np.inf
    return table


def _has_failed(case: CaseMetrics) -> bool:
    # A table that does not say volumes still says that nothing overlaps.
    return case.is_missed or case.is_invented or case.scores.get("dsc") == 0


def cluster_numbers(
    case_ids: Sequence[str], attributes: Mapping[str, Mapping[str, str]], column: str | None
) -> Numbers | None:
    """Return which cluster each case belongs to; None where each is its own.

    Args:
        case_ids: N cases.
        attributes: case to column to value. A case without a value of the column is a cluster of its own.
        column: that holds the clusters, such as patients; None for none.
    """
    if column is None:
        return None
    numbers: dict[tuple[str, str], int] = {}
    found = []
    for case_id in case_ids:
        value = attributes.get(case_id, {}).get(column, "")
        # A case_id is no value, even where both read alike.
        key = ("value", value) if value else ("case", case_id)
        found.append(numbers.setdefault(key, len(numbers)))
    return np.array(found, dtype=np.int64)


def check_cluster_column(
    case_ids: Sequence[str], attributes: Mapping[str, Mapping[str, str]], column: str | None
) -> None:
    """Check that some case has a value of the clusters' column.

    Raises:
        InputError: none has.
    """
    if column is None or not case_ids or any(attributes.get(case_id, {}).get(column) for case_id in case_ids):
        return
    columns = dict.fromkeys(name for found in attributes.values() for name in found)
    known = f"expected one of {', '.join(columns)}" if columns else "nothing but scores is known of the cases"
    raise InputError(f"no case has a value of {column!r}, the column of clusters; {known}")


def differences(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return first less second (N, M), float64, without what rounding left: differences that are alike in it are equal.

    Args:
        first: (N, M), infinite or NaN where a score is undefined; of equal infinities the difference is 0.
        second: likewise.
    """
    # Infinity less infinity is no number, but a tie.
    with np.errstate(invalid="ignore"):
        found = np.where(first == second, 0.0, first - second)
    scale = np.minimum(_scales(first), _scales(second))
    is_finite = np.isfinite(found)
    return np.where(is_finite, np.rint(np.where(is_finite, found, 0.0) * scale) / scale, found)


def without_rounding(table: FloatArray) -> FloatArray:
    """Return scores (N, M), in which those that differ in their last bits alone are equal."""
    return differences(table, np.zeros_like(table))


def _scales(table: FloatArray) -> FloatArray:
    """Return the factor (M,) that makes whole numbers of what in a column is more than rounding."""
    sizes = np.abs(np.where(np.isfinite(table), table, 0.0)).max(axis=0, initial=0.0)
    # A power of ten: scores of few decimals then lie far from where rounding goes up or down.
    powers = np.floor(np.log10(sizes, out=np.zeros_like(sizes), where=sizes > 0))
    scales: FloatArray = 10.0 ** (_DIGITS - powers)
    return scales
