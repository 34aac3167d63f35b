"""A study of a made-up objective, so that hundreds of trials can be killed in seconds.

`python -m tests.stages.tuning.synthetic work FOLDER` is a worker of it, `… coordinate FOLDER STORAGE TRIALS JOBS` its coordinator.
"""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tumorseg import __version__
from tumorseg.schema.tuning import InnerSplit, Proxy, RealParameter, Score, Space, Study, Task
from tumorseg.stages.tuning.beats import Pace
from tumorseg.stages.tuning.coordinator import coordinate
from tumorseg.stages.tuning.local_workers import LocalWorkers
from tumorseg.stages.tuning.worker import work
from tumorseg.storage.json_files import write_record
from tumorseg.storage.study_folder import AttemptFolder, StudyFolder

ROOT = Path(__file__).parents[3]
RUNGS = (4, 8, 12)
STEP_S = 0.02
PACE = Pace(poll_s=0.02, beat_s=0.1, lease_s=2.5, look_s=0.1)
SEED = 11
STORED = "journal"
"""Storage that is a judge of this module rather than Optuna."""
HELD = "held"
"""File of a study's folder: the number of the first trial that does not end as long as the file is there."""


def write_study(root):
    """Write what the study is, and return its folder."""
    folder = StudyFolder(root)
    write_record(folder.study, synthetic_study())
    return folder


def synthetic_study(**fields):
    space = Space(
        parameters=(
            RealParameter(field="x", low=0.0, high=1.0, center=0.5),
            RealParameter(field="y", low=0.001, high=1.0, scale="log", center=0.1),
        )
    )
    known = {
        "tumorseg_version": __version__,
        "name": "synthetic",
        "plan_name": "none",
        "plan_hash": "0" * 32,
        "configuration": "2d",
        "objectives": ("dsc",),
        "sampler": "random",
        "pruner": "none",
        "seed": SEED,
        "space": space,
        "proxy": Proxy(iterations=RUNGS[-1], rungs=RUNGS, most_cases=1),
        "split": InnerSplit(training=("a",), scored=("b",)),
        "judges": (1,),
        "final_iterations": 1,
        "final_seeds": (1,),
    }
    return Study(**(known | fields))


def task_of(number, values, rungs=RUNGS):
    stem = f"trial-{number:05d}"
    return Task(tumorseg_version=__version__, stem=stem, number=number, values=values, seed=SEED, rungs=rungs)


def objective(values, iteration):
    return -((values["x"] - 0.3) ** 2) - (values["y"] - 0.2) ** 2 - 1 / iteration


def save(path, text):
    """Write a file that is old or new after a kill; a power cut, for which tumorseg's own writing waits, is nothing that a test has."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def carry_out(task, attempt, step_s=STEP_S):
    """Train for a while, with a checkpoint after each step, and score at each rung; goes on from an earlier attempt's checkpoint."""
    checkpoint = AttemptFolder(attempt.folder).fold.latest
    done = 0 if attempt.previous is None else int(AttemptFolder(attempt.previous).fold.latest.read_text())
    (attempt.folder / "begun").write_text(str(done))
    for rung in task.rungs:
        while done < rung:
            if attempt.should_stop():
                return
            time.sleep(step_s)
            if done < task.rungs[-1] - 1 or not is_held(task, attempt):
                done += 1
            save(checkpoint, str(done))
        if rung not in {score.iteration for score in attempt.scores}:
            yield Score(iteration=rung, values=(objective(task.values, rung),), seconds=step_s)


def is_held(task, attempt):
    """Return whether the last step of a trial is to be taken over and over, for a test that has yet to kill somebody at it."""
    try:
        return task.number >= int((attempt.folder.parents[2] / HELD).read_text())
    except FileNotFoundError:
        return False


class JournalJudge:
    """Draws trials by chance; notes in a file, line by line, all that it is told."""

    def __init__(self, path, most, stops=lambda number, index: False):
        self.path, self.most, self.stops = path, most, stops
        self.asked, self.reported, self.ended = [], {}, {}
        if path.exists():
            whole = path.read_bytes()
            whole = whole[: whole.rfind(b"\n") + 1]
            # What a kill has cut short.
            path.write_bytes(whole)
            for line in whole.splitlines():
                self.take_in(*json.loads(line))

    def take_in(self, kind, number, *rest):
        if kind == "ask":
            self.asked.append(number)
        elif kind == "report":
            index, value = rest
            assert (number, index) not in self.reported
            self.reported[number, index] = value
        else:
            assert number not in self.ended
            self.ended[number] = tuple(rest)

    def note(self, *event):
        with self.path.open("a") as file:
            file.write(f"{json.dumps(event)}\n")
        self.take_in(*event)

    def ask(self):
        if len(self.asked) == self.most:
            return None
        self.note("ask", len(self.asked))
        return self.task(self.asked[-1])

    def task(self, number):
        chance = random.Random(f"{SEED}/{number}")
        return task_of(number, {"x": chance.random(), "y": chance.random()})

    def running(self):
        return [self.task(number) for number in self.asked if number not in self.ended]

    def report(self, task, index, score):
        known = self.reported.get((task.number, index))
        if known is None:
            assert index == 0 or (task.number, index - 1) in self.reported
            self.note("report", task.number, index, score.values[0])
        else:
            # Whoever goes on from a checkpoint comes to the same.
            assert known == score.values[0]
        return self.stops(task.number, index)

    def end(self, task, ended):
        if task.number not in self.ended:
            self.note("end", task.number, ended.state, ended.message)

    def should_end(self, task):
        return False


class EngineJudge:
    """Optuna's side of it, as far as trials go."""

    def __init__(self, storage, most):
        from tumorseg.tuning.engine import Engine

        self.engine = Engine(synthetic_study(), {"x": 0.9, "y": 0.9}, storage)
        self.most = most

    def ask(self):
        trials, running = self.engine.trials(), self.engine.running()
        ended = [trial for trial in trials if trial.state != "running"]
        if len(ended) + len(running) == self.most:
            return None
        asked = self.engine.ask()
        self.engine.hand_out(asked.number)
        return task_of(asked.number, asked.values)

    def running(self):
        return [task_of(number, values) for number, values in self.engine.running().items()]

    def report(self, task, index, score):
        return self.engine.report(task.number, index, score.values)

    def end(self, task, ended):
        if ended.state == "finished":
            self.engine.finish(task.number)
        elif ended.state == "stopped":
            self.engine.prune(task.number)
        else:
            self.engine.fail(task.number, ended.message)

    def should_end(self, task):
        return False


def command(*arguments):
    return [sys.executable, "-m", "tests.stages.tuning.synthetic", *map(str, arguments)]


def start(*arguments):
    """Start a worker or a coordinator; its messages go to the terminal."""
    return subprocess.Popen(command(*arguments), cwd=ROOT, stdin=subprocess.DEVNULL)


def judge_of(folder, storage, most):
    if storage == STORED:
        return JournalJudge(folder.root / "judge.jsonl", most)
    return EngineJudge(str(folder.journal) if storage == "optuna" else storage, most)


def main(verb, root, *rest):
    folder = StudyFolder(Path(root))
    if verb == "work":
        return 0 if work(folder, carry_out, pace=PACE) else 75
    storage, most, jobs = rest
    crew = LocalWorkers(command("work", root), int(jobs), folder)
    return 0 if coordinate(folder, judge_of(folder, storage, int(most)), crew, pace=PACE) else 75


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(*sys.argv[1:]))
