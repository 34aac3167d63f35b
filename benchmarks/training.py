"""Training steps on the CPU against nnunetv2 by turns, and what each measure that makes ours fast gives by itself.

    python -m benchmarks.training --data-root ../shared/data --peer <python of an environment with nnunetv2 2.8.1>

On Task04_Hippocampus with nnU-Net's network, patch and whole augmentation, batch 2. Parts: `prepare` (plans and preprocesses once, in
`--folder`), `steps` (whole training iterations of both programs; needs the peer), `measures` (ours without one measure each),
`networks` (networks alone on noise, with one thing changed each, and optimizers), `feeding` (the share of waiting with one reader on a CT
and on BraTS). Results go to benchmarks/results/training.json with machine and commit, row by row; a run of some parts keeps the results of
the others.

A try of everything in minutes: --turns 1 --iterations 2 --warm-up 1 --result /tmp/tried.json
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import machine
from benchmarks.preprocessing import Bench
from benchmarks.training_rounds import (
    compare_feeding,
    compare_measures,
    compare_networks,
    compare_steps,
    feeding,
    measures,
    networks,
    steps,
)
from benchmarks.training_setup import Job, Row, Settings, prepare
from tumorseg.engine.precision import has_bf16

RESULT = Path(__file__).parent / "results" / "training.json"
"""Of the committed run."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Variables by which a user steers threads."""


class Part(NamedTuple):
    """A part of the benchmark."""

    run: Callable[[Job], Iterator[Row]]
    compare: Callable[[Sequence[Row]], Row]
    """What its rows come to, of however many there are."""
    needs_peer: bool = False


PARTS = {
    "prepare": Part(prepare, lambda rows: {}),
    "steps": Part(steps, compare_steps, needs_peer=True),
    "measures": Part(measures, compare_measures),
    "networks": Part(networks, compare_networks),
    "feeding": Part(feeding, compare_feeding),
}


def keep(path: Path, name: str, found: Row) -> None:
    """Write what was found of a part so far; what another run has written of other parts meanwhile stays."""
    results = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(results | {name: found}, indent=1, sort_keys=True) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--peer", help="python of an environment with nnunetv2 2.8.1")
    parser.add_argument("--parts", nargs="*", choices=PARTS, help="all that can be run if not given")
    parser.add_argument("--folder", type=Path, default=Path("runs/training"), help="of plans and preprocessed cases")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--turns", type=int, default=3, help="of each side")
    parser.add_argument("--iterations", type=int, default=12, help="timed steps in a turn")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before them, at least one")
    options = parser.parse_args()
    if options.warm_up < 1:
        parser.error("--warm-up has to be at least 1: a step is timed from the end of the one before")
    held = [name for name in THREADS if name in os.environ]
    if held:
        parser.error(
            f"unset {', '.join(held)}: both sides are to take as many threads, and to let them wait, as they do by themselves"
        )
    if options.parts is None:
        options.parts = [name for name, part in PARTS.items() if options.peer or not part.needs_peer]
    lacking = [name for name in options.parts if PARTS[name].needs_peer and not options.peer]
    if lacking:
        parser.error(f"{', '.join(lacking)}: a comparison with nnunetv2; give --peer")
    return options


def main() -> None:
    options = parse()
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.data_root, options.peer or "python", folder)
    settings = Settings(options.turns, options.iterations, options.warm_up)
    job = Job(bench, options.peer is not None, settings)
    for name in options.parts:
        rows: list[Row] = []
        where = {"machine": machine() | {"has_bf16": has_bf16()}, "settings": settings._asdict()}
        for row in PARTS[name].run(job):
            rows.append(row)
            print(json.dumps({name: row}), flush=True)
            keep(options.result, name, where | {"rows": rows, "summary": PARTS[name].compare(rows)})
        print(json.dumps(PARTS[name].compare(rows), indent=1), flush=True)


if __name__ == "__main__":
    main()
