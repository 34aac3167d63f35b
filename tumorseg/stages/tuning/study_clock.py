"""The time of a study over all its starts, and what of it the honest end will need."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from tumorseg.errors import StorageError
from tumorseg.schema.tuning import FinalState, Study, StudyState
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.study_folder import StudyFolder
from tumorseg.tuning.candidates import MOST_CANDIDATES
from tumorseg.tuning.lengths import NUM_JUDGED, SLACK

SAVE_EVERY_S = 10.0
"""What a kill may take from the time that a study has been at work."""
MOST_RESERVED = 0.6
"""Share of all time from which on one candidate has to be enough."""


class StudyClock:
    """What the coordinator has to know again, written whenever it changes."""

    def __init__(self, folder: StudyFolder, clock: Callable[[], float] = time.monotonic) -> None:
        """Go on with what was written.

        Args:
            folder: of the study.
            clock: seconds since any moment.

        Raises:
            StorageError: the file is damaged.
        """
        self.folder = folder
        self._path: Path = folder.state
        is_there = self._path.is_file()
        self.state = read_record(StudyState, self._path, error=StorageError) if is_there else StudyState()
        self._clock = clock
        self._began_s, self._before_s = clock(), self.state.seconds
        self._saved_s = self._began_s

    def elapsed_s(self) -> float:
        """Return how long the study has been at work."""
        return self._before_s + self._clock() - self._began_s

    def save(self) -> None:
        """Write everything now."""
        self.state = self.state.changed(seconds=self.elapsed_s())
        write_record(self._path, self.state)
        self._saved_s = self._clock()

    def save_now_and_then(self) -> None:
        """Write the time if it was not written lately."""
        if self._clock() - self._saved_s >= SAVE_EVERY_S:
            self.save()

    def note_rung(self, number: int, index: int, seconds: float) -> None:
        """Note what a trial took to come to a rung, once."""
        known = self.state.rung_seconds.get(number, ())
        if index == len(known):
            self.state = self.state.changed(rung_seconds={**self.state.rung_seconds, number: (*known, seconds)})
            self.save()

    def note_contenders(self, numbers: tuple[int, ...]) -> None:
        """Note who is judged."""
        self.state = self.state.changed(contenders=numbers)
        self.save()

    def note_final(self, stem: str, final: FinalState) -> None:
        """Note how far a training is that is judged."""
        self.state = self.state.changed(finals={**self.state.finals, stem: final})
        self.save()


class Reckoning(NamedTuple):
    """What things take, by the trials that have reached their end."""

    trial_s: float
    """A trial that is not stopped; 0 while none has reached its end."""
    final_s: float
    """A training that judges."""
    num_each: int
    """Trainings of each contender."""
    num_workers: int
    all_s: float
    """Time that there is for everything; infinite without a limit."""

    @classmethod
    def of(cls, study: Study, rung_seconds: Mapping[int, tuple[float, ...]], num_workers: int) -> Self:
        """Return what things take in a study.

        Args:
            study: its lengths, folds and seeds.
            rung_seconds: of trials, by number, from rung to rung.
            num_workers: at once.
        """
        whole = [sum(seconds) for seconds in rung_seconds.values() if len(seconds) == len(study.proxy.rungs)]
        trial_s = sum(whole) / len(whole) if whole else 0.0
        final_s = SLACK * trial_s * study.final_iterations / study.proxy.iterations
        all_s = math.inf if study.hours is None else 3600 * study.hours
        return cls(trial_s, final_s, len(study.judges) * len(study.final_seeds), num_workers, all_s)

    @property
    def reserved_s(self) -> float:
        """Return the time to keep for the honest end: of two candidates, or of one where that is most of all time."""
        reserved_s = self.lasting_s(NUM_JUDGED)
        return reserved_s if reserved_s <= MOST_RESERVED * self.all_s else self.lasting_s(2)

    def affordable(self, left_s: float) -> int:
        """Return how many contenders can be judged in a time."""
        fitting = [count for count in range(2, 2 + MOST_CANDIDATES) if self.lasting_s(count) <= left_s]
        return max(fitting, default=2)

    def lasting_s(self, num_contenders: int) -> float:
        """Return how long judging so many contenders takes."""
        return self.final_s * math.ceil(num_contenders * self.num_each / self.num_workers)
