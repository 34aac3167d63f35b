"""What scores choices on all held-out cases: remembers, and asks each case once for all that is new."""

import logging
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from tumorseg.ops.choosing.candidates import candidate_steps, contacts, nested_neighbours, touching_neighbours
from tumorseg.ops.choosing.protocol import Choice, IntArray
from tumorseg.ops.labels import to_values
from tumorseg.schema.base import content_hash
from tumorseg.schema.ensembles import PostprocessingStep
from tumorseg.schema.targets import IGNORE, Targets
from tumorseg.stages.selection.case_scores import score_choices
from tumorseg.stages.selection.combining_cases import OpenCase
from tumorseg.stages.selection.pool import Pool
from tumorseg.stages.selection.score_notes import ScoreNotes
from tumorseg.stages.selection.unseen import UnseenCase, clusters_of, parts_of_cases
from tumorseg.types import FloatArray

logger = logging.getLogger(__name__)

MOST_LOOKED_AT = 50
"""Cases, evenly spread, whose references show which labels touch."""


class PoolScorer:
    """A `Scorer` (ops/choosing/protocol.py) of the cases of a pool; a pass over them serves all choices that are asked for at once."""

    def __init__(self, pool: Pool, notes: ScoreNotes) -> None:
        """Take up a pool, and what was noted of it before."""
        subjects, wanted = pool.subjects, pool.question.wanted
        self.names = wanted.scored_names
        self.case_ids = tuple(case.case_id for case in subjects.cases)
        self.parts: IntArray = parts_of_cases(subjects.cases)
        self.clusters: IntArray | None = clusters_of(subjects.cases)
        self.num_candidates = len(subjects.candidates)
        self.has_regions = wanted.has_regions
        self._pool, self._notes = pool, notes
        self._places = {case_id: place for place, case_id in enumerate(self.case_ids)}
        self._tables: dict[str, FloatArray] = {}
        self.num_passes = 0
        """Over cases, in this run."""
        for case_id, scores in notes.read(len(self.names)):
            self._take(case_id, scores)

    def scores(self, choices: Sequence[Choice]) -> list[FloatArray]:
        """Return the DSC (N, L) under each choice.

        Raises:
            TumorsegError: cases failed; all are listed.
        """
        keys = [choice_key(choice) for choice in choices]
        unknown = [choice for choice, key in zip(choices, keys, strict=True) if self._unknown_cases(key)]
        if unknown:
            self._pass(unknown)
        return [self._tables[key] for key in keys]

    def _pass(self, choices: Sequence[Choice]) -> None:
        self.num_passes += 1
        missing = {choice: self._unknown_cases(choice_key(choice)) for choice in choices}
        places = sorted(set().union(*missing.values()))
        used = sorted({number for choice in choices for number in choice.used})

        def work(case: UnseenCase, opened: OpenCase) -> None:
            place = self._places[case.case_id]
            asked = [choice for choice in choices if place in missing[choice]]
            found = score_choices(opened, asked, self._pool.question).tolist()
            scores = {choice_key(choice): row for choice, row in zip(asked, found, strict=True)}
            self._notes.add(case.case_id, scores)
            self._take(case.case_id, scores)

        cases = [self._pool.subjects.cases[place] for place in places]
        self._pool.each_case(work, title=f"score {len(choices)} choices", cases=cases, candidates=used)

    def _unknown_cases(self, key: str) -> set[int]:
        """Return the places of the cases that a choice has not been scored on."""
        table = self._tables.get(key)
        if table is None:
            return set(range(len(self.case_ids)))
        return set(np.flatnonzero(np.isnan(table[:, 0])).tolist())

    def _take(self, case_id: str, scores: Mapping[str, list[float]]) -> None:
        place = self._places.get(case_id)
        if place is None:
            return
        for key, row in scores.items():
            if key not in self._tables:
                # Setting one default is atomic: threads that come at once get the same table.
                self._tables.setdefault(key, np.full((len(self.case_ids), len(self.names)), np.nan))
            self._tables[key][place] = row


@cache
def choice_key(choice: Choice) -> str:
    """Return the hash of a choice."""
    steps = [step.model_dump(mode="json") for step in choice.steps]
    return content_hash([choice.counts, choice.thresholds, steps])


def steps_to_try(pool: Pool) -> tuple[PostprocessingStep, ...]:
    """Return the steps of postprocessing that are worth a trial for these labels, going by which of them touch in references."""
    targets = pool.question.wanted
    groups = {}
    for name, classes in zip(targets.scored_names, targets.scored_classes, strict=True):
        groups[name] = tuple(targets.label_names[index] for index in classes)
    if targets.has_regions:
        return candidate_steps(groups, nested_neighbours(groups))
    labels = targets.label_names[1:]
    return candidate_steps(groups, touching_neighbours(_touched(pool, targets), labels))


def _touched(pool: Pool, targets: Targets) -> IntArray:
    """Return how often labels touch in some of the references."""
    cases = pool.subjects.cases
    places = np.unique(np.linspace(0, len(cases) - 1, MOST_LOOKED_AT).round().astype(np.int64))

    def work(_: UnseenCase, opened: OpenCase) -> IntArray:
        indices = opened.reference_in(opened.window(()))
        indices[indices == IGNORE] = 0
        return contacts(to_values(indices, targets), targets.label_values[1:])

    some = [cases[place] for place in places.tolist()]
    found = pool.each_case(work, title="look at references", cases=some, candidates=())
    total: IntArray = sum(found.values(), np.zeros((targets.num_classes, targets.num_classes), np.int64))
    return total
