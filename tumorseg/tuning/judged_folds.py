"""What trainings say of the cases that their folds hold out, as tables that can be compared."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from tumorseg.schema.tuning import Objective
from tumorseg.tuning.objectives import BEST, sign_of
from tumorseg.types import FloatArray


class Training(NamedTuple):
    """A training that is judged, on the cases that its fold held out."""

    fold: int
    seed: int
    values: Mapping[str, float | None]
    """First objective by case_id, the mean over labels; None where there is rightly nothing."""


class Contender(NamedTuple):
    """A candidate, or the plan as it was."""

    number: int
    """Of its trial."""
    trainings: tuple[Training, ...]


class JudgedFold(NamedTuple):
    """Cases that a fold holds out, and what trainings make of them."""

    number: int
    case_ids: list[str]
    """Those that tell anybody apart, sorted."""
    tables: dict[int, FloatArray]
    """(trainings, cases) by the contender's number, more is better."""


class Means(NamedTuple):
    """The first objective of a contender on the cases that it is judged by."""

    mean: float
    """Over cases, of the mean over seeds."""
    by_training: dict[tuple[int, int], float]
    """Over the cases of a fold, by fold and seed."""


def judged_folds(contenders: Sequence[Contender], objective: Objective) -> list[JudgedFold]:
    """Return what every training says of each fold's cases, without folds in which there is nothing to tell."""
    numbers = sorted({training.fold for one in contenders for training in one.trainings})
    folds = [_fold(number, contenders, objective) for number in numbers]
    return [fold for fold in folds if fold.case_ids]


def shared_folds(folds: Sequence[JudgedFold], numbers: Sequence[int]) -> list[JudgedFold]:
    """Return the folds that all of these contenders were judged on."""
    return [fold for fold in folds if fold.tables.keys() >= set(numbers)]


def means_of(contenders: Sequence[Contender], objective: Objective) -> dict[int, Means]:
    """Return the means of all that were judged, by number, on the cases that gains are counted on.

    Each mean is of the folds that all contenders were judged on, so that their differences are gains; where there is no such fold, of the
    contender's own.
    """
    folds = judged_folds(contenders, objective)
    numbers = [one.number for one in contenders if any(one.number in fold.tables for fold in folds)]
    shared = shared_folds(folds, numbers)
    by_number = {one.number: one for one in contenders}
    return {number: _means(by_number[number], folds, shared, sign_of(objective)) for number in numbers}


def _means(one: Contender, folds: Sequence[JudgedFold], shared: Sequence[JudgedFold], sign: int) -> Means:
    own = shared_folds(folds, [one.number])
    by_training = {}
    for fold in own:
        seeds = [training.seed for training in one.trainings if training.fold == fold.number]
        for seed, row in zip(seeds, fold.tables[one.number], strict=True):
            by_training[fold.number, seed] = sign * float(row.mean())
    # Each fold counts by its cases, as in a gain.
    over_seeds = [fold.tables[one.number].mean(axis=0) for fold in shared or own]
    return Means(sign * float(np.concatenate(over_seeds).mean()), by_training)


def _fold(number: int, contenders: Sequence[Contender], objective: Objective) -> JudgedFold:
    rows: dict[int, list[Mapping[str, float | None]]] = {}
    for one in contenders:
        if own := [training.values for training in one.trainings if training.fold == number]:
            rows[one.number] = own
    every = list(chain.from_iterable(rows.values()))
    # A case in which nobody finds anything, and rightly so, tells nobody apart.
    case_ids = [case_id for case_id in sorted(every[0]) if any(row.get(case_id) is not None for row in every)]
    return JudgedFold(number, case_ids, {one: _table(found, case_ids, objective) for one, found in rows.items()})


def _table(rows: Sequence[Mapping[str, float | None]], case_ids: Sequence[str], objective: Objective) -> FloatArray:
    """Return (trainings, cases), more is better; nothing found where there is nothing is as good as can be."""
    # Of seconds every case has some.
    best, sign = BEST.get(objective, math.nan), sign_of(objective)
    table = np.zeros((len(rows), len(case_ids)))
    for place, row in enumerate(rows):
        values = [row.get(case_id) for case_id in case_ids]
        table[place] = [best if value is None else value for value in values]
    return sign * table
