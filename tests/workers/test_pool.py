import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workers import jobs
from tumorseg.workers import pool, watching
from tumorseg.workers.outcomes import Failure, Success
from tumorseg.workers.pool import run_cases

MB = 2**20
ROOT = str(Path(__file__).parents[2])


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_every_case_has_its_outcome_whatever_the_number_of_workers(num_workers: int) -> None:
    found = run_cases(jobs.double, [(str(i), i) for i in range(7)], num_workers=num_workers)
    assert sorted(found) == [Success(str(i), 2 * i) for i in range(7)]
    assert multiprocessing.active_children() == []


def test_an_error_or_a_bug_in_one_case_does_not_cost_the_others(caplog: pytest.LogCaptureFixture) -> None:
    items = [("a", 1), ("b", "user"), ("c", "bug"), ("d", 4)]
    with caplog.at_level(logging.ERROR):
        found = {outcome.case_id: outcome for outcome in run_cases(jobs.misbehave, items, num_workers=2)}
    assert (found["a"], found["d"]) == (Success("a", 1), Success("d", 4))
    assert found["b"] == Failure("b", "file a.nii.gz is truncated")
    assert isinstance(found["c"], Failure)
    assert found["c"].message == "KeyError: 'missing'"
    assert "in misbehave" in (found["c"].traceback or "")
    assert "in misbehave" in caplog.text
    assert caplog.text.count("Traceback") == 1


def test_a_killed_worker_is_named_with_its_case_at_once_and_replaced() -> None:
    items = [("a", 1), ("b", "die"), ("c", 3), ("d", "exit"), ("e", 5), ("f", "unsendable"), ("g", 7)]
    found = {outcome.case_id: outcome for outcome in run_cases(jobs.misbehave, iter(items), num_workers=2)}
    assert [found[name] for name in "aceg"] == [Success("a", 1), Success("c", 3), Success("e", 5), Success("g", 7)]
    killed, ended, unsendable = (found[name] for name in "bdf")
    assert isinstance(killed, Failure)
    assert "killed by signal 9 (SIGKILL, out of memory?)" in killed.message
    assert "2 workers were asked for; try again with fewer workers" in killed.message
    assert isinstance(ended, Failure)
    assert "ended with exit code 3" in ended.message
    assert isinstance(unsendable, Failure)
    assert unsendable.message.startswith("TypeError: the result cannot be sent between processes")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs /proc")
def test_a_killed_worker_leaves_its_memory_figures() -> None:
    started = time.monotonic()
    (found,) = run_cases(jobs.grow_and_die, [("big", 600 * 2**20)], num_workers=2)
    assert isinstance(found, Failure)
    figure = float(found.message.split("peak memory was ")[1].split()[0])
    assert 0.58 < figure < 1.5
    assert "GB of memory are free now" in found.message
    assert time.monotonic() - started < 15


def test_results_come_as_they_complete() -> None:
    order = [outcome.case_id for outcome in run_cases(jobs.nap, [("slow", 2.0), ("quick", 0.0)], num_workers=2)]
    assert order == ["quick", "slow"]


def test_items_are_drawn_only_as_workers_take_them() -> None:
    drawn = 0

    def items() -> Iterator[tuple[str, int]]:
        nonlocal drawn
        for i in range(300):
            drawn = i + 1
            yield str(i), i

    done = 0
    for _ in run_cases(jobs.double, items(), num_workers=2):
        done += 1
        assert drawn <= done + 2
    assert done == 300


def test_large_arguments_and_results_pass() -> None:
    payload = b"x" * 5_000_000
    assert list(run_cases(jobs.misbehave, [("a", payload)], num_workers=2)) == [Success("a", payload)]


@pytest.mark.parametrize("leave", ["close", "error"])
def test_leaving_early_ends_the_workers_at_once(leave: str) -> None:
    started = time.monotonic()
    outcomes = run_cases(jobs.nap, [("quick", 0.0), *((str(i), 60.0) for i in range(5))], num_workers=2)
    assert next(outcomes) == Success("quick", 0.0)
    assert multiprocessing.active_children()
    if leave == "close":
        outcomes.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(KeyboardInterrupt):
            outcomes.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []
    assert time.monotonic() - started < 15


def test_an_interrupt_while_waiting_ends_the_workers_and_goes_on_up() -> None:
    outcomes = run_cases(jobs.nap, [("a", 60.0), ("b", 60.0)], num_workers=2)
    timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(outcomes)
    timer.join()
    assert multiprocessing.active_children() == []


def test_workers_share_the_cores_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("BLOSC_NTHREADS", raising=False)
    names = ["OMP_NUM_THREADS", "BLOSC_NTHREADS"]
    found = {
        outcome.case_id: outcome
        for outcome in run_cases(jobs.thread_setting, zip(names, names, strict=True), num_workers=64)
    }
    assert found == {"OMP_NUM_THREADS": Success(names[0], "5"), "BLOSC_NTHREADS": Success(names[1], "1")}
    assert "BLOSC_NTHREADS" not in os.environ


