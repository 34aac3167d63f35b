"""Reading many inputs: processes that take one after the other, what becomes of each, and failures that are kept."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing import connection as mp_connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.fuzzing.child import End, serve
from benchmarks.fuzzing.inputs import Files, Input, make_inputs, read_files, write_input
from benchmarks.fuzzing.targets import Target

_FORK = multiprocessing.get_context("fork")  # imports take seconds, and no thread has been started when it forks
MOST_S = 60.0
"""How long an input may take by the clock, on a machine that is busy with other things."""
START_S = 300.0
"""How long sound folders may take to be made."""
MOST_KEPT = 3
"""Inputs that are kept of failures that look alike; all are counted."""
OF_A_TURN = 100
"""Inputs of a target before the next one has its turn."""


class Turn(NamedTuple):
    """Some inputs of one target."""

    name: str
    first: int
    count: int


class Failed(NamedTuple):
    """An input that ended as none may."""

    name: str
    number: int
    end: End

    @property
    def looks(self) -> str:
        """What failures of one fault have in common: the kind, and the last lines of its traceback without their numbers."""
        places = re.findall(r'File "([^"]+)", line \d+, in (\S+)', self.end.text)
        ours = [place for place in places if "/tumorseg/" in place[0]] or places
        return f"{self.end.kind} {ours[-1:]} {'' if places else re.sub(r'[0-9]+', '#', self.end.text[:60])}"


class _Lane:
    """A process that reads inputs, one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: ForkProcess | None = None
        self.connection: Connection | None = None
        self.name, self.number, self.deadline = "", -1, 0.0

    def start(self, name: str, target: Target) -> None:
        """Replace the process by one for a target."""
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "place").mkdir(parents=True)
        here, there = _FORK.Pipe()
        self.process = _FORK.Process(target=serve, args=(there, name, target, self.folder / "place"))
        self.process.start()
        there.close()
        self.connection, self.name = here, name
        self.number, self.deadline = -1, time.monotonic() + START_S

    def ask(self, number: int | Input, most_s: float) -> None:
        """Have an input read."""
        assert self.connection is not None
        self.number = number if isinstance(number, int) else 0
        self.deadline = time.monotonic() + most_s
        self.connection.send(number)

    def answer(self) -> End | None:
        """Return how the input has ended; None while it is being read."""
        assert self.connection is not None
        assert self.process is not None
        is_late = time.monotonic() > self.deadline
        try:
            if self.connection.poll():
                end: End = self.connection.recv()
                return end
        except (EOFError, OSError):
            return self._death()
        if not self.process.is_alive():
            return self._death()
        if is_late:
            self.end()
            return End("hang", f"was not read within {MOST_S:g} s")
        return None

    def _death(self) -> End:
        assert self.process is not None
        self.process.join(10)
        code = self.process.exitcode
        self.end()
        if code == -signal.SIGXCPU:
            return End("hang", "computed longer than an input may")
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return End("crash", f"the process died ({name})")

    def end(self) -> None:
        """End the process, and what it may have started."""
        if self.process is not None and self.process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.join()
        if self.connection is not None:
            self.connection.close()
        self.process = self.connection = None
        self.name = ""


