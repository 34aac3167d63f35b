import contextlib
import fcntl
import logging
import os
import pty
import re
import struct
import sys
import termios
import time

import pytest

from tumorseg.tracking import progress as module
from tumorseg.tracking import terminal_line
from tumorseg.tracking.pace import Pace
from tumorseg.tracking.progress import progress, progress_of_bytes, set_quiet


@pytest.fixture
def loud():
    yield
    set_quiet(False)


class Terminal:
    """A pseudo-terminal that stands in for stderr within a `with` block."""

    def __enter__(self):
        self._leader, follower = pty.openpty()
        self._stream, self._before = os.fdopen(follower, "w", encoding="utf-8"), sys.stderr
        sys.stderr = self._stream
        os.set_blocking(self._leader, False)
        return self

    def __exit__(self, *_):
        sys.stderr = self._before
        self._stream.close()
        os.close(self._leader)

    def read(self):
        """Return what was shown since the last call."""
        self._stream.flush()
        shown = []
        with contextlib.suppress(BlockingIOError):
            while block := os.read(self._leader, 65536):
                shown.append(block)
        return b"".join(shown).decode()


def work(title="train", total=3, done=0, steps=None, pause_s=0.0):
    with progress(title, total, done) as advance:
        for step in range(total - done if steps is None else steps):
            time.sleep(pause_s)
            advance(f"loss {step}")


def test_plain_lines_go_to_stderr_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.0)
    work()
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    lines = err.splitlines()
    assert lines[0] == "train: 1/3, 0:00 left  loss 0"
    assert lines[-1] == "train: 3/3, took 0:00  loss 2"
    assert len(lines) == 3


def test_lines_in_between_are_left_out_but_never_the_last(capsys):
    work(total=500)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 2
    assert lines[-1].startswith("train: 500/500, took ")


def test_a_line_needs_no_text(capsys):
    with progress("read", 1) as advance:
        advance()
    assert capsys.readouterr().err == "read: 1/1, took 0:00\n"


def test_the_time_left_is_that_of_the_steps_of_this_run(capsys, monkeypatch):
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.0)
    work(total=2000, done=1000, steps=1, pause_s=0.1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(("train: 1001/2000, 1:4", "train: 1001/2000, 1:5"))


def test_nothing_is_shown_elsewhere_when_quiet(capsys, loud):
    set_quiet(True)
    work()
    assert capsys.readouterr().err == ""
    set_quiet(False)
    work()
    assert capsys.readouterr().err != ""


def test_nothing_is_shown_on_a_terminal_when_quiet(loud):
    with Terminal() as terminal:
        set_quiet(True)
        work()
        assert terminal.read() == ""
        set_quiet(False)
        work()
        assert terminal.read() != ""


def test_a_bar_with_title_position_and_text_is_drawn_on_a_terminal(capsys):
    with Terminal() as terminal:
        work(total=4)
        shown = terminal.read()
    assert "\r" in shown
    assert "train" in shown
    assert "4/4" in shown
    assert "loss 3" in shown
    assert "100%" in shown or "[####" in shown
    assert capsys.readouterr().out == ""


def test_a_bar_begins_at_what_was_done_before():
    with Terminal() as terminal:
        work(total=10, done=6)
        shown = terminal.read()
    assert "6/10" in shown
    assert "10/10" in shown
    assert "3/10" not in shown


def test_a_bar_shows_the_time_left_of_the_steps_of_this_run():
    with Terminal() as terminal:
        work(total=2000, done=1000, steps=2, pause_s=1.1)
        shown = terminal.read()
    assert re.search(r"\b(18|19|2\d):\d\d left", shown)  # 998 or 999 steps of 1.1 s, or a little more


MB = 2**20


def transfer(*steps, title="fetch", pause_s=0.0):
    with progress_of_bytes(title) as watch:
        for done, total, *text in steps:
            watch(done, total, *text)
            time.sleep(pause_s)


def test_bytes_are_told_in_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.0)
    transfer((0, 3 * MB), (MB, 3 * MB), (3 * MB, 3 * MB), pause_s=0.1)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == "fetch: 0.0/3.0 MB"
    assert re.fullmatch(r"fetch: 1\.0/3\.0 MB, \d+\.\d MB/s, 0:00 left", lines[1])
    assert lines[2] == "fetch: 3.0/3.0 MB, took 0:00"


