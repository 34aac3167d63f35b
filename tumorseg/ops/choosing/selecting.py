"""The choice on cases of which all scores may be seen, for several sets of cases at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.ops.choosing.evidence import Trial
from tumorseg.ops.choosing.finishing import improve_steps, improve_thresholds
from tumorseg.ops.choosing.greedy import best_single, improve_ensemble, improve_names
from tumorseg.ops.choosing.protocol import Choice, IntArray, Scorer
from tumorseg.ops.choosing.rounds import Options, Search, Setting
from tumorseg.types import FloatArray


class Selected(NamedTuple):
    """What was chosen, from what."""

    choice: Choice
    baseline: Choice
    """The best single candidate, without anything else: what a user would have who compares models and takes the best."""
    trials: tuple[Trial, ...]
    """All that was compared, in order; those of verdict `taken` lead from the baseline to the choice."""


def select(scorer: Scorer, cases: Sequence[int] | IntArray, options: Options) -> Selected:
    """Choose members and counts, thresholds and postprocessing on some cases.

    Args:
        scorer: of N cases.
        cases: places of those that may be looked at, at least one.
        options: what is proposed, and what it takes.
    """
    return select_on_each(scorer, [np.asarray(cases)], options)[0]


def select_on_each(scorer: Scorer, subsets: Sequence[IntArray], options: Options) -> list[Selected]:
    """Choose on each of some sets of cases, each by itself; the scorer is asked for what all of them wait for at once.

    Args:
        scorer: of N cases.
        subsets: places of cases, at least one in each.
        options: what is proposed, and what it takes.
    """
    searches = [_search(_setting(scorer, cases, options)) for cases in subsets]
    waiting = {number: next(search) for number, search in enumerate(searches)}
    found: dict[int, Selected] = {}
    while waiting:
        wanted = tuple(dict.fromkeys(choice for choices in waiting.values() for choice in choices))
        tables = dict(zip(wanted, scorer.scores(wanted), strict=True))
        for number, choices in list(waiting.items()):
            answer = [_seen(tables[choice], subsets[number]) for choice in choices]
            try:
                waiting[number] = searches[number].send(answer)
            except StopIteration as ended:
                found[number] = Selected(ended.value.choice, ended.value.baseline, ended.value.trials)
                del waiting[number]
    return [found[number] for number in range(len(searches))]


def _setting(scorer: Scorer, cases: IntArray, options: Options) -> Setting:
    clusters = None if scorer.clusters is None else scorer.clusters[cases]
    return Setting(tuple(scorer.names), scorer.num_candidates, scorer.has_regions, clusters, options)


def _seen(table: FloatArray, cases: IntArray) -> FloatArray:
    """Return the scores of some cases, float64: means of many narrower numbers would round."""
    return table[cases].astype(np.float64, copy=False)


def _search(setting: Setting) -> Search:
    """Choose step by step; each goes on from what the one before took."""
    standing = yield from best_single(setting)
    for improve in (improve_ensemble, improve_names, improve_thresholds, improve_steps):
        standing = yield from improve(standing, setting)
    return standing
