"""Coordinators from beginning to end: killed between any two writes, asked to leave, and beside real workers."""

import json
import os
import signal
import threading
from collections import Counter

import pytest

from tests.stages.tuning.played import NoCrew, Player, Table
from tests.stages.tuning.synthetic import PACE, RUNGS, JournalJudge, carry_out, objective, write_study
from tumorseg.errors import TrainingError
from tumorseg.schema.tuning import Ended
from tumorseg.stages.tuning.coordinator import coordinate
from tumorseg.stages.tuning.worker import work
from tumorseg.storage.study_folder import close_study
from tumorseg.storage.study_tasks import open_task, open_tasks


@pytest.fixture
def table(tmp_path):
    return Table(tmp_path / "study")


def kill_points(tmp_path):
    """Yield tables as a kill of the coordinator between two of its writes leaves them, with the worker that has the task."""
    # Given out, and not opened yet.
    table = Table(tmp_path / "given out")
    table.judge.ask()
    yield table, None
    # Opened again, and the earlier file not removed yet.
    table = Table(tmp_path / "opened again")
    table.step()
    player = Player(table.folder, "node-1")
    player.claim()
    open_task(table.folder, player.taken.task, 1)
    yield table, player
    # Files lost, after attempts were begun.
    table = Table(tmp_path / "lost")
    table.step()
    player = Player(table.folder, "node-1")
    player.claim().file.path.unlink()
    yield table, player


def test_a_coordinator_that_was_killed_finds_every_task_again(tmp_path):
    for table, player in kill_points(tmp_path):
        table.start()
        assert [stem for stem, _, _ in table.files()] == ["trial-00000"]
        other = Player(table.folder, "node-2")
        assert other.claim().file.attempt == (0 if player is None else 1)
        other.score(*RUNGS)
        table.step()
        assert table.judge.ended == {0: ("finished", "")}


def test_a_coordinator_that_was_killed_reads_what_was_written_meanwhile(table):
    table.step()
    player = Player(table.folder, "node-1")
    player.claim()
    player.score(RUNGS[0])
    table.step()
    player.score(RUNGS[1])
    table.start()
    player.score(RUNGS[2])
    table.step()
    assert list(table.judge.reported) == [(0, 0), (0, 1), (0, 2)]
    assert table.judge.ended == {0: ("finished", "")}


def test_files_of_a_task_that_has_ended_are_taken_back_by_the_next_coordinator(table):
    table.step()
    player = Player(table.folder, "node-1")
    claim = player.claim()
    table.judge.end(claim.task, Ended(state="finished"))
    table.start()
    assert not claim.holds()
    assert table.folder.stop("trial-00000").exists()


def test_a_study_that_was_over_can_be_gone_on_with(table):
    close_study(table.folder)
    (table.folder.open / "x").parent.mkdir(exist_ok=True)
    leftover = table.folder.open / ".trial-00000.0.json.abcdefgh"
    leftover.write_text("{")
    table.start()
    assert not table.folder.is_closed()
    assert not leftover.exists()


def run_coordinator(folder, crew, most=6):
    judge = JournalJudge(folder.root / "judge.jsonl", most)
    return coordinate(folder, judge, crew, pace=PACE), judge


def quickly(task, attempt):
    return carry_out(task, attempt, step_s=0.0)


def test_a_study_runs_from_beginning_to_end_with_workers_in_threads(tmp_path):
    folder = write_study(tmp_path / "study")
    threads = [
        threading.Thread(target=work, args=(folder, quickly), kwargs={"pace": PACE, "stdin": None}) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    crew = NoCrew()
    is_over, judge = run_coordinator(folder, crew)
    for thread in threads:
        thread.join(10)
    assert is_over
    assert crew.is_dismissed
    assert judge.ended == dict.fromkeys(range(6), ("finished", ""))
    events = [tuple(json.loads(line)[:3]) for line in judge.path.read_text().splitlines()]
    assert max(Counter(events).values()) == 1
    assert judge.reported == {
        (number, index): objective(judge.task(number).values, rung)
        for number in range(6)
        for index, rung in enumerate(RUNGS)
    }


class Interrupting(NoCrew):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def tend(self, *, has_progress):
        self.act()
        return []


def interrupt():
    raise KeyboardInterrupt


def give_in():
    raise TrainingError("no worker can be started")


def test_sigterm_and_ctrl_c_and_errors_send_the_crew_away_and_leave_the_study_open(tmp_path):
    folder = write_study(tmp_path / "study")
    crew = Interrupting(lambda: os.kill(os.getpid(), signal.SIGTERM))
    is_over, judge = run_coordinator(folder, crew)
    assert not is_over
    assert crew.is_dismissed
    assert judge.running() != []
    for act, error in ((interrupt, KeyboardInterrupt), (give_in, TrainingError)):
        crew = Interrupting(act)
        with pytest.raises(error):
            run_coordinator(folder, crew)
        assert crew.is_dismissed
    assert not folder.is_closed()
    assert len(open_tasks(folder)) == 1
