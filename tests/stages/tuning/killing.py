"""A study whose processes are killed at random, and started anew."""

import os
import signal
import subprocess
import time
from collections import Counter

from tests.stages.tuning.synthetic import RUNGS, EngineJudge, objective, start, write_study
from tumorseg.schema.tuning import Ended, Score
from tumorseg.storage.study_folder import names_in
from tumorseg.storage.study_tasks import claimed_tasks, open_tasks

LONGEST_S = 400.0
SHARE_OF_COORDINATOR = 0.25
SHARE_WITH_KILLS = 0.8
"""Of the trials; the rest is there to see that all goes on after the last kill."""


class KilledStudy:
    """A coordinator with workers of its own, and workers elsewhere."""

    def __init__(self, root, *, storage, most, jobs, others):
        self.folder = write_study(root)
        self.most, self.arguments = most, (root, storage, most, jobs)
        self.kills = Counter()
        self.num_before = 0
        self.coordinator = start("coordinate", *self.arguments)
        self.others = [start("work", root) for _ in range(others)]

    def run(self, num_kills, chance):
        """Run to the end, and kill one process or another meanwhile: by how far it has come, as machines differ in their speed."""
        ends = time.monotonic() + LONGEST_S
        while (code := self.wait(chance.uniform(0.0, 0.2))) != 0:
            assert code in (None, -signal.SIGKILL)
            assert time.monotonic() < ends, "it took too long"
            self.start_missing()
            due = num_kills * self.num_begun() / (SHARE_WITH_KILLS * self.most)
            if self.kills.total() < min(due, num_kills):
                self.kill(chance)
        for process in self.others:
            assert process.wait(20) in (0, -signal.SIGKILL)

    def wait(self, seconds):
        try:
            return self.coordinator.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def start_missing(self):
        if self.coordinator.poll() is not None:
            self.num_before = self.num_begun()
            self.coordinator = start("coordinate", *self.arguments)
        for number, process in enumerate(self.others):
            if process.poll() is not None:
                self.others[number] = start("work", self.folder.root)

    def kill(self, chance):
        """Kill a worker that is at a trial, or a coordinator that has opened some; others, which just start, would not be harmed."""
        if chance.random() < SHARE_OF_COORDINATOR:
            if self.num_begun() > self.num_before:
                self.coordinator.kill()
                self.kills["coordinator"] += 1
            return
        at_work = sorted(int(file.worker.split("-")[-2]) for file in claimed_tasks(self.folder))
        if not at_work:
            return
        found = chance.choice(at_work)
        is_elsewhere = found in {process.pid for process in self.others}
        try:
            os.kill(found, signal.SIGKILL)
        except ProcessLookupError:
            # Killed before; its claim is still there.
            return
        self.kills["elsewhere" if is_elsewhere else "here"] += 1

    def num_begun(self):
        return len(names_in(self.folder.tasks))

    def end(self):
        for process in (self.coordinator, *self.others):
            process.kill()
            process.wait()


def check_as_undisturbed(folder, storage, most, undisturbed):
    """See that each trial was reported once, with what a study comes to that nothing has disturbed."""
    expected = EngineJudge(undisturbed, most)
    while (task := expected.ask()) is not None:
        for index, rung in enumerate(RUNGS):
            expected.report(task, index, Score(iteration=rung, values=(objective(task.values, rung),)))
        expected.end(task, Ended(state="finished"))
    found = EngineJudge(storage, most).engine
    assert len(found.trials()) == most
    assert found.trials() == expected.engine.trials()
    assert found.pareto() == expected.engine.pareto()
    assert open_tasks(folder) == claimed_tasks(folder) == []
    assert folder.is_closed()


def num_begun_later(folder):
    """Return how many attempts have gone on from the checkpoint of another one."""
    begun = [int(path.read_text()) for path in folder.tasks.glob("*/*/begun")]
    return sum(step > 0 for step in begun)
