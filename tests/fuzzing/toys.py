"""Readers that do what none may, read by the fuzzer in its own processes; prints how each ended."""

import json
import logging
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.fuzzing import session
from benchmarks.fuzzing.session import Session, Turn
from benchmarks.fuzzing.targets import Target
from tumorseg.errors import InputError


def make(folder):
    (folder / "one").mkdir()
    (folder / "one" / "file.txt").write_text("size: 3")


def refuse(folder):
    raise InputError(f"{folder}: holds no image; copy it anew")


def fail(folder):
    raise KeyError(folder.name)


def crash(folder):
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(folder):
    time.sleep(1000)


def swell(folder):
    return len(b"x" * (600 << 20))


def escape(folder):
    (folder.parent / "escaped").write_text("here I am")


def remove(folder):
    (folder.parent.parent / "other").unlink(missing_ok=True)


def start(folder):
    if os.fork() == 0:
        time.sleep(1000)


class RudeError(InputError):
    def text(self, **known):
        return "two\nlines"


def tell_much(folder):
    raise RudeError("two lines")


def log(folder):
    logging.getLogger("tumorseg").warning("opens", exc_info=ValueError("x"))


READERS = {
    "value": Path.exists,
    "refused": refuse,
    "traceback KeyError": fail,
    "crash": crash,
    "hang": hang,
    "memory": swell,
    "escape": escape,
    "escape by removal": remove,
    "children": start,
    "message": tell_much,
    "log": log,
}


def main(folder):
    session.MOST_S = 20
    (folder / "work").mkdir()
    targets = {name: Target(make, reader) for name, reader in READERS.items()}
    one = Session(targets, folder / "work", folder / "keep")
    one.run((Turn(name, 0, 2) for name in targets), jobs=2, finished=lambda turn, counts: None)
    kept = Counter(path.name.rpartition("-")[0] for path in (folder / "keep").iterdir())
    again = one.replay(folder / "keep" / "log-0").kind
    return {"ends": one.ends, "kept": kept, "again": again}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
