"""Weights of an ensemble's members by how well each one's folds segmented what they had not seen."""

import logging
from collections.abc import Sequence
from math import fsum

from tumorseg.errors import InputError
from tumorseg.schema.metrics import MetricsReport
from tumorseg.stages.inference.member_files import MemberFiles
from tumorseg.storage.json_files import read_record

logger = logging.getLogger(__name__)

WEIGHTS_ADVICE = "or give --weights, one number for each model"


def out_of_fold_weights(members: Sequence[MemberFiles], names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Return the mean DSC of each label or region by each member, over all cases that its folds held out.

    Args:
        members: of the ensemble.
        names: of the labels or regions.

    Returns:
        By name; one that no model found anything of, or that is in no case of a model, is not there: it weighs all alike.

    Raises:
        InputError: a fold is not validated, or not on such a label or region.
    """
    scores = [_mean_scores(member, names) for member in members]
    weights = {}
    for name in names:
        found = [score[name] for score in scores]
        known = [score for score in found if score is not None]
        if len(known) == len(found) and sum(known) > 0:
            weights[name] = tuple(known)
        else:
            logger.warning("%s is in no held-out case of a model, or no model finds it; there all weigh alike", name)
    return weights


def _mean_scores(member: MemberFiles, names: Sequence[str]) -> dict[str, float | None]:
    """Return the mean DSC over the cases that define it; None where none does."""
    if not member.validated_folds:
        raise InputError(
            f"{member.name}: no fold says which cases it held out, so that it has no out-of-fold DSC; give folds that do, {WEIGHTS_ADVICE}"
        )
    found: dict[str, list[float]] = {name: [] for name in names}
    for folder in member.validated_folds.values():
        if not folder.metrics.is_file():
            raise InputError(
                f"{folder.root} is not validated, so that its DSC is not known; run `tumorseg validate -m {folder.root}`, {WEIGHTS_ADVICE}"
            )
        report = read_record(MetricsReport, folder.metrics, error=InputError)
        if unknown := [name for name in names if name not in report.summary]:
            raise InputError(
                f"{folder.metrics} has no score of {', '.join(unknown)}, which other models of the ensemble find; {WEIGHTS_ADVICE[3:]}"
            )
        for case in report.cases:
            score = case.scores.get("dsc")
            if case.label in found and score is not None:
                found[case.label].append(score)
    return {name: fsum(scores) / len(scores) if scores else None for name, scores in found.items()}
