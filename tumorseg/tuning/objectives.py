"""What trials are judged by: scores of cases, and the objectives that they come to."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from tumorseg.errors import InputError
from tumorseg.schema.metrics import CaseMetrics
from tumorseg.schema.tuning import MAXIMISED, CaseScores, Objective

METRICS_OF: dict[Objective, str] = {"dsc": "dsc", "nsd": "nsd", "hd95": "hd95_mm"}
"""The metric that an objective is a mean of; `seconds` is of none."""
BEST: dict[Objective, float] = {"dsc": 1.0, "nsd": 1.0, "hd95": 0.0}
"""What an objective is of a case in which there is rightly nothing, where others found something."""
WORDS: dict[Objective, str] = {"dsc": "DSC", "nsd": "NSD", "hd95": "mm of HD95", "seconds": "s a case"}
"""What amounts of an objective are called."""


def metrics_of(objectives: Sequence[Objective]) -> tuple[str, ...]:
    """Return the metrics that have to be measured; the DSC always is."""
    asked = [METRICS_OF[objective] for objective in objectives if objective in METRICS_OF]
    return tuple(dict.fromkeys(("dsc", *asked)))


def sign_of(objective: Objective) -> int:
    """Return 1 where more is better, -1 where less is."""
    return 1 if objective in MAXIMISED else -1


def is_better(objective: Objective, first: float, second: float) -> bool:
    """Return whether the first value of an objective is the better one."""
    return sign_of(objective) * first > sign_of(objective) * second


def case_scores(
    metrics: Sequence[CaseMetrics], *, diagonal_mm: float | None = None, seconds: float | None = None
) -> CaseScores:
    """Return the scores of one case.

    Args:
        metrics: of each of its labels or regions.
        diagonal_mm: of the image, which a label counts as HD95 that only one of the two segmentations has: missing must not pay. None where
            nobody asks for the HD95.
        seconds: that predicting it took, if somebody asks.
    """
    nsd = {one.label: one.scores["nsd"] for one in metrics if "nsd" in one.scores}
    hd95 = {one.label: _distance(one, diagonal_mm) for one in metrics if "hd95_mm" in one.scores}
    return CaseScores(dsc={one.label: one.scores["dsc"] for one in metrics}, nsd=nsd, hd95=hd95, seconds=seconds)


def _distance(found: CaseMetrics, diagonal_mm: float | None) -> float | None:
    value = found.scores["hd95_mm"]
    return diagonal_mm if value is None and not found.is_undefined else value


def case_value(scores: CaseScores, objective: Objective) -> float | None:
    """Return an objective of one case: the mean over its labels; None where no segmentation has any, or it was not measured."""
    if objective == "seconds":
        return scores.seconds
    by_label: Mapping[str, float | None] = getattr(scores, objective)
    defined = [value for value in by_label.values() if value is not None]
    return fmean(defined) if defined else None


def objective_values(cases: Mapping[str, CaseScores], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Return the mean of each objective over cases; those in which there is nothing to score are left out.

    Args:
        cases: by case_id.
        objectives: in the order that is asked for.

    Raises:
        InputError: an objective is defined in no case.
    """
    values = []
    for objective in objectives:
        found = [case_value(scores, objective) for scores in cases.values()]
        defined = [value for value in found if value is not None]
        if not defined:
            raise InputError(
                f"{objective} is defined in none of {len(cases)} scored cases, expected one at least: neither references nor predictions have "
                "any label there; tune on cases that have some"
            )
        values.append(fmean(defined))
    return tuple(values)
