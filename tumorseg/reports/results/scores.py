"""The scores of all cases as the page's script reads them: one compact JSON value."""

from collections.abc import Mapping, Sequence
from typing import Any

from tumorseg.reports.figures import LogEntry, class_color
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import CaseMetrics, MetricsReport

_MORE_DECIMALS = 2  # than tables show, so that points of a plot do not fall onto each other
_VOLUME_DECIMALS = 4  # of millilitres: a tenth of a microlitre


def scores_value(report: MetricsReport) -> dict[str, Any]:
    """Return what the table and the plots of a page show.

    Names stand once, each row refers to them by number: `rows` holds lists of case, label, volumes of prediction and of
    reference in ml, then the metrics in order. Numbers are rounded; metrics.json keeps all digits.
    """
    cases = list(dict.fromkeys(case.case_id for case in report.cases))
    labels = list(dict.fromkeys([*report.summary, *(case.label for case in report.cases)]))
    # A dict each, as names come from data and may be thousands.
    case_numbers = {name: number for number, name in enumerate(cases)}
    label_numbers = {name: number for number, name in enumerate(labels)}
    rows = []
    for case in report.cases:
        rows.append([case_numbers[case.case_id], label_numbers[case.label], *_numbers(case, report.metrics)])
    return {
        "metrics": [_metric(name) for name in report.metrics],
        "labels": [{"name": name, "color": class_color(number)} for number, name in enumerate(labels)],
        "cases": cases,
        "columns": _columns(report.attributes, cases),
        "rows": rows,
    }


def log_value(log: Sequence[LogEntry]) -> dict[str, Any]:
    """Return the curves of a training by panel, each curve a value an epoch, null where there is none."""
    labels = list(dict.fromkeys(label for entry in log for label in entry.get("dsc") or {}))
    dsc = [[label, [(entry.get("dsc") or {}).get(label) for entry in log]] for label in labels]
    return {
        "epochs": [entry["epoch"] for entry in log],
        "panels": [
            {
                "title": "Loss",
                "curves": [["training", _field(log, "train_loss")], ["held out", _field(log, "validation_loss")]],
            },
            {"title": "DSC on validation patches", "range": [0, 1], "curves": dsc},
            {"title": "Learning rate", "curves": [["lr", _field(log, "lr")]]},
        ],
    }


def _field(log: Sequence[LogEntry], name: str) -> list[float | None]:
    return [entry.get(name) for entry in log]


def _metric(name: str) -> dict[str, Any]:
    metric = METRICS[name]
    return {
        "name": name,
        "title": metric.title,
        "decimals": metric.decimals,
        "share": metric.is_share,
        "better": metric.better,
    }


def _numbers(case: CaseMetrics, metrics: Sequence[str]) -> list[float | None]:
    scores: list[float | None] = []
    for volume in (case.prediction_volume_ml, case.reference_volume_ml):
        scores.append(None if volume is None else round(volume, _VOLUME_DECIMALS))
    for name in metrics:
        score = case.scores.get(name)
        scores.append(None if score is None else round(score, METRICS[name].decimals + _MORE_DECIMALS))
    return scores


def _columns(attributes: Mapping[str, Mapping[str, str]], cases: Sequence[str]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for case in cases for name in attributes.get(case, {})))
    return [{"name": name, "values": [attributes.get(case, {}).get(name) for case in cases]} for name in names]
