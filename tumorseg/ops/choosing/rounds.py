"""One round of the choice: proposals beside what stands, of which the best is taken if it holds."""

from collections.abc import Collection, Generator, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.ops.choosing.evidence import Stage, Trial, Verdict, evidence
from tumorseg.ops.choosing.protocol import Choice, canonical
from tumorseg.ops.significance.scores import Numbers
from tumorseg.schema.ensembles import PostprocessingStep
from tumorseg.types import FloatArray

ROUNDING = 1e-9
"""Means that differ by less are alike."""


class Options(NamedTuple):
    """What is proposed, and what it takes."""

    steps: tuple[PostprocessingStep, ...] = ()
    """Of postprocessing, any of which may be taken (`candidate_steps`)."""
    tolerance: float = 1e-4
    """Gain of a mean DSC that is none."""
    level: float = 0.1
    """Chance, one-sided and shared by the proposals of a round, up to which a gain is no noise; 1 takes whatever gains."""
    most_counts: int = 10
    """Sum of the counts of a name; the mean of all candidates is proposed however many they are."""
    most_steps: int = 4
    """Steps of postprocessing in a choice."""
    label_candidates: tuple[int, ...] = ()
    """Numbers of candidates that predict labels where regions are scored. Among themselves they are combined as labels: regions then have
    neither rows nor thresholds of their own, which are proposed only beside a candidate that predicts regions."""


class Setting(NamedTuple):
    """What all rounds of one search share."""

    names: tuple[str, ...]
    """L of them."""
    num_candidates: int
    has_regions: bool
    clusters: Numbers | None
    """(n,): of the n cases that the search is allowed to see."""
    options: Options


class Standing(NamedTuple):
    """What has been chosen so far."""

    choice: Choice
    scores: FloatArray
    """(n, L)"""
    baseline: Choice
    """The best single candidate, which the choice began with."""
    trials: tuple[Trial, ...] = ()
    """All that was compared."""


class Round(NamedTuple):
    """What is proposed at once, and what for."""

    stage: Stage
    proposals: Iterable[Choice]
    name: int | None = None
    """Place of the name that is to gain; None: the mean over all."""
    may_harm: bool = False
    """Whether the means of other names may fall."""


Tables = Sequence[FloatArray]
Search = Generator[Sequence[Choice], Tables, Standing]
"""Yields choices, is sent their scores (n, L), returns what it found: so several searches can be served by one pass over the cases."""


def take_best(standing: Standing, offer: Round, setting: Setting) -> Search:
    """Compare proposals with what stands, and take the best of those that hold.

    A proposal holds if its mean gains more than the tolerance, no name's mean falls (unless it may), and chance would hardly give
    as large a gain to any of the round (Bonferroni). Ties go to fewer members, then to smaller counts, then to the first.

    Returns:
        What stands then, with the trials of this round.
    """
    found = dict.fromkeys(canonical(choice) for choice in offer.proposals)
    labels = setting.options.label_candidates
    proposals = [choice for choice in found if choice != standing.choice and _is_sound(choice, labels)]
    if not proposals:
        return standing
    tables = yield proposals
    trials = _judge(standing, proposals, tables, offer=offer, setting=setting)
    ranked = [place for place, trial in enumerate(trials) if trial.verdict == "outdone"]
    if not ranked:
        return standing._replace(trials=(*standing.trials, *trials))
    best = min(ranked, key=lambda place: _rank(trials[place], place))
    trials[best] = trials[best]._replace(verdict="taken")
    return standing._replace(choice=proposals[best], scores=tables[best], trials=(*standing.trials, *trials))


def _is_sound(choice: Choice, label_candidates: Collection[int]) -> bool:
    """Return whether all of a choice has an effect."""
    is_common = len(choice.counts) == 1 and not choice.thresholds
    return is_common or not set(choice.used) <= set(label_candidates)


def _judge(
    standing: Standing, proposals: Sequence[Choice], tables: Tables, *, offer: Round, setting: Setting
) -> list[Trial]:
    """Return a trial for each proposal; those that hold are `outdone` until the best of them is known."""
    apart = [table - standing.scores for table in tables]
    found = evidence(_gains(apart, offer.name), setting.clusters)
    number = standing.trials[-1].round + 1 if standing.trials else 0
    trials = []
    for place, choice in enumerate(proposals):
        p = min(1.0, float(found.p[place]) * len(proposals))
        harmed = None if offer.may_harm else _harmed(apart[place], setting.names)
        trial = Trial(
            stage=offer.stage,
            round=number,
            choice=choice,
            name=None if offer.name is None else setting.names[offer.name],
            gain=float(found.gain[place]),
            error=float(found.error[place]),
            p=p,
            verdict="outdone",
            harmed=harmed,
        )
        trials.append(trial._replace(verdict=_verdict(trial, setting.options)))
    return trials


def _gains(apart: Tables, name: int | None) -> FloatArray:
    """Return by how much each proposal is better in each case (n, P), as to a name or the mean over all."""
    columns = [table.mean(axis=1) if name is None else table[:, name] for table in apart]
    return np.stack(columns, axis=1)


def _harmed(apart: FloatArray, names: Sequence[str]) -> str | None:
    """Return the first name whose mean falls, of differences (n, L)."""
    falls = np.flatnonzero(apart.mean(axis=0) < -ROUNDING)
    return names[falls[0]] if falls.size else None


def _verdict(trial: Trial, options: Options) -> Verdict:
    if not trial.gain > options.tolerance:
        return "no gain"
    if trial.harmed is not None:
        return "harms"
    return "outdone" if trial.p <= options.level else "within noise"


def _rank(trial: Trial, place: int) -> tuple[float, int, int, int]:
    """Return what orders proposals, the best first."""
    counts = sum(sum(row) for row in trial.choice.counts)
    return -round(trial.gain / ROUNDING), len(trial.choice.used), counts, place
