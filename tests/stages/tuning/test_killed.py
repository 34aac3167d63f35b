"""Studies whose processes are killed or stopped: each trial is reported once, and none is lost."""

import os
import random
import signal
import threading
import time

import pytest

from tests.stages.tuning.killing import KINDS, KilledStudy, check_as_undisturbed, num_begun_later
from tests.stages.tuning.synthetic import PACE, RUNGS, JournalJudge, command, objective, start, write_study
from tumorseg.stages.tuning.coordinator import coordinate
from tumorseg.stages.tuning.local_workers import LocalWorkers
from tumorseg.storage.study_attempts import begun_attempts
from tumorseg.storage.study_tasks import claimed_tasks
from tumorseg.storage.study_workers import read_beats


def check_whole(judge, most):
    assert judge.ended == dict.fromkeys(range(most), ("finished", ""))
    for number in range(most):
        values = judge.task(number).values
        assert [judge.reported[number, index] for index in range(len(RUNGS))] == [
            objective(values, rung) for rung in RUNGS
        ]


def begin_thread(act):
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def wait_for(is_so):
    ends = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < ends, "it took too long"
        time.sleep(0.01)


def process_of(file):
    return int(file.worker.split("-")[-2])


@pytest.mark.slow
def test_workers_are_killed_and_the_study_is_whole(tmp_path):
    folder = write_study(tmp_path / "study")
    judge = JournalJudge(folder.root / "judge.jsonl", 6)
    chance, killed = random.Random(0), []

    def kill():
        while len(killed) < 3:
            wait_for(lambda: claimed_tasks(folder))
            time.sleep(chance.uniform(0.0, 0.2))
            for file in claimed_tasks(folder)[:1]:
                if process_of(file) not in killed:
                    killed.append(process_of(file))
                    os.kill(killed[-1], signal.SIGKILL)

    killer = begin_thread(kill)
    crew = LocalWorkers(command("work", folder.root), 2, folder)
    assert coordinate(folder, judge, crew, pace=PACE)
    killer.join(10)
    assert len(killed) == 3
    check_whole(judge, 6)
    check_whole(JournalJudge(judge.path, 6), 6)
    assert read_beats(folder) == {}


@pytest.mark.slow
def test_a_worker_that_was_stopped_for_longer_than_the_lease_harms_nothing_when_it_wakes_up(tmp_path):
    folder = write_study(tmp_path / "study")
    judge = JournalJudge(folder.root / "judge.jsonl", 12)
    workers = [start("work", folder.root) for _ in range(2)]
    stopped = []

    def stop():
        wait_for(lambda: claimed_tasks(folder))
        file = claimed_tasks(folder)[0]
        stopped.append(file)
        os.kill(process_of(file), signal.SIGSTOP)
        wait_for(lambda: 1 in begun_attempts(folder, file.stem))
        os.kill(process_of(file), signal.SIGCONT)

    stopper = begin_thread(stop)
    assert coordinate(folder, judge, LocalWorkers([], 0, folder), pace=PACE._replace(lease_s=0.8))
    stopper.join(10)
    assert [worker.wait(20) for worker in workers] == [0, 0]
    check_whole(judge, 12)
    (file,) = stopped
    assert begun_attempts(folder, file.stem) == [0, 1]
    assert not folder.attempt(file.stem, 0).ended.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("num_kills", "most", "jobs"), [(6, 16, 2), pytest.param(20, 60, 4, marks=pytest.mark.long)])
def test_workers_here_and_elsewhere_and_the_coordinator_are_killed_and_nothing_differs(tmp_path, num_kills, most, jobs):
    study = KilledStudy(tmp_path / "study", storage="optuna", most=most, jobs=jobs, others=jobs)
    try:
        study.run(num_kills, random.Random(0))
    finally:
        study.end()
    assert study.kills.total() == num_kills
    assert set(study.kills) == set(KINDS)
    assert num_begun_later(study.folder) > 0
    check_as_undisturbed(study.folder, str(study.folder.journal), most, str(tmp_path / "undisturbed.log"))