def test_what_cannot_be_sent_is_refused_before_any_work() -> None:
    with pytest.raises(TypeError, match=r"function .*<lambda>.* cannot be sent between processes.*top of a module"):
        run_cases(lambda value: value, [("a", 1)], num_workers=2)
    with pytest.raises(TypeError, match="argument of case a cannot be sent"):
        list(run_cases(jobs.misbehave, [("a", threading.Lock())], num_workers=2))
    assert multiprocessing.active_children() == []


def test_workers_that_cannot_start_fail_every_case_and_do_not_loop() -> None:
    found = list(run_cases(jobs.Poison(), [(str(i), i) for i in range(50)], num_workers=2))
    assert sorted(outcome.case_id for outcome in found) == sorted(map(str, range(50)))
    for outcome in found:
        assert isinstance(outcome, Failure)
        assert outcome.message.startswith("no worker process can start: worker process ended with exit code 7")


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.workers.jobs", str(tmp_path)]
    parent = subprocess.Popen(command, cwd=ROOT)
    assert wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    assert all(map(is_running, workers))
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not any(map(is_running, workers)), seconds=5)


def counts(tmp_path, num_cases, *, expected_bytes, num_bytes=150 * MB, num_workers=3):
    """Return how many workers were at work at once, case by case in the order of completion."""
    items = [(str(i), (num_bytes, str(tmp_path))) for i in range(num_cases)]
    outcomes = run_cases(jobs.hold_and_count, items, num_workers=num_workers, expected_bytes=expected_bytes)
    return [outcome.value for outcome in outcomes]


def test_no_more_workers_start_than_memory_is_expected_to_hold(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pool, "available_bytes", lambda: 1000 * MB)
    with caplog.at_level(logging.INFO):
        assert counts(tmp_path, 1, expected_bytes=500 * MB) == [1]
    assert caplog.text.count("memory holds 1 of 3 workers: 0.98 GB are free, one needs 0.49 GB") == 1


@pytest.mark.slow
def test_workers_are_added_once_a_case_was_smaller_than_expected(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "available_bytes", lambda: 1000 * MB)
    found = counts(tmp_path, 14, expected_bytes=900 * MB)
    assert found[0] == 1
    assert max(found) == 3


@pytest.mark.slow
def test_workers_end_once_a_case_has_taken_more_than_expected(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "available_bytes", lambda: 100 * MB)
    found = counts(tmp_path, 9, expected_bytes=1, num_bytes=300 * MB)
    assert max(found) > 1
    assert found[-1] == 1
    assert len(found) == 9


def test_a_machine_that_does_not_tell_its_memory_gets_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "available_bytes", lambda: None)
    assert max(counts(tmp_path, 6, expected_bytes=2**60)) == 3


def test_a_worker_that_was_killed_teaches_what_a_case_may_take(monkeypatch):
    monkeypatch.setattr(pool, "available_bytes", lambda: 100 * MB)
    run = pool._Pool(jobs.grow_and_die, iter([("big", 500 * MB)]), 2, 1)
    list(run.fill())
    try:
        while run.workers:
            for worker in run.wait():
                run.advance(worker)
        assert run._bytes_per_worker > 500 * MB
    finally:
        run.close()


def test_a_worker_that_dies_idle_costs_no_case():
    outcomes = run_cases(jobs.double, [(str(i), i) for i in range(6)], num_workers=2)
    found = [next(outcomes)]
    for child in multiprocessing.active_children():
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
    found += outcomes
    failed = [outcome for outcome in found if isinstance(outcome, Failure)]
    assert len(found) == 6
    assert len(failed) <= 2  # those that were being worked on, or had just been handed over
    assert all("signal 9" in failure.message for failure in failed)


def test_a_case_is_not_handed_to_a_dead_worker():
    run = pool._Pool(jobs.double, iter([("a", 1), ("b", 2), ("c", 3)]), 1, 0)
    list(run.fill())
    try:
        while not (worker := run.workers[0]).is_ready:
            for ready in run.wait():
                run.advance(ready)
        assert worker.connection.poll(10)
        time.sleep(0.3)  # the value follows its announcement
        worker.process.kill()
        worker.process.join()
        assert run.advance(worker) == Success("a", 2)
        assert run.workers == []
        assert run._returned == [("b", 2)]
    finally:
        run.close()


@pytest.mark.parametrize("job", [jobs.stop_itself, jobs.stop_while_it_answers])
def test_a_stopped_worker_is_named_and_ended_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, job: Callable[[int], int]
) -> None:
    monkeypatch.setattr(watching, "MOST_STOPPED_S", 0.5)
    items = [(f"case {number}", number) for number in range(4)]
    found = {outcome.case_id: outcome for outcome in run_cases(job, items, num_workers=2)}
    stopped = found.pop("case 1")
    assert isinstance(stopped, Failure)
    assert "worker process was stopped by a signal" in stopped.message
    assert sorted(found.values()) == [Success(f"case {number}", number) for number in (0, 2, 3)]
    assert multiprocessing.active_children() == []
