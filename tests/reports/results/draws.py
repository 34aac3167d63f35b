"""Scores as they are found in practice."""

from collections.abc import Mapping

import numpy as np

from tumorseg.ops.summaries import metrics_report
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import CaseMetrics, Intervals, MetricsReport
from tumorseg.schema.score_rules import ScoreRules

LABELS = ("WT", "TC", "ET")
TEN_METRICS = tuple(METRICS)[:10]


def drawn_cases(num_cases: int, metrics: tuple[str, ...], *, seed: int, level: float = 0.8) -> list[CaseMetrics]:
    """Scores as they are found in practice: skewed, now and then a miss, an invention, or an absent structure."""
    generator = np.random.default_rng(seed)
    cases = []
    for number in range(num_cases):
        for label in LABELS:
            reference = float(generator.lognormal(2, 1.2)) * (generator.random() > 0.08)
            prediction = reference * float(generator.normal(1, 0.15)) * (generator.random() > 0.04)
            prediction = max(prediction, 0.0) if reference else float(generator.random() > 0.5) * 0.7
            scores = _scores(generator, metrics, level, prediction, reference)
            cases.append(
                CaseMetrics(
                    case_id=f"case_{number:04d}",
                    label=label,
                    prediction_volume_ml=prediction,
                    reference_volume_ml=reference,
                    scores=scores,
                )
            )
    return cases


def _scores(
    generator: np.random.Generator, metrics: tuple[str, ...], level: float, prediction: float, reference: float
) -> dict[str, float | None]:
    scores: dict[str, float | None] = {}
    for name in metrics:
        is_share, is_found = METRICS[name].is_share, prediction > 0 and reference > 0
        value = float(generator.beta(10 * level, 10 * (1 - level)) if is_share else generator.gamma(2, 2))
        empty = 0.0 if is_share and prediction + reference > 0 else None
        scores[name] = value if is_found else empty
    if "volume_error_ml" in metrics:
        scores["volume_error_ml"] = prediction - reference
    return scores


def drawn_attributes(num_cases: int) -> Mapping[str, Mapping[str, str]]:
    return {f"case_{n:04d}": {"site": f"site {'ABC'[n % 3]}", "scanner": f"S{n % 2}"} for n in range(num_cases)}


def drawn_report(
    num_cases: int,
    metrics: tuple[str, ...] = ("dsc", "nsd", "hd95_mm", "volume_error_ml"),
    *,
    seed: int = 0,
    level: float = 0.8,
) -> MetricsReport:
    return metrics_report(
        drawn_cases(num_cases, metrics, seed=seed, level=level),
        rules=ScoreRules(metrics=metrics),
        intervals=Intervals(num_resamples=200),
        attributes=drawn_attributes(num_cases),
        subgroup_columns=("site",),
    )
