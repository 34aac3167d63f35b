"""Passes over the held-out cases: of each, the probabilities of every candidate, kept from before or computed anew."""

import gc
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeVar

import numpy as np

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.stages.inference.segment_ensemble import SAME_GRID_MM
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.loaded import failed_cases
from tumorseg.stages.opening.reading import expected_bytes
from tumorseg.stages.selection.candidates import Candidate, check_weights
from tumorseg.stages.selection.combining_cases import OpenCase, Question
from tumorseg.stages.selection.out_of_fold import write_probabilities
from tumorseg.stages.selection.references import write_reference
from tumorseg.stages.selection.unseen import UnseenCase
from tumorseg.stages.training.cascade import known_to
from tumorseg.storage.probability_cache import ProbabilityCache, Volumes
from tumorseg.tracking.progress import progress
from tumorseg.workers.lanes import run_lanes
from tumorseg.workers.machine import available_bytes
from tumorseg.workers.outcomes import Failure

logger = logging.getLogger(__name__)

NUM_LANES = 2
"""Cases at once: one is read or scored while a network looks at the other."""
R = TypeVar("R")


class Keys(NamedTuple):
    """Under which names things are kept."""

    probabilities: Mapping[tuple[int, str], str]
    """By number of the candidate and case_id."""
    references: Mapping[str, str]
    """By case_id."""


class Subjects(NamedTuple):
    """What is chosen among, and on what."""

    candidates: tuple[Candidate, ...]
    cases: tuple[UnseenCase, ...]
    own_cases: tuple[Mapping[str, Case], ...]
    """Of each candidate, the cases with its plan's channels, by case_id."""
    keys: Keys

    @property
    def question(self) -> Question:
        """Return what all cases are asked."""
        own = tuple(candidate.targets for candidate in self.candidates)
        return Question(own, next((targets for targets in own if targets.has_regions), own[0]))


class Shelf:
    """Networks of the folds that some cases need, each loaded when it is first asked for."""

    def __init__(self, candidates: Sequence[Candidate], device: str, runtime: RuntimeOptions) -> None:
        """Begin empty."""
        self._candidates, self._device, self._runtime = candidates, device, runtime
        self._models: dict[tuple[int, int], Model] = {}
        self._lock = Lock()

    def model(self, number: int, fold: int) -> Model:
        """Return the network of a candidate's fold; a cascade is shown what the fold was shown of the cases that it holds out.

        Raises:
            PlanError: it cannot be loaded, was trained meanwhile, or what it is shown is not there.
        """
        with self._lock:
            if (number, fold) not in self._models:
                self._models[number, fold] = self._load(number, fold)
            return self._models[number, fold]

    def _load(self, number: int, fold: int) -> Model:
        trained = self._candidates[number].folds[fold]
        previous = known_to(trained.folder, trained.run)
        model = load_model([trained.folder.root], self._device, previous=previous, runtime=self._runtime)
        # What is kept of it is named by the weights that were found when the command began.
        check_weights(self._candidates[number].name, trained, model.weight_hashes[0])
        # One network computes at a time, whichever it is, and all stop together.
        first = next(iter(self._models.values()), model)
        return model._replace(runtime=model.runtime.beside(first.runtime))

    def clear(self) -> None:
        """Let go of all networks, before others are loaded."""
        if self._models:
            self._models.clear()
            # Networks are parts of cycles.
            gc.collect()

    def stop(self) -> None:
        """Let cases that have begun fail soon."""
        for model in list(self._models.values()):
            model.stop()


