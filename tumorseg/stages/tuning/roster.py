"""Which workers of a study live, as its coordinator sees it."""

from collections.abc import Callable, Collection

from tumorseg.stages.tuning.beats import Pace, Silences
from tumorseg.stages.tuning.roles import Crew, Death
from tumorseg.storage.study_folder import StudyFolder
from tumorseg.storage.study_workers import read_beats, remove_beat


class Roster:
    """All workers: the crew, whose deaths are known at once, and those elsewhere, who fall silent."""

    def __init__(self, folder: StudyFolder, crew: Crew, *, pace: Pace, clock: Callable[[], float]) -> None:
        """Begin to look.

        Args:
            folder: of the study.
            crew: workers on this machine.
            pace: when a worker is gone.
            clock: seconds since any moment.
        """
        self._folder, self._crew = folder, crew
        self._lease_s, self._silences = pace.lease_s, Silences(pace.lease_s, clock)
        self._deaths: list[Death] = []

    def tend(self, *, has_progress: bool) -> None:
        """See to the crew; whoever then looks what workers wrote finds all that those wrote that have ended.

        Raises:
            TrainingError: they end again and again.
        """
        self._deaths = self._crew.tend(has_progress=has_progress)

    def look(self, claimants: Collection[str]) -> None:
        """Note the counters of all workers.

        Args:
            claimants: workers that have claimed a task; one that has no counter is watched as well.
        """
        beats = read_beats(self._folder)
        for worker in [worker for worker in beats if self._death_of(worker)]:
            remove_beat(self._folder, worker)
            del beats[worker]
        self._silences.look(dict.fromkeys(claimants, "") | beats)

    def loss_of(self, worker: str) -> str:
        """Return in a line why a worker will not go on; nothing if it will."""
        if death := self._death_of(worker):
            return death.cause
        if worker in self._silences.gone():
            return f"worker {worker} gave no sign of life for {self._lease_s:g} s"
        # Of one of the crew its death will tell why.
        if worker in self._silences.left() and not self._crew.owns(worker):
            return f"worker {worker} has left without a word"
        return ""

    def forget_silent(self) -> None:
        """Strike out the workers that have been silent for too long: should one wake up, it finds its claim gone."""
        for worker in self._silences.gone():
            # One of the crew is better started anew.
            self._crew.kill(worker)
            remove_beat(self._folder, worker)

    def num_alive(self) -> int:
        """Return how many workers there are."""
        others = [worker for worker in self._silences.alive() if not self._crew.owns(worker)]
        return self._crew.num_alive() + len(others)

    def _death_of(self, worker: str) -> Death | None:
        return next((death for death in self._deaths if worker.startswith(death.prefix)), None)
