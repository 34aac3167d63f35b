"""Learn from out-of-fold cases what is usual of a model's images and masks, and set the threshold of review.

Every case is judged by what the cases of other parts teach, as a new case will be. One score tells how unusual anything about it is, and
the threshold leaves at most 5 % of the sound ones above it, all rules together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.ops.trust.image_rules import fit_image_rules
from tumorseg.ops.trust.measures import Positions
from tumorseg.ops.trust.predicted_dsc import (
    Known,
    feature_row,
    fit_dsc_rule,
    from_odds,
    is_telling,
    stack_rows,
    to_odds,
)
from tumorseg.ops.trust.rules import Q5_TO_STD, TAIL
from tumorseg.ops.trust.thresholds import upper_threshold
from tumorseg.schema.trust import DscRule, TrustCase, TrustProfile, TrustSubject
from tumorseg.types import FloatArray

FLAGGED_SHARE = 0.05
"""Of sound cases, at most."""
USUAL_SPREADS = 2.5
"""Standard deviations of predicted DSC below the median that score 1: one side only, and more worth a look than an odd image."""
LEAST_SPREAD = 0.1
"""Of log odds of predicted DSC."""
CERTAIN = 100.0
"""Score of what is unusual whatever the threshold."""
FENCE = 1.5
"""Quartile ranges below the lower quartile from which on a real DSC is poor (Tukey)."""
FEWEST_FENCED = 8
"""Cases from which quartiles say anything."""
NUM_PARTS = 5
"""Among which patients are dealt out."""


Chosen = NDArray[np.bool_]
"""Whether each case (N,) is meant."""


class _Scale(NamedTuple):
    """Where predictions of a name's DSC lie, as log odds."""

    center: float
    width: float
    """Below the centre that scores 1."""


class _Masks(NamedTuple):
    """What was learned of the masks of a label or region."""

    rule: DscRule
    """Without a threshold."""
    scale: _Scale | None
    """None where predictions are too weak to tell."""
    scores: FloatArray
    """(N,) of all cases, 0 where there is nothing to tell."""


def fit_trust(cases: Sequence[TrustCase], subject: TrustSubject) -> TrustProfile:
    """Learn what is usual.

    Args:
        cases: out of fold, in an order that is always the same.
        subject: what they are of.

    Raises:
        InputError: there are no cases.
    """
    if not cases:
        raise InputError("trust is learned from out-of-fold cases; found none, expected one at least; train a fold")
    parts = usable_parts(cases)
    images = fit_image_rules([case.image for case in cases], parts.tolist(), subject)
    is_sound = sound_cases(cases)
    always = _always_found(cases, is_sound)
    masks = _fit_masks(cases, dealt_parts(cases), is_sound)
    of_images = np.array([max(found.values(), default=0.0) for found in images.scores])
    # The most unusual of all that is measured, as one odd thing is enough for a look.
    scores = np.max([of_images, _missing_scores(cases, always), *(one.scores for one in masks.values())], axis=0)
    threshold = upper_threshold(_of_patients(cases, scores, is_sound), FLAGGED_SHARE)
    return TrustProfile(
        num_cases=len(cases),
        subject=subject,
        image=images.rules,
        dsc={name: _with_limit(one, threshold) for name, one in masks.items()},
        always_found=always,
        threshold=float(f"{threshold:.6g}"),
        num_sound=int(is_sound.sum()),
        num_flagged=int((scores[is_sound] > threshold).sum()),
    )


def _of_patients(cases: Sequence[TrustCase], scores: FloatArray, is_sound: Chosen) -> FloatArray:
    """Return the largest score of each patient's sound cases: those of one patient are no two witnesses."""
    largest: dict[str, float] = {}
    for case, score, kept in zip(cases, scores.tolist(), is_sound, strict=True):
        if kept:
            patient = _patient(case)
            largest[patient] = max(score, largest.get(patient, 0.0))
    return np.array(list(largest.values()))


def _patient(case: TrustCase) -> str:
    return case.case_id if case.group is None else case.group


def usable_parts(cases: Sequence[TrustCase]) -> Positions:
    """Return the part of each case (N,); several in any case, where there are several patients.

    Where a single fold was trained all cases are of one part: patients are dealt out.
    """
    parts = [case.part for case in cases]
    if len(set(parts)) > 1:
        return np.asarray(parts)
    patients = list(dict.fromkeys(_patient(case) for case in cases))
    return np.array([patients.index(_patient(case)) % NUM_PARTS for case in cases])