class Session:
    """A run: its folders, and what it found."""

    def __init__(self, targets: Mapping[str, Target], work: Path, keep: Path) -> None:
        """Begin.

        Args:
            targets: by name.
            work: an empty folder, for what is read.
            keep: where inputs that fail are left.
        """
        self.targets, self.work, self.keep = targets, work, keep
        self.ends: dict[str, Counter[str]] = {}
        self.peaks: Counter[str] = Counter()
        self.failures: list[Failed] = []
        self.sound: dict[str, Sequence[Files]] = {}
        self._alike: Counter[str] = Counter()

    def run(self, turns: Iterator[Turn], *, jobs: int, finished: Callable[[Turn, Counter[str]], None]) -> None:
        """Read inputs until there are no more turns.

        Args:
            turns: drawn one at a time.
            jobs: processes.
            finished: is told of each turn, and how many of its inputs ended in which way.
        """
        lanes = [_Lane(self.work / f"lane-{number}") for number in range(jobs)]
        running = [runner for lane in lanes if (runner := self._next(lane, turns, finished)) is not None]
        try:
            while running:
                waited = [runner.lane.connection for runner in running if runner.lane.connection is not None]
                mp_connection.wait(waited, timeout=0.2)
                for runner in list(running):
                    if runner.goes_on():
                        continue
                    running.remove(runner)
                    following = self._next(runner.lane, turns, finished)
                    running += [] if following is None else [following]
        finally:
            for lane in lanes:
                lane.end()

    def _next(
        self, lane: _Lane, turns: Iterator[Turn], finished: Callable[[Turn, Counter[str]], None]
    ) -> "_Runner | None":
        turn = next(turns, None)
        return None if turn is None else _Runner(self, lane, turn, finished)

    def note(self, name: str, number: int, end: End) -> None:
        """Count an input, and keep it if it failed."""
        self.ends.setdefault(name, Counter())[end.kind] += self.targets[name].count
        self.peaks[name] = max(self.peaks[name], end.peak_bytes)
        if end.is_right:
            return
        failed = Failed(name, number, end)
        self.failures.append(failed)
        self._alike[failed.looks] += 1
        if self._alike[failed.looks] <= MOST_KEPT:
            self._keep(failed)

    def _keep(self, failed: Failed) -> None:
        folder = self.keep / f"{failed.name}-{failed.number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made = self._made(failed)
        write_input(made, folder / "input")
        notes = {
            "target": failed.name,
            "number": failed.number,
            "steps": made.steps,
            "kind": failed.end.kind,
            "text": failed.end.text,
        }
        (folder / "failure.json").write_text(json.dumps(notes, indent=2) + "\n")

    def _made(self, failed: Failed) -> Input:
        sound, count = self.sound[failed.name], self.targets[failed.name].count
        return make_inputs(failed.name, failed.number, sound, count)

    def replay(self, folder: Path) -> End:
        """Read an input again that was kept."""
        notes: dict[str, Any] = json.loads((folder / "failure.json").read_text())
        place = folder / "input"
        links = {
            os.fspath(path.relative_to(place)): os.fspath(path.readlink())
            for path in place.rglob("*")
            if path.is_symlink()
        }
        lane = _Lane(self.work / "lane-0")
        lane.start(notes["target"], self.targets[notes["target"]])
        try:
            self._wait(lane)
            folders = tuple(
                os.fspath(path.relative_to(place))
                for path in place.rglob("*")
                if path.is_dir() and not any(path.iterdir())
            )
            lane.ask(Input(read_files(place), tuple(notes["steps"]), links, folders), MOST_S)
            return self._wait(lane)
        finally:
            lane.end()

    def _wait(self, lane: _Lane) -> End:
        while (end := lane.answer()) is None:
            time.sleep(0.01)
        return end


class _Runner:
    """A turn that a lane is at."""

    def __init__(
        self, session: Session, lane: _Lane, turn: Turn, finished: Callable[[Turn, Counter[str]], None]
    ) -> None:
        self.session, self.lane, self.turn, self.finished = session, lane, turn, finished
        self.position, self.counts = 0, Counter[str]()
        self.target = session.targets[turn.name]
        self._start()

    def _start(self) -> None:
        self.is_ready = False
        self.lane.start(self.turn.name, self.target)

    def goes_on(self) -> bool:
        """Take an answer if there is one; return whether inputs of the turn are left."""
        end = self.lane.answer()
        if end is None:
            return True
        if not self.is_ready:
            if end.kind != "ready":
                raise RuntimeError(f"{self.turn.name}: no sound folders can be made: {end}")
            self.session.sound[self.turn.name] = end.sound
            self.is_ready = True
        else:
            self.session.note(self.turn.name, self.turn.first + self.position, end)
            self.counts[end.kind] += self.target.count
            self.position += self.target.count
        if self.position >= self.turn.count:
            self.lane.end()
            self.finished(self.turn, self.counts)
            return False
        if self.lane.process is None:
            self._start()
        else:
            self.lane.ask(self.turn.first + self.position, MOST_S * min(5, self.target.count))
        return True
