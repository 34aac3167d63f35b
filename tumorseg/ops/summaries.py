"""Summaries of the scores of many cases: means, spreads, confidence intervals, and their definitions."""

from collections.abc import Sequence

import numpy as np

from tumorseg.schema.metrics import CaseMetrics, LabelSummary, MetricsReport, MetricSummary
from tumorseg.types import FloatArray

NUM_RESAMPLES = 2000
_NUM_BLOCKS = 20
_SEED = 0

METRICS = ("dsc", "nsd", "hd95_mm", "volume_error_ml")
"""What is summarised, in the order in which reports show it."""


def metrics_report(cases: Sequence[CaseMetrics], *, tolerance_mm: float) -> MetricsReport:
    """Return the metrics document of a set of scored cases, with definitions and summaries."""
    return MetricsReport(
        definitions=definitions(tolerance_mm),
        tolerance_mm=tolerance_mm,
        cases=tuple(cases),
        summary=summarize(cases),
    )


def summarize(cases: Sequence[CaseMetrics]) -> dict[str, LabelSummary]:
    """Summarise each label or region, in the order in which they first appear."""
    by_label: dict[str, list[CaseMetrics]] = {}
    for case in cases:
        by_label.setdefault(case.label, []).append(case)
    return {label: _summarize_label(group) for label, group in by_label.items()}


def _summarize_label(cases: Sequence[CaseMetrics]) -> LabelSummary:
    return LabelSummary(
        dsc=summarize_values([case.dsc for case in cases]),
        nsd=summarize_values([case.nsd for case in cases]),
        hd95_mm=summarize_values([case.hd95_mm for case in cases]),
        volume_error_ml=summarize_values([case.volume_error_ml for case in cases]),
        num_undefined=sum(case.is_undefined for case in cases),
        num_missed=sum(case.is_missed for case in cases),
        num_invented=sum(case.is_invented for case in cases),
    )


def summarize_values(values: Sequence[float | None]) -> MetricSummary:
    """Return mean, sample standard deviation and confidence interval of the values that are defined."""
    defined = np.array([value for value in values if value is not None], dtype=np.float64)
    mean = float(defined.mean()) if defined.size else None
    # One value alone has no spread: its n - 1 is 0, and every resample is that value.
    if defined.size < 2:
        return MetricSummary(mean=mean, std=None, ci95=None)
    return MetricSummary(mean=mean, std=float(defined.std(ddof=1)), ci95=confidence_interval(defined))


def confidence_interval(values: FloatArray) -> tuple[float, float]:
    """Return the percentile bootstrap's 95 % interval of the mean; the same values give the same interval.

    Args:
        values: (N,), at least two.

    References:
        Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    generator = np.random.default_rng(_SEED)
    # In blocks, so that memory stays small for many cases.
    shape = (NUM_RESAMPLES // _NUM_BLOCKS, values.size)
    means = [values[generator.integers(values.size, size=shape)].mean(axis=1) for _ in range(_NUM_BLOCKS)]
    lower, upper = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(lower), float(upper)


def definitions(tolerance_mm: float) -> dict[str, str]:
    """Return what each figure of a metrics document means, in words."""
    return {
        "dsc": "Dice similarity coefficient, 2 |P ∩ R| / (|P| + |R|) over voxels of prediction P and reference R",
        "nsd": (
            f"Normalised surface distance at {tolerance_mm:g} mm: share of the border voxels of P and R together that lie "
            f"within {tolerance_mm:g} mm of the other's border"
        ),
        "hd95_mm": (
            "95th percentile Hausdorff distance in mm: the larger of the 95th percentiles of the distances from P's border "
            "voxels to R's border and back"
        ),
        "volume_error_ml": "Volume of P minus volume of R in ml; below 0 the prediction is too small",
        "border": (
            "Voxels with a face neighbour outside the mask; beyond the image's edge is outside; distances are Euclidean, "
            "between voxel centres; in a 2D image borders lie within the plane"
        ),
        "ignored_voxels": "Voxels that carry the ignore label in the reference count in neither P nor R",
        "empty_masks": (
            "P and R both empty: dsc, nsd and hd95_mm are null, left out of means, and counted in num_undefined. One of them "
            "empty: dsc and nsd are 0 and enter the means, hd95_mm is null and left out of means, and the case is counted in "
            "num_missed (P empty) or num_invented (R empty). volume_error_ml is always defined"
        ),
        "missing": (
            "Cases that have R and no P: with evaluate --missing worst they are scored as if P were empty, else they are in no figure. Cases "
            "whose P is damaged (failed) are treated alike; those whose R is damaged are in no figure. is_complete is false where a case is "
            "in no figure"
        ),
        "summary": (
            "mean; std: sample standard deviation (n - 1); ci95: 95 % confidence interval of the mean by percentile bootstrap "
            f"over cases ({NUM_RESAMPLES} resamples, fixed seed); std and ci95 are null for fewer than two values"
        ),
    }