class Pool:
    """Held-out cases with what is kept of them, on a device."""

    def __init__(self, subjects: Subjects, cache: ProbabilityCache, shelf: Shelf) -> None:
        """Take up cases and candidates."""
        self.subjects, self.question = subjects, subjects.question
        self._cache, self.shelf = cache, shelf
        self._all = tuple(range(len(subjects.candidates)))

    def fill(self) -> None:
        """Keep the probabilities of every case, as many as there is room for; what is kept already is only looked at.

        Raises:
            TumorsegError: cases failed; all are listed, and the others are kept.
        """
        self._each(self._fill_case, self.subjects.cases, "predict out of fold")
        kept = sum(self._cache.find(key) is not None for key in self.subjects.keys.probabilities.values())
        if (total := len(self.subjects.keys.probabilities)) > kept:
            logger.warning(
                "of %d predictions %d are kept, as no more fit into --cache-gb; the others are computed again for each pass over the cases",
                total,
                kept,
            )

    def _fill_case(self, case: UnseenCase) -> None:
        with self._reference(case):
            pass
        for number in self._all:
            # Without room, computing it would be in vain.
            if not self._cache.is_full or self._cache.find(self.subjects.keys.probabilities[number, case.case_id]):
                with self._volumes(case, number):
                    pass

    def each_case(
        self,
        work: Callable[[UnseenCase, OpenCase], R],
        *,
        title: str,
        cases: Sequence[UnseenCase] | None = None,
        candidates: Sequence[int] | None = None,
    ) -> dict[str, R]:
        """Pass over cases once, and return what comes of each by case_id.

        Args:
            work: is called with a case whose volumes are at hand until it returns; from two threads at once.
            title: what the progress is called.
            cases: those of interest; all if None.
            candidates: numbers of those whose probabilities are needed; all if None.

        Raises:
            TumorsegError: cases failed; all are listed.
        """
        wanted = self._all if candidates is None else candidates
        chosen = self.subjects.cases if cases is None else cases
        return self._each(partial(self._open_case, work, wanted), chosen, title)

    def _open_case(self, work: Callable[[UnseenCase, OpenCase], R], candidates: Sequence[int], case: UnseenCase) -> R:
        with ExitStack() as opened:
            reference = opened.enter_context(self._reference(case))
            volumes = {number: opened.enter_context(self._volumes(case, number)) for number in candidates}
            _check_grids(case, reference, volumes, self.subjects.candidates)
            return work(case, OpenCase(volumes, reference))

    def _each(self, work: Callable[[UnseenCase], R], cases: Sequence[UnseenCase], title: str) -> dict[str, R]:
        found: dict[str, R] = {}
        failures: list[Failure] = []
        with progress(title, len(cases)) as advance:
            for group in _by_folds(cases):
                # Each network is loaded once for all cases that it holds out.
                self.shelf.clear()
                items = ((case.case_id, case) for case in group)
                lanes = run_lanes(work, items, num_lanes=_num_lanes(group), stop=self.shelf.stop)
                with closing(lanes):
                    for outcome in lanes:
                        if isinstance(outcome, Failure):
                            failures.append(outcome)
                        else:
                            found[outcome.case_id] = outcome.value
                        advance(outcome.case_id)
        self.shelf.clear()
        if failures:
            raise failed_cases(failures, len(cases), title)
        return found

    def _reference(self, case: UnseenCase) -> AbstractContextManager[Volumes]:
        plan, own = self.subjects.candidates[0].plan, self.subjects.own_cases[0][case.case_id]
        write = partial(write_reference, plan, own, self.question.wanted)
        return self._kept(self.subjects.keys.references[case.case_id], write)

    def _volumes(self, case: UnseenCase, number: int) -> AbstractContextManager[Volumes]:
        own = self.subjects.own_cases[number][case.case_id]

        def write(folder: Path) -> Volumes:
            return write_probabilities(self.shelf.model(number, case.folds[number]), own, folder)

        return self._kept(self.subjects.keys.probabilities[number, case.case_id], write)

    @contextmanager
    def _kept(self, key: str, write: Callable[[Path], Volumes]) -> Iterator[Volumes]:
        """Yield what is kept under a key, or else what is made now, which is gone afterwards if there is no room for it."""
        found = self._cache.find(key)
        if found is not None:
            yield found
            return
        with self._cache.partial(key) as folder:
            made = write(folder)
            if self._cache.keep(folder, key):
                made = Volumes(self._cache.folder / key, made.about)
            yield made


def _by_folds(cases: Sequence[UnseenCase]) -> list[list[UnseenCase]]:
    """Return cases in groups that the same networks predict."""
    groups: dict[tuple[int, ...], list[UnseenCase]] = defaultdict(list)
    for case in cases:
        groups[case.folds].append(case)
    return [groups[folds] for folds in sorted(groups)]


def _num_lanes(cases: Sequence[UnseenCase]) -> int:
    """Return how many cases are worked on at once: one where two of the largest might not be held in memory."""
    available = available_bytes()
    has_room = available is None or NUM_LANES * expected_bytes(case.case for case in cases) <= available
    return NUM_LANES if has_room and len(cases) > 1 else 1


def _check_grids(
    case: UnseenCase, reference: Volumes, volumes: Mapping[int, Volumes], candidates: Sequence[Candidate]
) -> None:
    """Refuse a case that candidates answer on different grids, as those of different first channels might."""
    shape, affine = reference.about.shape, np.array(reference.about.affine)
    for number, found in volumes.items():
        # Shapes first: the same number of voxels may lie elsewhere.
        if found.about.shape != shape:
            lies = f"on {list(found.about.shape)} voxels (Z, Y, X), the reference of {candidates[0].name} has {list(shape)}"
        elif not np.allclose(np.array(found.about.affine), affine, rtol=0, atol=SAME_GRID_MM):
            lies = f"elsewhere than on the voxels of the reference of {candidates[0].name}, whose affine differs"
        else:
            continue
        raise InputError(
            f"{candidates[number].name} answers {lies}; choose among plans whose results lie on one grid",
            case_id=case.case_id,
        )