def test_lines_about_bytes_are_few_but_the_last_and_texts_are_never_left_out(capsys):
    transfer(*((number, 1000) for number in range(500)), (500, 1000, "cut"), (1000, 1000))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[1:] == ["fetch: cut", "fetch: 1000/1000 bytes, took 0:00"]


def test_bytes_of_an_unknown_total_have_no_end(capsys, monkeypatch):
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.0)
    transfer((5 * 2**30, None), (5 * 2**30 + 50 * MB, None), pause_s=0.05)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "fetch: 5.0 GB"
    assert re.fullmatch(r"fetch: 5\.0 GB, \d+\.\d MB/s", second)


def test_the_speed_is_that_of_this_run_also_after_a_new_start(monkeypatch):
    flow = module._Flow()
    clock = iter([0.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    assert flow.text(100 * MB, 200 * MB) == "100.0/200.0 MB"
    assert flow.text(110 * MB, 200 * MB) == "110.0/200.0 MB, 1.0 MB/s, 1:30 left"
    assert flow.text(0, 200 * MB) == "0.0/200.0 MB"
    assert flow.text(20 * MB, 200 * MB) == "20.0/200.0 MB, 2.0 MB/s, 1:30 left"


def test_a_bar_of_bytes_is_drawn_on_one_line_with_texts_above(monkeypatch, capsys):
    monkeypatch.setattr(terminal_line, "DRAW_EVERY_S", 0.0)
    with Terminal() as terminal:
        transfer((0, 4 * MB), (2 * MB, 4 * MB), (2 * MB, 4 * MB, "cut; next try in 1 s"), (4 * MB, 4 * MB))
        shown = terminal.read().replace("\r\n", "\n")
    first, text, last = shown.removesuffix("\n").split("\n")
    assert "[----------]  0.0/4.0 MB" in first
    assert "[#####-----]  2.0/4.0 MB" in first.split("\r")[-1]
    assert text == "fetch: cut; next try in 1 s"
    assert last.rstrip() == "\rfetch  [##########]  4.0/4.0 MB, took 0:00"
    assert capsys.readouterr().out == ""


def test_a_shorter_line_wipes_the_longer_one_before(monkeypatch):
    monkeypatch.setattr(terminal_line, "DRAW_EVERY_S", 0.0)
    with Terminal() as terminal:
        transfer((10**6, None), (10, None))
        long, short = terminal.read().strip("\r\n").split("\r")
    assert len(short) >= len(long.rstrip())
    assert short.rstrip() == "fetch  [----------]  10 bytes"


def test_a_line_is_never_wider_than_the_terminal():
    with Terminal() as terminal:
        fcntl.ioctl(sys.stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
        transfer((2**30, 3 * 2**30), title="verify a long name")
        assert terminal.read() == "\rverify a long name  [###-----\r\n"


def test_a_text_before_the_first_bytes_needs_no_line_of_its_own():
    with Terminal() as terminal:
        transfer((0, None, "refused"))
        assert terminal.read() == "fetch: refused\r\n"


def test_nothing_is_shown_of_bytes_when_quiet(capsys, loud):
    set_quiet(True)
    transfer((1, 1), (1, 1, "text"))
    assert capsys.readouterr().err == ""


def test_what_is_logged_stands_above_the_bar_and_leaves_nothing_of_it(monkeypatch):
    with Terminal() as terminal:
        # Alone: a test of the command line may have left one whose stream is closed.
        handler = logging.StreamHandler(sys.stderr)
        monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
        with progress("train", 4) as advance:
            advance("first")
            logging.getLogger().warning("a message")
            advance("second")
        shown = terminal.read()
    bar, wiped, message, second = shown.replace("\r\n", "\n").removeprefix("\r").replace("\n", "\r").split("\r")[:4]
    assert bar.startswith("train  [#####")
    assert wiped == " " * len(bar)
    assert message == "a message"
    assert second == ""
    assert "second" in shown
    assert not handler.filters


def test_a_bar_is_never_wider_than_the_terminal():
    with Terminal() as terminal:
        fcntl.ioctl(sys.stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
        work("a long title of something", total=2)
        lines = terminal.read().strip("\r\n").split("\r")
    assert max(map(len, lines)) == 29


def test_steps_are_counted_for_others_when_nothing_is_shown(loud):
    set_quiet(True)
    pace = Pace(3)
    with progress("train", 3, pace=pace) as advance:
        advance()
        advance("text")
    assert pace.count == 2
