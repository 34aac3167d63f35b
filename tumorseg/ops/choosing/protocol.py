"""What is chosen, and what scores it: the seam between the choice and whoever holds the cases' probabilities."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tumorseg.schema.ensembles import Combination, PostprocessingStep
from tumorseg.types import FloatArray

IntArray = NDArray[np.int64]
HALF = 0.5
"""The threshold of a region for which none was chosen."""

Row = tuple[int, ...]
"""How often each candidate counts in a mean."""


class Choice(NamedTuple):
    """An ensemble of some candidates with all that is done to its answer; `canonical` gives equal ones one form."""

    counts: tuple[Row, ...]
    """One row for all names, or one a name: how often each candidate counts in the mean of probabilities. Of labels, which share a
    softmax, the rows are the weights per label of `Combination`."""
    thresholds: tuple[float, ...] = ()
    """Region by region, the probability above which it is painted; empty: .5 everywhere, or labels."""
    steps: tuple[PostprocessingStep, ...] = ()
    """Done to the mask one after the other."""

    def row(self, name: int) -> Row:
        """Return the counts of a name by its place."""
        return self.counts[name if len(self.counts) > 1 else 0]

    @property
    def used(self) -> tuple[int, ...]:
        """Return the numbers of the candidates that count for any name, rising."""
        return tuple(number for number, column in enumerate(zip(*self.counts, strict=True)) if any(column))

    def combination(self, names: Sequence[str]) -> Combination:
        """Return the record of this choice among the candidates that are `used`, in their order; its temperature is 1.

        Args:
            names: of the labels or regions that are scored.
        """
        used = self.used
        weights = {}
        for place, name in enumerate(names):
            row = self.row(place)
            # Rows of their own are shares, so that none weighs more in the background of labels than another.
            total = sum(row) if len(self.counts) > 1 else 1
            weights[name] = tuple(row[number] / total for number in used)
        # All alike is what a combination without weights does; a single member's answer is then left as it is.
        is_plain = all(len(set(found)) == 1 for found in weights.values())
        thresholds = {}
        for name, threshold in zip(names, self.thresholds, strict=False):
            if threshold != HALF:
                thresholds[name] = threshold
        return Combination(weights={} if is_plain else weights, thresholds=thresholds, postprocessing=self.steps)


class Scorer(Protocol):
    """Scores choices on all cases, each predicted by networks that did not train on it."""

    names: tuple[str, ...]
    """L labels or regions that are scored."""
    case_ids: tuple[str, ...]
    """N of them."""
    parts: IntArray
    """(N,): outer part (fold) of each case; cases of one patient share a part."""
    clusters: IntArray | None
    """(N,): the patient of each case, cases of whom are drawn together; None where each is its own."""
    num_candidates: int
    """M models that may be members."""
    has_regions: bool
    """Whether the names are regions, which have thresholds; else labels, which share a softmax."""

    def scores(self, choices: Sequence[Choice]) -> list[FloatArray]:
        """Return what each choice scores, in the order of the choices; called with many at once, so that one pass over cases serves all.

        Args:
            choices: canonical and different from each other.

        Returns:
            For each a table (N, L) of DSC: 1 where neither mask has the name, 0 where one alone has it; no NaN. The scorer remembers
            what it has scored if it wants to: the same choice may be asked for again.
        """
        ...


def canonical(choice: Choice) -> Choice:
    """Return the one form of choices that give the same masks: rows divided by their greatest common divisors, and so on."""
    rows = tuple(_divided(row) for row in choice.counts)
    if len(set(rows)) == 1:
        rows = rows[:1]
    is_half = all(threshold == HALF for threshold in choice.thresholds)
    return Choice(rows, () if is_half else choice.thresholds, choice.steps)


def _divided(row: Row) -> Row:
    divisor = math.gcd(*row)
    return tuple(count // divisor for count in row) if divisor else row


def single(candidate: int, num_candidates: int) -> Choice:
    """Return the choice of one candidate alone."""
    return Choice((one_hot(candidate, num_candidates),))


def one_hot(candidate: int, num_candidates: int) -> Row:
    """Return the row in which one candidate counts once."""
    return tuple(int(number == candidate) for number in range(num_candidates))


def all_alike(num_candidates: int) -> Row:
    """Return the row in which each candidate counts once."""
    return (1,) * num_candidates
