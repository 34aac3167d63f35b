"""Workers of a study that a test plays: they claim, write lines, die and wake up when they are told."""

from tests.stages.tuning.synthetic import JournalJudge, objective, write_study
from tumorseg import __version__
from tumorseg.schema.tuning import Ended, Score
from tumorseg.stages.tuning.beats import Pace
from tumorseg.stages.tuning.coordinator import Coordinator
from tumorseg.stages.tuning.roles import Death
from tumorseg.storage.study_attempts import append_score, begin_attempt, write_ended
from tumorseg.storage.study_tasks import claim_task, claimed_tasks, open_tasks
from tumorseg.storage.study_workers import write_beat

LEASE_S = 60.0
STEP_S = 10.0


class NoCrew:
    """No worker on this machine, but as many as a test says."""

    def __init__(self, prefixes=()):
        self.prefixes, self.deaths = list(prefixes), []
        self.killed, self.progress, self.is_dismissed = [], [], False

    def tend(self, *, has_progress):
        self.progress.append(has_progress)
        deaths, self.deaths = self.deaths, []
        return deaths

    def num_alive(self):
        return len(self.prefixes)

    def owns(self, worker):
        return worker.startswith(tuple(self.prefixes))

    def kill(self, worker):
        if self.owns(worker):
            self.killed.append(worker)

    def dismiss(self):
        self.is_dismissed = True

    def die(self, prefix, cause):
        self.prefixes.remove(prefix)
        self.deaths.append(Death(prefix, cause))


class Player:
    """A worker whose every move is the test's."""

    def __init__(self, folder, name):
        self.folder, self.name, self.count = folder, name, 0
        self.beat()

    def beat(self):
        self.count += 1
        write_beat(self.folder, self.name, self.count)

    def claim(self):
        self.taken = claim_task(self.folder, self.name, __version__)
        assert self.taken is not None
        self.known = begin_attempt(self.folder, self.taken.task, self.taken.file.attempt)
        self.place = self.folder.attempt(self.taken.file.stem, self.taken.file.attempt)
        return self.taken

    def score(self, *rungs):
        for rung in rungs:
            append_score(self.place.values, Score(iteration=rung, values=(objective(self.taken.task.values, rung),)))

    def end(self, state, message=""):
        write_ended(self.place, Ended(state=state, message=message))


class Table:
    """A study with its coordinator and a clock that stands still until it is put on."""

    def __init__(self, root, most=10, crew=None, stops=lambda number, index: False):
        self.folder, self.now, self.most, self.stops = write_study(root), 0.0, most, stops
        self.crew = crew or NoCrew()
        self.start()

    def start(self):
        """Start a coordinator; one that there was is forgotten, as by a kill."""
        self.judge = JournalJudge(self.folder.root / "judge.jsonl", self.most, self.stops)
        pace = Pace(lease_s=LEASE_S)
        self.coordinator = Coordinator(self.folder, self.judge, self.crew, pace=pace, clock=lambda: self.now)

    def step(self, seconds=STEP_S):
        self.now += seconds
        return self.coordinator.step()

    def wait(self, seconds, *living):
        for _ in range(int(seconds / STEP_S)):
            for player in living:
                player.beat()
            self.step()

    def files(self):
        files = [*open_tasks(self.folder), *claimed_tasks(self.folder)]
        return [(file.stem, file.attempt, file.worker) for file in files]
