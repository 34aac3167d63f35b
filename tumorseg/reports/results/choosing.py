"""Which cases a report shows in pictures."""

from typing import NamedTuple

import numpy as np

from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import CaseMetrics, MetricsReport


class ShownCase(NamedTuple):
    """A case that is worth a look, and why."""

    case_id: str
    remark: str
    """Such as `worst of 24, mean DSC 0.412`."""


def worst_and_best(report: MetricsReport, *, num_worst: int = 3, num_best: int = 3) -> list[ShownCase]:
    """Return the cases with the worst and the best mean over labels of the first metric, worst first.

    Cases whose metric is undefined for every label are left out; of equals the one that comes first in the report counts as
    worse. A report of few cases shows each once.
    """
    name = report.metrics[0]
    metric = METRICS[name]
    scores: dict[str, list[CaseMetrics]] = {}
    for case in report.cases:
        scores.setdefault(case.case_id, []).append(case)
    means = {}
    for case_id, cases in scores.items():
        known = [value for value in (case.scores[name] for case in cases) if value is not None]
        if known:
            means[case_id] = float(np.mean(np.abs(known) if metric.better == "nearer 0" else known))
    ranked = sorted(means, key=lambda case_id: metric.sign * means[case_id])
    # Of few cases none is among the worst and yet in the better half.
    worst = ranked[: min(num_worst, (len(ranked) + 1) // 2)]
    best = ranked[len(worst) :][-num_best:] if num_best else []
    chosen = [(case_id, "worst") for case_id in worst] + [(case_id, "best") for case_id in best]
    shown = []
    for case_id, place in chosen:
        words = f"among the {place} of {len(ranked)}, mean {metric.title} {means[case_id]:.{metric.decimals}f}"
        shown.append(ShownCase(case_id, words))
    return shown
