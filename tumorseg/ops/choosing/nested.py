"""What the choice gains on cases that it did not see, and whether that may be claimed."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.choosing.protocol import Choice, IntArray, Scorer
from tumorseg.ops.choosing.rounds import Options
from tumorseg.ops.choosing.selecting import Selected, select_on_each
from tumorseg.ops.significance.intervals import Interval, mean_intervals
from tumorseg.types import FloatArray

_LEAST_PARTS = 3
"""Of two, each is chosen for on half of the cases, which says little of a choice on all of them."""
_DEALT = 5


class Nested(NamedTuple):
    """The choice on all cases, and for each part the choice on the others."""

    final: Selected
    by_part: dict[int, Selected]
    """Outer part to what was chosen on all others."""
    selected: FloatArray
    """(N, L): scores of each case by the choice that did not see its part."""
    baseline: FloatArray
    """(N, L): by the single candidate that was best on the other parts."""
    apparent: FloatArray
    """(N, L): by the final choice, which saw all cases: too good on average."""


class Gain(NamedTuple):
    """What the choice gains over the baseline in cases that it did not see."""

    name: str | None
    """A label or region; None: the mean over all of them in each case."""
    num_cases: int
    baseline: float
    selected: float
    gain: float
    """Mean paired difference."""
    interval: Interval | None
    """95 %, of the gain on other cases; None for fewer than two cases, or patients."""
    is_claimed: bool
    """Whether a gain may be claimed; of single names none is, as a choice is made for the mean."""


def parts_of(folds: IntArray, clusters: IntArray | None) -> IntArray:
    """Return the outer parts (N,) of cases: their folds where these are three or more, else five that patients are dealt into.

    Args:
        folds: (N,), the fold that holds out each case.
        clusters: (N,), the patient of each; None where each case is its own.
    """
    if np.unique(folds).size >= _LEAST_PARTS:
        return folds
    owners = np.arange(len(folds)) if clusters is None else clusters
    _, numbers = np.unique(owners, return_inverse=True)
    dealt: IntArray = (numbers % _DEALT).astype(np.int64)
    return dealt


def nested(scorer: Scorer, options: Options) -> Nested:
    """Choose on all cases, and for each part on the others, which is then scored on that part.

    The baseline is chosen in the same loop, so that no case has a say in what it is compared with.

    Args:
        scorer: of cases of two parts or more.
        options: what is proposed, and what it takes.

    Raises:
        InputError: all cases are of one part.

    References:
        Cawley & Talbot, On over-fitting in model selection and subsequent selection bias in performance evaluation, JMLR 2010.
    """
    parts = np.unique(scorer.parts)
    if parts.size < 2:
        raise InputError(
            f"found {len(scorer.case_ids)} cases of one part, expected two parts or more, so that what is chosen on one is measured on "
            "another; train another fold"
        )
    subsets = [np.flatnonzero(scorer.parts != part) for part in parts]
    final, *outer = select_on_each(scorer, [np.arange(len(scorer.parts)), *subsets], options)
    by_part = dict(zip(parts.tolist(), outer, strict=True))
    tables = _tables(scorer, [final, *outer])
    return Nested(
        final=final,
        by_part=by_part,
        selected=_put_together(scorer.parts, {part: tables[found.choice] for part, found in by_part.items()}),
        baseline=_put_together(scorer.parts, {part: tables[found.baseline] for part, found in by_part.items()}),
        apparent=tables[final.choice],
    )


def _tables(scorer: Scorer, found: Sequence[Selected]) -> dict[Choice, FloatArray]:
    """Return the scores (N, L), float64, of all that was chosen, and of the baselines."""
    wanted = tuple(dict.fromkeys(choice for one in found for choice in (one.choice, one.baseline)))
    tables = [np.asarray(table, dtype=np.float64) for table in scorer.scores(wanted)]
    return dict(zip(wanted, tables, strict=True))


def _put_together(parts: IntArray, tables: dict[int, FloatArray]) -> FloatArray:
    """Return the rows of each part from the table that is meant for it."""
    found = np.empty_like(next(iter(tables.values())))
    for part, table in tables.items():
        found[parts == part] = table[parts == part]
    return found


def honest_gains(found: Nested, scorer: Scorer) -> tuple[Gain, ...]:
    """Return the gain of the mean over all names, and of each name.

    A gain of the mean is claimed if the lower end of its interval is above 0 and the final choice is another than the baseline. Intervals
    are those of evaluation, made wider by the factor of Nadeau and Bengio: the parts' choices share most of their cases, so that they agree
    on what is good in these by chance, and each is measured on cases that the others saw.

    Args:
        found: of this scorer.
        scorer: for its names and clusters.

    References:
        Nadeau & Bengio, Inference for the generalization error, Machine Learning 2003; Bengio & Grandvalet, No unbiased estimator of the
        variance of k-fold cross-validation, JMLR 2004.
    """
    selected, baseline = _with_mean(found.selected), _with_mean(found.baseline)
    differences = selected - baseline
    is_other = found.final.choice != found.final.baseline
    gains = []
    intervals = mean_intervals(differences, clusters=scorer.clusters)
    for column, (name, interval) in enumerate(zip((None, *scorer.names), intervals, strict=True)):
        gain = float(differences[:, column].mean())
        wide = None if interval is None else _widened(interval, gain, num_parts=len(found.by_part))
        one = Gain(
            name=name,
            num_cases=len(selected),
            baseline=float(baseline[:, column].mean()),
            selected=float(selected[:, column].mean()),
            gain=gain,
            interval=wide,
            is_claimed=name is None and is_other and wide is not None and wide[0] > 0,
        )
        gains.append(one)
    return tuple(gains)


def _widened(interval: Interval, gain: float, *, num_parts: int) -> Interval:
    """Return an interval of a mean over K parts, of which each was chosen for on the K - 1 others, within the differences of DSC."""
    # The variance of a mean over K parts, 1 / K, becomes 1 / K + 1 / (K - 1): cases measured on over cases chosen on.
    factor = math.sqrt(1 + num_parts / (num_parts - 1))
    lower, upper = (min(1.0, max(-1.0, gain + factor * (end - gain))) for end in interval)
    return lower, upper


def _with_mean(scores: FloatArray) -> FloatArray:
    """Return the mean over names (N, 1), then the scores (N, L)."""
    return np.concatenate([scores.mean(axis=1, keepdims=True), scores], axis=1)
