"""A study whose processes are killed at random moments, and started anew."""

import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from tests.stages.tuning.synthetic import HELD, RUNGS, EngineJudge, objective, save, start, write_study
from tumorseg.schema.tuning import Ended, Score
from tumorseg.storage.study_folder import names_in
from tumorseg.storage.study_tasks import claimed_tasks, open_tasks

LONGEST_S = 400.0
SHARE_BEFORE_HELD = 0.5
"""Of the trials; those after it end once all kills are done, however slow the machine."""
KINDS = ("coordinator", "here", "elsewhere")


class KilledStudy:
    """A coordinator with workers of its own, and workers elsewhere."""

    def __init__(self, root, *, storage, most, jobs, others):
        self.folder = write_study(root)
        self.num_free = int(SHARE_BEFORE_HELD * most)
        # More than there are workers, or those elsewhere might hold all of them.
        assert most - self.num_free >= jobs + others
        save(self.folder.root / HELD, str(self.num_free))
        self.arguments = (root, storage, most, jobs)
        self.kills = Counter()
        self.num_before = 0
        self.coordinator = start("coordinate", *self.arguments)
        self.others = [start("work", root) for _ in range(others)]

    def run(self, num_kills, chance):
        """Run to the end, and kill all kinds equally often meanwhile: by how far it has come, as machines differ in their speed."""
        ends = time.monotonic() + LONGEST_S
        while (code := self.wait(chance.uniform(0.0, 0.2))) != 0:
            assert code in (None, -signal.SIGKILL)
            assert time.monotonic() < ends, "it took too long"
            self.start_missing()
            # The last one is for a trial that is held.
            due = int(num_kills * self.num_begun() / (self.num_free + 1))
            if self.kills.total() < min(due, num_kills):
                self.kill(chance, -(-num_kills // len(KINDS)))
            if self.kills.total() == num_kills:
                (self.folder.root / HELD).unlink(missing_ok=True)
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

    def kill(self, chance, most_of_a_kind):
        """Kill one of the kind that was killed least, if any may be killed; a kind that has had its share is left alone."""
        possible = [(kind, found) for kind, found in self.victims() if self.kills[kind] < most_of_a_kind]
        if not possible:
            return
        least = min(self.kills[kind] for kind, _ in possible)
        kind, found = chance.choice([one for one in possible if self.kills[one[0]] == least])
        try:
            os.kill(found, signal.SIGKILL)
        except ProcessLookupError:
            # Ended meanwhile.
            return
        self.kills[kind] += 1

    def victims(self):
        """Return kinds and ids of workers at a trial, and of a coordinator that has got anywhere; others, which just start, would not be harmed."""
        parents = {self.coordinator.pid: "here", os.getpid(): "elsewhere"}
        at_work = sorted({int(file.worker.split("-")[-2]) for file in claimed_tasks(self.folder)})
        found = []
        for process_id in at_work:
            # Neither those killed before, whose claims are still there, nor those that a killed coordinator has left behind.
            kind = parents.get(parent_of(process_id))
            if kind is not None:
                found.append((kind, process_id))
        if self.num_begun() > self.num_before or "here" in dict(found):
            found.append(("coordinator", self.coordinator.pid))
        return found

    def num_begun(self):
        return len(names_in(self.folder.tasks))

    def end(self):
        for process in (self.coordinator, *self.others):
            process.kill()
            process.wait()


def parent_of(process_id):
    """Return the id of the process that started another, or None if that one has ended."""
    try:
        state, parent = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


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