def dealt_parts(cases: Sequence[TrustCase]) -> Positions:
    """Return parts (N,) from which masks are learned: patients of each fold are dealt out evenly, so that every part knows all networks.

    A new case is seen by the very networks that these cases were seen by. Leaving a fold out would ask what a network does of which
    nothing is known, and short trainings differ by more than their cases do.
    """
    order = sorted(range(len(cases)), key=lambda number: (cases[number].part, number))
    parts = np.zeros(len(cases), np.int64)
    patients: dict[str, int] = {}
    for number in order:
        parts[number] = patients.setdefault(_patient(cases[number]), len(patients)) % NUM_PARTS
    return parts


def sound_cases(cases: Sequence[TrustCase]) -> Chosen:
    """Return which cases (N,) have masks as good as usual: no DSC of 0, and none far below the others'.

    Whether it is right to send the others to review is no question.
    """
    is_sound = np.ones(len(cases), np.bool_)
    for name in _names(cases):
        dsc = np.array([_number(case.dsc.get(name)) for case in cases])
        known = dsc[np.isfinite(dsc)]
        fence = 0.0
        if known.size >= FEWEST_FENCED:
            lower, upper = np.percentile(known, (25, 75))
            fence = float(lower - FENCE * (upper - lower))
        # What is not known is not poor.
        is_sound &= ~((dsc < fence) | (dsc == 0))
    return is_sound


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _names(cases: Sequence[TrustCase]) -> list[str]:
    """Return the names of labels and regions that predictions tell of."""
    return list(dict.fromkeys(name for case in cases for name in case.features))


def _always_found(cases: Sequence[TrustCase], is_sound: Chosen) -> tuple[str, ...]:
    sound = [case for case, kept in zip(cases, is_sound, strict=True) if kept]
    found = []
    for name in _names(sound):
        missing = [case for case in sound if _is_missing(case, name)]
        if 100 * len(missing) <= TAIL * len(sound):
            found.append(name)
    return tuple(found)


def _is_missing(case: TrustCase, name: str) -> bool:
    return name in case.features and case.features[name].is_missing


def _missing_scores(cases: Sequence[TrustCase], always: Sequence[str]) -> FloatArray:
    missing = [any(_is_missing(case, name) for name in always) for case in cases]
    return np.where(missing, CERTAIN, 0.0)


def _fit_masks(cases: Sequence[TrustCase], parts: Positions, is_sound: Chosen) -> dict[str, _Masks]:
    """Learn of each name how its DSC is predicted, and how unusual the predictions of the cases are."""
    masks = {}
    for name in _names(cases):
        positions, known = _known(cases, parts, name)
        fitted = fit_dsc_rule(known)
        if fitted is None:
            continue
        odds, scores, scale = to_odds(fitted.predicted), np.zeros(len(cases)), None
        if is_telling(fitted.rule) and is_sound[positions].any():
            scale = _scale_of(odds[is_sound[positions]])
            scores[positions] = np.maximum(scale.center - odds, 0) / scale.width
        masks[name] = _Masks(fitted.rule, scale, scores)
    return masks


def _known(cases: Sequence[TrustCase], parts: Positions, name: str) -> tuple[Positions, Known]:
    """Return the cases in which a name was found and scored: their positions, and what is known of them."""
    positions, rows, dsc = [], [], []
    for position, case in enumerate(cases):
        row = feature_row(case.features[name], case.image) if name in case.features else None
        real = case.dsc.get(name)
        if row is not None and real is not None:
            positions.append(position)
            rows.append(row)
            dsc.append(real)
    chosen = np.array(positions, np.int64)
    return chosen, Known(stack_rows(rows), np.array(dsc), parts[chosen])


def _scale_of(odds: FloatArray) -> _Scale:
    """Return where predictions (N,) for sound cases lie."""
    low, center = np.percentile(odds, (5, 50))
    spread = max(float(center - low) / Q5_TO_STD, LEAST_SPREAD)
    tail = float(center - np.percentile(odds, TAIL)) / spread
    return _Scale(float(center), spread * max(USUAL_SPREADS, tail))


def _with_limit(masks: _Masks, threshold: float) -> DscRule:
    """Return a name's rule with the predicted DSC whose score is the threshold."""
    if masks.scale is None:
        return masks.rule
    odds = masks.scale.center - threshold * masks.scale.width
    return masks.rule.changed(threshold=round(float(from_odds(np.array(odds))), 4))
