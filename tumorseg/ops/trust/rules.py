"""One measurement of images: what is usual, and how unusual a value is.

A value scores the higher the further it is from the median of the training's images: 1 at 3.5 robust standard deviations, or where one in
forty of these images lies beyond it, whichever is further. So a measurement with heavy tails, such as the level of MR, says little.
"""

from typing import NamedTuple

import numpy as np

from tumorseg.ops.trust.measures import Measure, Positions, Units
from tumorseg.schema.trust import Rule, RuleKind
from tumorseg.types import FloatArray

USUAL_SPREADS = 3.5
"""Standard deviations from the centre that score 1."""
TAIL = 2.5
"""Per cent of the training's images beyond a score of 1 at most."""
LEAST_SPREAD: dict[RuleKind, float] = {
    "spacing": 0.06,
    "extent": 0.06,
    "body": 0.08,
    "edge": 0.2,
    "level": 0.3,
    "zeros": 0.05,
    "correlation": 0.15,
    "fit": 0.15,
    "flip": 0.1,
    "swap": 0.1,
    "empty": 0.01,
}
"""Standard deviation of a measurement at least: what is less matters to no network. Logarithms, shares, Fisher's transforms."""
LEAST_SPREAD_HU = 30.0
"""The same for levels of CT."""
FEW_CASES = 2.0
"""Spreads are larger by this over the number of cases: those of a few cases are too small more often than not."""
Q5_TO_STD = 1.645
"""Standard deviations of a normal distribution from its centre to percentile 5 or 95."""
LEAST_EFFECT = 2.0
"""Standard deviations from 0 to the mean of what tells an image from its mirrored self: fewer, and the images look alike both ways."""
FEWEST_DIRECTED = 4
"""Cases that must tell it at least."""
DIRECTIONS: tuple[RuleKind, ...] = ("flip", "swap")
"""What tells an image from the same one changed: its sign says which of the two one has."""
CHANGED_PART = 1 / 3
"""How far an image must be to the other side to score 1, as a part of how far training images are on theirs."""
CHANGED_SLOPE = 3.0
"""Of the score from there on: an image that was changed scores 3."""


class Typical(NamedTuple):
    """Where the values of a training lie."""

    center: float
    """Their median."""
    spread: float
    """Half the width of the inner 90 %, in standard deviations of a normal distribution, so that two clusters are usual, both."""


def typical(measure: Measure, values: FloatArray, units: Units) -> Typical:
    """Return where values (N,) lie; NaN are left out, and without any other the spread is infinite to all purposes."""
    known = values[np.isfinite(values)]
    if not known.size:
        return Typical(0.0, 1e9)
    low, center, high = np.percentile(known, (5, 50, 95))
    width = float(high - low) / (2 * Q5_TO_STD)
    return Typical(float(center), max(width, _least_spread(measure, units)) * (1 + FEW_CASES / known.size))


def _least_spread(measure: Measure, units: Units) -> float:
    if measure.kind == "level" and units.channels[measure.of[0]] is None:
        return LEAST_SPREAD_HU
    return LEAST_SPREAD[measure.kind]


def can_tell(measure: Measure, values: FloatArray) -> bool:
    """Tell whether a measurement can make an image unusual, going by the training's (N,), NaN where unknown."""
    known = values[np.isfinite(values)]
    if measure.kind == "empty":
        # Where training images were empty, too, another one is nothing new.
        return bool(known.size) and 100 * float(known.mean()) <= TAIL
    if measure.kind in DIRECTIONS:
        # At least what `_scores` measures by: where nothing can differ, as along an axis of one voxel, all are 0.
        is_told = known.size >= FEWEST_DIRECTED and float(known.mean()) >= LEAST_SPREAD[measure.kind]
        return is_told and float(known.mean()) >= LEAST_EFFECT * float(known.std(ddof=1))
    return bool(known.size)


class MadeRule(NamedTuple):
    """A rule, and what it says of the images that it was made from."""

    rule: Rule
    scores: FloatArray
    """(N,), each by what is typical of the other parts; NaN where unknown."""


def make_rule(measure: Measure, values: FloatArray, parts: Positions, units: Units) -> MadeRule:
    """Return the rule of a measurement.

    Args:
        measure: which.
        values: (N,) of the training's images, NaN where unknown.
        parts: (N,): each is compared with those of other parts.
        units: of levels.
    """
    found, unit = typical(measure, values, units), 1.0
    if measure.kind == "empty":
        # It has no distribution: an empty channel is unusual, whatever the number of images.
        found, scores = Typical(0.0, LEAST_SPREAD["empty"]), values / LEAST_SPREAD["empty"]
    else:
        scores = _cross_scores(measure, values, parts, units)
        if measure.kind not in DIRECTIONS:
            unit = max(USUAL_SPREADS, float(np.nanpercentile(scores, 100 - TAIL)))
            scores = scores / unit
    low, high = (natural(measure, float(end), units) for end in np.nanpercentile(values, (5, 95)))
    rule = Rule(
        kind=measure.kind,
        of=measure.of,
        center=_rounded(found.center),
        spread=_rounded(found.spread),
        unit=_rounded(unit),
        low=_rounded(low),
        high=_rounded(high),
    )
    return MadeRule(rule, scores)


def _cross_scores(measure: Measure, values: FloatArray, parts: Positions, units: Units) -> FloatArray:
    """Return how unusual each value is going by the other parts, not yet in units."""
    scores = np.full(len(values), np.nan)
    for part in np.unique(parts):
        others = typical(measure, values[parts != part], units)
        inside = parts == part
        scores[inside] = _scores(measure.kind, values[inside], others)
    return scores


def _scores(kind: RuleKind, values: FloatArray, found: Typical) -> FloatArray:
    """Return spreads from the centre; of flips and swaps how far to the other side, already in units."""
    if kind not in DIRECTIONS:
        below = (found.center - values) / found.spread
        spreads: FloatArray = np.maximum(below, 0.0) if kind == "fit" else np.abs(below)
        return spreads
    # 1 is what training images have, -1 a changed one; some left-out images may be on no side at all.
    sides = -values / max(found.center, LEAST_SPREAD[kind])
    beyond = 1 + CHANGED_SLOPE * (sides - CHANGED_PART)
    scores: FloatArray = np.where(sides > CHANGED_PART, beyond, np.maximum((1 + sides) / (1 + CHANGED_PART), 0.0))
    return scores


def score_of(rule: Rule, value: float) -> float:
    """Return how unusual a value is: at least 0, from 1 on by itself."""
    found = _scores(rule.kind, np.array([value]), Typical(rule.center, rule.spread))
    return float(found[0]) / rule.unit


def natural(measure: Measure, value: float, units: Units) -> float:
    """Return a measurement as people know it: mm, intensity, correlation."""
    if measure.kind in ("spacing", "extent", "body"):
        return float(np.exp(value))
    if measure.kind in ("correlation", "fit"):
        return float(np.tanh(value))
    unit = units.channels[measure.of[0]] if measure.kind == "level" else None
    return value if unit is None else float(np.sinh(value)) * unit


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
