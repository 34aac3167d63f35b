import logging
import os
import signal
import threading
import time

import pytest

from tests.stages.tuning.synthetic import PACE, RUNGS, STEP_S, carry_out, objective, task_of, write_study
from tumorseg.errors import PlanError, StorageError, TrainingError
from tumorseg.schema.tuning import Ended, Score
from tumorseg.stages.tuning.worker import work
from tumorseg.storage.study_attempts import read_ended, read_scores
from tumorseg.storage.study_folder import StudyFolder, close_study
from tumorseg.storage.study_tasks import claimed_tasks, open_task, open_tasks, remove_task_files, settle_task
from tumorseg.storage.study_workers import read_beats

VALUES = {"x": 0.5, "y": 0.5}


@pytest.fixture
def folder(tmp_path):
    folder = write_study(tmp_path / "study")
    open_task(folder, task_of(0, VALUES), 0)
    return folder


def run(folder, do, look_s=0.0):
    return work(folder, do, pace=PACE._replace(look_s=look_s), stdin=None)


def scored(folder, number=0, attempt=0):
    return read_scores(folder.attempt(f"trial-{number:05d}", attempt).values, 0)[0]


def ended(folder, number=0, attempt=0):
    return read_ended(folder.attempt(f"trial-{number:05d}", attempt))


def then(folder, do, after=lambda task, attempt: None):
    """Return what does a task, and whose study is over with it."""

    def done(task, attempt):
        yield from do(task, attempt)
        after(task, attempt)
        close_study(folder)

    return done


def quickly(task, attempt):
    yield from carry_out(task, attempt, step_s=0.0)


def test_a_worker_writes_a_line_for_each_rung_and_how_it_ended_and_leaves_when_the_study_is_over(folder, caplog):
    caplog.set_level(logging.INFO, "tumorseg")
    assert run(folder, then(folder, quickly))
    assert [(score.iteration, score.values[0]) for score in scored(folder)] == [
        (rung, objective(VALUES, rung)) for rung in RUNGS
    ]
    assert ended(folder) == Ended(state="finished")
    # Only the coordinator removes claims.
    assert [file.stem for file in claimed_tasks(folder)] == ["trial-00000"]
    assert read_beats(folder) == {}
    assert "trial-00000: finished" in caplog.text


def test_tasks_are_done_one_after_the_other_and_waited_for(folder, caplog):
    caplog.set_level(logging.INFO, "tumorseg")
    seen = []

    def open_later():
        while "waiting for a task" not in caplog.text:
            time.sleep(PACE.poll_s)
        time.sleep(3 * PACE.poll_s)
        open_task(folder, task_of(1, VALUES), 0)

    def do(task, attempt):
        seen.append(task.number)
        if task.number == 0:
            threading.Thread(target=open_later).start()
        else:
            close_study(folder)
        yield from quickly(task, attempt)

    assert run(folder, do)
    assert seen == [0, 1]
    assert caplog.text.count("waiting for a task") == 1


def test_a_later_attempt_goes_on_from_the_checkpoint_of_the_one_before(folder):
    def until_8(task, attempt):
        yield from quickly(task.changed(rungs=RUNGS[:2]), attempt)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, until_8)
    assert ended(folder) == Ended(state="released")
    remove_task_files(folder, "trial-00000")
    open_task(folder, task_of(0, VALUES), 1)
    assert run(folder, then(folder, quickly))
    assert (folder.attempt("trial-00000", 1).root / "begun").read_text() == "8"
    assert [score.iteration for score in scored(folder, attempt=1)] == list(RUNGS)
    assert scored(folder) == scored(folder, attempt=1)[:2]


def test_a_rung_that_was_told_before_is_not_told_again(folder):
    def again(task, attempt):
        # From an older checkpoint than the lines are of.
        yield from quickly(task, attempt._replace(scores=(), previous=None))

    def stops(task, attempt):
        yield from quickly(task.changed(rungs=RUNGS[:1]), attempt)
        settle_task(folder, task.stem)

    run(folder, then(folder, stops))
    (folder.closed).unlink()
    open_task(folder, task_of(0, VALUES), 1)
    folder.stop("trial-00000").unlink()
    run(folder, then(folder, again))
    assert [score.iteration for score in scored(folder, attempt=1)] == list(RUNGS)


