"""Scores of made-up cases in every state."""

from tumorseg.ops.summaries import metrics_report
from tumorseg.schema.metrics import CaseMetrics, MetricsReport
from tumorseg.schema.score_rules import ScoreRules

RULES = ScoreRules(metrics=("dsc", "hd95_mm", "volume_error_ml"))


def scored(
    case_id: str,
    dsc: float | None,
    hd95_mm: float | None = None,
    *,
    label: str = "WT",
    volumes: tuple[float, float] = (20.0, 20.0),
) -> CaseMetrics:
    """Return the scores of one structure, with its volumes in prediction and reference in ml."""
    return CaseMetrics(
        case_id=case_id,
        label=label,
        prediction_volume_ml=volumes[0],
        reference_volume_ml=volumes[1],
        scores={"dsc": dsc, "hd95_mm": hd95_mm, "volume_error_ml": volumes[0] - volumes[1]},
    )


def missed(case_id: str, label: str = "WT") -> CaseMetrics:
    """Return the scores of a structure that was not found."""
    return scored(case_id, 0.0, label=label, volumes=(0.0, 20.0))


def invented(case_id: str, label: str = "WT") -> CaseMetrics:
    """Return the scores of a structure that is not there."""
    return scored(case_id, 0.0, label=label, volumes=(20.0, 0.0))


def absent(case_id: str, label: str = "WT") -> CaseMetrics:
    """Return the scores of a structure that is rightly in neither."""
    return scored(case_id, None, label=label, volumes=(0.0, 0.0))


def report(*cases: CaseMetrics, **attributes: dict[str, str]) -> MetricsReport:
    """Return the report of some cases, with what is known of them."""
    return metrics_report(cases, rules=RULES, attributes=attributes)
