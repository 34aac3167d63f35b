"""How a study stands, on a terminal and elsewhere."""

import pytest

from tests.tracking.test_progress import Terminal
from tumorseg.tracking import study_progress as module
from tumorseg.tracking.progress import set_quiet
from tumorseg.tracking.study_progress import Standing, study_progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_terminal_shows_one_line_that_is_drawn_over():
    with Terminal() as terminal:
        with study_progress("tune") as tell:
            tell(Standing("trials", 3, 40, "best 0.8612 DSC (trial 2)", 600.0))
            tell(Standing("trials", 4, None))
        shown = terminal.read()
    assert shown.count("\n") == 1
    first, second = shown.split("\r")[1:3]
    assert first == "tune: trials 3/40, best 0.8612 DSC (trial 2), 10:00 left"
    assert second.rstrip() == "tune: trials 4"
    assert len(second) >= len(first)


def test_elsewhere_a_line_tells_of_what_was_done_and_not_of_each_look(capsys, clock):
    with study_progress("tune") as tell:
        for num_done, seconds in ((0, 0), (1, 5), (2, 20), (2, 40), (3, 41)):
            clock[0] = 100.0 + seconds
            tell(Standing("trials", num_done, 8))
        tell(Standing("judging", 0, 4))
    assert capsys.readouterr().err.splitlines() == [
        "tune: trials 0/8",
        "tune: trials 2/8, 1:00 left",
        "tune: trials 3/8, 1:08 left",
        "tune: judging 0/4",
    ]


def test_what_ends_first_is_the_time_that_is_left(capsys, clock):
    with study_progress("tune") as tell:
        tell(Standing("trials", 2, 10, seconds_left=500.0))
        clock[0] += 100.0
        tell(Standing("trials", 3, 10, seconds_left=400.0))
    assert capsys.readouterr().err.splitlines()[-1] == "tune: trials 3/10, 6:40 left"


def test_quiet_is_quiet(capsys):
    set_quiet(True)
    with study_progress("tune") as tell:
        tell(Standing("trials", 1))
    assert capsys.readouterr().err == ""