def test_an_error_that_a_user_can_mend_fails_the_task_alone(folder):
    open_task(folder, task_of(1, VALUES), 0)

    def do(task, attempt):
        if task.number == 0:
            raise TrainingError("the loss is\nnot finite")
        yield from then(folder, quickly)(task, attempt)

    assert run(folder, do)
    assert ended(folder) == Ended(state="failed", message="the loss is not finite")
    assert ended(folder, 1) == Ended(state="finished")


def test_a_full_disk_is_no_fault_of_the_task(folder):
    def do(task, attempt):
        yield from quickly(task.changed(rungs=RUNGS[:1]), attempt)
        raise StorageError("no room")

    with pytest.raises(StorageError, match="no room"):
        run(folder, do)
    assert ended(folder) is None
    assert len(scored(folder)) == 1


def test_a_bug_ends_the_worker_and_leaves_the_task_to_others(folder):
    def skips(task, attempt):
        yield Score(iteration=RUNGS[1], values=(0.0,))

    def stops_short(task, attempt):
        yield Score(iteration=RUNGS[0], values=(0.0,))

    for attempt, (do, message) in enumerate(
        [(skips, "came before that after iteration 4"), (stops_short, "after iteration 8")]
    ):
        with pytest.raises(RuntimeError, match=message):
            run(folder, do)
        assert ended(folder, attempt=attempt) is None
        assert read_beats(folder) == {}
        open_task(folder, task_of(0, VALUES), attempt + 1)


def test_a_task_that_is_flagged_is_left_and_keeps_no_checkpoint(folder):
    def do(task, attempt):
        for score in quickly(task, attempt):
            yield score
            folder.stop(task.stem).touch()
        assert attempt.should_stop()
        close_study(folder)

    assert run(folder, do)
    assert [score.iteration for score in scored(folder)] == [RUNGS[0]]
    assert ended(folder) == Ended(state="stopped")
    # Written once the coordinator had taken it back, it would stay for ever.
    assert not folder.attempt("trial-00000", 0).fold.latest.exists()


@pytest.mark.parametrize("look_s", [0.0, 60.0])
def test_a_worker_whose_claim_is_taken_away_writes_nothing_more(folder, look_s):
    count = []

    def do(task, attempt):
        for score in quickly(task, attempt):
            yield score
            remove_task_files(folder, task.stem)
            count.append(attempt.should_stop())
        close_study(folder)

    assert run(folder, do, look_s)
    assert len(scored(folder)) == 1
    assert ended(folder) is None
    assert count[-1]


def test_a_step_does_not_look_at_the_folder_each_time(folder):
    def do(task, attempt):
        folder.stop(task.stem).touch()
        # The flag is there, and not looked for yet.
        assert not any(attempt.should_stop() for _ in range(100))
        yield from quickly(task.changed(rungs=RUNGS[:1]), attempt)
        assert attempt.should_stop()
        close_study(folder)

    assert run(folder, do, look_s=0.5)
    assert ended(folder).state == "stopped"


def test_sigterm_gives_the_task_back_with_a_checkpoint(folder):
    before = signal.getsignal(signal.SIGTERM)

    def do(task, attempt):
        for score in quickly(task, attempt):
            yield score
            os.kill(os.getpid(), signal.SIGTERM)

    assert not run(folder, do)
    assert ended(folder) == Ended(state="released")
    assert len(scored(folder)) == 1
    assert signal.getsignal(signal.SIGTERM) is before
    assert read_beats(folder) == {}


@pytest.mark.parametrize(("greeting", "leaves"), [(b"local\n", True), (b"", False), (b"other input\n", False)])
def test_a_worker_ends_with_the_input_of_a_coordinator_alone(folder, greeting, leaves):
    read, write = os.pipe()
    os.write(write, greeting)

    def do(task, attempt):
        os.close(write)
        if not leaves:
            close_study(folder)
        yield from carry_out(task, attempt, step_s=STEP_S)

    assert work(folder, do, pace=PACE, stdin=read) is not leaves
    assert ended(folder).state == ("released" if leaves else "finished")
    os.close(read)


def test_a_worker_without_an_input_works(folder):
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    assert work(folder, then(folder, quickly), pace=PACE, stdin=read)


def test_a_folder_that_is_no_study_has_no_workers(tmp_path):
    with pytest.raises(PlanError, match="is no study's folder"):
        run(StudyFolder(tmp_path), quickly)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_in_a_thread_works_without_signals(folder):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(folder, then(folder, quickly))))
    thread.start()
    thread.join(20)
    assert found == [True]
    assert open_tasks(folder) == []
