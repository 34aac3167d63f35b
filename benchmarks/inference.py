"""Prediction against nnunetv2 with the same weights, by turns on the same cores; engines side by side; memory.

    python -m benchmarks.inference --data-root ../shared/data --peer <python of an environment with nnunetv2 2.8.1>

Parts: `prepare` (makes the models: trains one for `--train-hours`), `hippocampus` (whole commands on 24 held-out cases, 8 views),
`ct` (one CT of 512 x 512 x 119, no mirroring; may take an hour, and says so first), `engines` (seconds a tile), `memory`
(512 x 512 x 400 and x 800 with 60 classes). The two in the middle need the peer. Models stay in `--folder`. Results go to
benchmarks/results/inference.json with machine and commit; a run of some parts keeps the results of the others.

A try of everything in minutes:

    python -m benchmarks.inference --peer … --result /tmp/tried.json --folder /tmp/tried --train-hours 0.02 --cases 2 --turns 1
        --extent 96 96 32 --seconds 1 --edge 96 --slices 40 60 --patch 32 64 64
"""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.inference_engines import engines
from benchmarks.inference_memory import memory
from benchmarks.inference_models import Prepared, prepare_ct, prepare_hippocampus, prepare_sixty
from benchmarks.inference_rounds import Settings, ct, hippocampus
from benchmarks.machine import machine
from benchmarks.preprocessing import Bench

RESULT = Path(__file__).parent / "results" / "inference.json"
"""Of the committed run."""
NUM_CLASSES = 60


class Job:
    """What was asked for, and where the models are."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Make the folder of models."""
        self.options = options
        folder: Path = options.folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self.bench = Bench(options.data_root, options.peer, folder)
        self.models = {name: Prepared(folder / name) for name in ("hippocampus", "ct", "sixty")}
        self.settings = Settings(options.turns, options.ct_turns)


def prepare(job: Job) -> dict[str, Any]:
    """Make all models anew."""
    options = job.options
    for prepared in job.models.values():
        # The training may go on from where it was.
        shutil.rmtree(prepared.model, ignore_errors=True)
        prepared.folder.mkdir(exist_ok=True)
    hours, weights = options.train_hours, options.weights
    prepare_hippocampus(
        job.bench, job.models["hippocampus"], train_hours=hours, weights=weights, num_cases=options.cases
    )
    prepare_ct(job.bench, job.models["ct"], extent=options.extent)
    grid = (min(options.slices), options.edge, options.edge)
    prepare_sixty(job.bench, job.models["sixty"], grid=grid, patch=tuple(options.patch), num_classes=NUM_CLASSES)
    return {"train_hours": None if weights else hours, "cases": len(job.models["hippocampus"].case_ids)}


def engines_of_both(job: Job) -> dict[str, Any]:
    """Time the engines on nnU-Net's networks for the hippocampus and for the CT."""
    sizes = {"hippocampus": (1, 2, 4, 8), "ct": (1, 2)}
    return {name: engines(job.models[name], sizes[name], job.options.seconds) for name in job.options.networks}


PARTS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "prepare": prepare,
    "hippocampus": lambda job: hippocampus(job.bench, job.models["hippocampus"], job.settings),
    "ct": lambda job: ct(job.bench, job.models["ct"], job.settings),
    "engines": engines_of_both,
    "memory": lambda job: memory(job.models["sixty"], edge=job.options.edge, slices=tuple(job.options.slices)),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--peer", default="python", help="python of an environment with nnunetv2 2.8.1")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path, default=Path("runs/inference"), help="of the models")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--turns", type=int, default=3, help="of each program on the small cases")
    parser.add_argument("--ct-turns", type=int, default=1, help="of each program on the CT")
    parser.add_argument("--train-hours", type=float, default=0.5)
    parser.add_argument("--weights", type=Path, help="checkpoint of a fold 0 that was trained before")
    parser.add_argument("--cases", type=int, default=24, help="held-out cases to prepare")
    parser.add_argument("--extent", type=int, nargs=3, help="voxels x, y, z of the middle of the CT to prepare")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each engine, precision and batch size")
    parser.add_argument("--networks", nargs="*", choices=("hippocampus", "ct"), default=["hippocampus", "ct"])
    parser.add_argument("--edge", type=int, default=512, help="of the slices of the image with 60 classes")
    parser.add_argument("--slices", type=int, nargs=2, default=[400, 800])
    parser.add_argument(
        "--patch", type=int, nargs=3, default=[64, 128, 128], help="z, y, x of the network of 60 classes"
    )
    return parser.parse_args()


def main() -> None:
    options = parse()
    job = Job(options)
    for part in options.parts:
        found = {**PARTS[part](job), "machine": machine()}
        print(json.dumps({part: found}, indent=2), flush=True)
        # Read anew, as another run may have written meanwhile.
        results = json.loads(options.result.read_text()) if options.result.is_file() else {}
        text = json.dumps(results | {part: found}, indent=2, sort_keys=True)
        options.result.write_text(text + "\n")


if __name__ == "__main__":
    main()
