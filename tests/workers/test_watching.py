import pytest

from tumorseg.workers.machine import ProcessState, process_state
from tumorseg.workers.watching import Watch


def looks(letter: str | None, *, cpu_share: float = 0.0, until_s: int = 130) -> tuple[Watch, list[str]]:
    watch = Watch(began_s=0.0, looked_s=0.0, reported_s=0.0)
    states = (None if letter is None else ProcessState(letter, cpu_share * now) for now in range(1, until_s))
    told = [watch.look(state, float(now)) for now, state in enumerate(states, start=1)]
    return watch, [line for line in told if line]


@pytest.mark.parametrize("letter", ["D", "S", None])
def test_a_worker_that_waits_is_named_every_minute_and_never_ended(letter: str | None) -> None:
    watch, told = looks(letter)
    assert [line.split(" s")[0] for line in told] == [
        "a worker has been at it for 60",
        "a worker has been at it for 120",
    ]
    assert ("disk or a network (state D)" in told[0]) is (letter == "D")
    assert not watch.is_stopped


def test_a_worker_that_computes_is_not_spoken_of() -> None:
    assert looks("R", cpu_share=0.5)[1] == []


def test_a_worker_is_stopped_after_five_seconds_of_its_parents_time() -> None:
    assert not looks("T", until_s=5)[0].is_stopped
    assert looks("T", until_s=6)[0].is_stopped
    watch, _ = looks("T", until_s=4)
    watch.look(ProcessState("T", 0.0), 1000.0)  # the parent was stopped along with it
    assert not watch.is_stopped
    watch.look(ProcessState("R", 0.0), 1001.0)
    assert watch.stopped_s == 0


def test_what_a_worker_computed_before_its_case_does_not_count() -> None:
    watch = Watch.begin(ProcessState("R", 30.0))
    assert watch.look(ProcessState("D", 30.0), watch.reported_s + 61) is not None


def test_the_system_tells_what_a_process_does() -> None:
    import os

    found = process_state(os.getpid())
    assert found is not None
    assert found.letter in "RSD"
    assert found.cpu_s > 0
    assert process_state(2**22 + 1) is None
