import os
import signal
import sys
import time

import pytest

from tests.stages.tuning.synthetic import write_study
from tumorseg.errors import TrainingError
from tumorseg.stages.tuning.local_workers import MOST_DEATHS, LocalWorkers
from tumorseg.storage.study_workers import worker_prefix

# Bare, so that it starts in milliseconds.
PYTHON = [sys.executable, "-I", "-S", "-c"]
WAITS = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); sys.stdin.buffer.readline(); open({!r}, 'w').close(); sys.stdin.read()"
FAILS = "import sys; sys.stderr.write('line 1\\n\\nno such device\\n'); sys.exit(1)"


@pytest.fixture
def folder(tmp_path):
    return write_study(tmp_path / "study")


def wait_for(is_so):
    ends = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < ends, "it took too long"
        time.sleep(0.01)


def crew_of(folder, code, jobs=1):
    return LocalWorkers([*PYTHON, code], jobs, folder)


def ids(crew):
    return [place.process.pid for place in crew._places]


def wait_until_ended(crew):
    wait_for(lambda: crew.num_alive() == 0)


def deaths_of(crew):
    wait_until_ended(crew)
    return crew.tend(has_progress=False)


def test_workers_are_started_own_their_names_and_leave_when_they_are_asked(folder):
    ready = folder.root / "ready"
    crew = crew_of(folder, WAITS.format(str(ready)))
    assert crew.num_alive() == 0
    assert crew.tend(has_progress=False) == []
    wait_for(ready.exists)
    assert crew.tend(has_progress=False) == []
    assert crew.num_alive() == 1
    assert crew.owns(f"{worker_prefix(ids(crew)[0])}ab")
    assert not crew.owns(f"{worker_prefix(os.getpid())}ab")
    process = crew._places[0].process
    crew.dismiss()
    assert process.returncode == 75
    assert crew.num_alive() == 0
    crew.dismiss()


def test_a_worker_that_was_killed_is_told_with_the_memory_figures_and_another_one_started(folder):
    ready = folder.root / "ready"
    crew = crew_of(folder, WAITS.format(str(ready)), jobs=2)
    crew.tend(has_progress=False)
    wait_for(ready.exists)
    crew.tend(has_progress=False)
    first, second = ids(crew)
    crew.kill("somebody-1-ab")
    crew.kill(f"{worker_prefix(first)}ab")
    wait_for(lambda: crew.num_alive() == 1)
    (death,) = crew.tend(has_progress=False)
    assert death.prefix == worker_prefix(first)
    assert death.cause.startswith("worker process was killed by signal 9 (SIGKILL, out of memory?); ")
    assert "of memory are free now" in death.cause
    assert crew.num_alive() == 2
    assert ids(crew)[1] == second
    crew.dismiss()


def test_workers_that_end_again_and_again_end_the_study_with_their_last_words(folder):
    crew = crew_of(folder, FAILS)
    crew.tend(has_progress=False)
    for _ in range(MOST_DEATHS - 1):
        (death,) = deaths_of(crew)
        assert death.cause == "worker process ended with exit code 1; no such device"
    with pytest.raises(TrainingError, match="5 workers in a row have ended without getting anywhere") as caught:
        deaths_of(crew)
    assert str(caught.value).splitlines()[1:] == ["line 1", "no such device"]
    assert "mend that" in str(caught.value).splitlines()[0]
    crew.dismiss()


def test_deaths_count_only_while_no_worker_gets_anywhere(folder):
    crew = crew_of(folder, FAILS)
    crew.tend(has_progress=False)
    for _ in range(MOST_DEATHS + 1):
        wait_until_ended(crew)
        assert len(crew.tend(has_progress=True)) == 1
    crew.dismiss()


def test_a_worker_that_does_not_leave_is_ended(folder):
    ready = folder.root / "ready"
    ignores = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(ready)!r}, 'w').close(); time.sleep(600)"
    crew = LocalWorkers([*PYTHON, ignores], 1, folder, grace_s=0.1)
    crew.tend(has_progress=False)
    wait_for(ready.exists)
    process = crew._places[0].process
    crew.dismiss()
    assert process.returncode == -signal.SIGKILL


def test_a_command_that_cannot_be_started_is_told_in_one_line(folder):
    crew = LocalWorkers([str(folder.root / "none")], 1, folder)
    with pytest.raises(TrainingError, match="no worker can be started") as caught:
        crew.tend(has_progress=False)
    assert "\n" not in str(caught.value)
    crew.dismiss()


def test_workers_share_the_cores(folder, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = "import os, sys; sys.stderr.write(os.environ.get('OMP_NUM_THREADS', 'all'))"
    cores = os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    for jobs, expected in ((1, "all"), (2, str(max(1, cores // 2)))):
        crew = crew_of(folder, code, jobs)
        crew.tend(has_progress=False)
        wait_until_ended(crew)
        assert all(place.log.read_text() == expected for place in crew._places)
        crew.dismiss()
        for place in crew._places:
            place.log.unlink()
