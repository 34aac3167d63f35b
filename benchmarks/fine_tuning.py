"""Steps to a stated DSC on ACDC: from scratch, from a model of Task04_Hippocampus, and from a model of ACDC itself.

    python -m benchmarks.fine_tuning [--rows 4] [--data-root ../shared/data] [--folder runs/fine_tuning]

A row is a training of preset `fast_prototyping` on patches of a third of its voxels: first those that give their weights (Hippocampus on
every case, ACDC from scratch), then those that begin with them. What is held against each other is the pooled DSC of held-out patches, mean over the labels and three epochs in
a row: after how many steps it reaches each level of `TARGETS`, and what it is in the end; and the DSC of the held-out cases at full
resolution. All rows of a seed have the same fold, which none of the given weights has seen. A row goes to
benchmarks/results/fine_tuning.json as soon as its training is done; rows that are there are not run again, and a training that was cut off
goes on where it was, as long as `--folder` is the same. One takes five to ten minutes on a core in fp32, less in bf16 where the processor has it.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.hippocampus import tumorseg
from benchmarks.machine import machine
from benchmarks.rows import read_rows, write_rows
from benchmarks.training_study import EPOCH, write_splits
from tumorseg.sources.registry import open_dataset

RESULT = Path(__file__).parent / "results" / "fine_tuning.json"
TARGETS = (0.5, 0.6, 0.7)
"""Levels of DSC, of which a training of 600 steps from scratch just reaches the last."""
SMOOTHED = 3
"""Epochs in a row whose mean counts, as one may be lucky."""
FOLD = "1"
SEEDS = (0, 1, 2)
SOURCE, TARGET = "MSD_Hippocampus", "Dataset027_ACDC"
PRESET = {"name": "small_patches", "extends": "fast_prototyping", "initial_edge_3d": 44, "initial_edge_2d": 176}
"""Patches that a processor takes 600 steps on in some minutes."""


class Arm(NamedTuple):
    """How a training begins."""

    dataset: str
    fold: str
    given: str | None = None
    """Arm whose model gives the weights, of the same seed."""
    settings: tuple[str, ...] = ()
    """Fields that are set."""


# The stages that both networks have: ACDC's patches are larger in-plane, and its network is deeper.
SHARED = '["stages.0", "stages.1", "stages.2", "stages.3"]'
FROZEN_FIRST = f'training.fine_tuning={{"freeze": {SHARED}, "freeze_fraction": 0.25, "warmup_fraction": 0.05}}'
ARMS = {
    "hippocampus": Arm(SOURCE, "all"),
    "scratch": Arm(TARGET, FOLD),
    "from_hippocampus": Arm(TARGET, FOLD, "hippocampus"),
    "from_itself": Arm(TARGET, FOLD, "scratch"),
    "from_hippocampus_layerwise": Arm(
        TARGET, FOLD, "hippocampus", ('training.fine_tuning={"layer_decay": 0.85, "warmup_fraction": 0.05}',)
    ),
    "from_hippocampus_frozen": Arm(TARGET, FOLD, "hippocampus", (FROZEN_FIRST,)),
}
"""In an order in which none needs a later one."""


class Study(NamedTuple):
    """Where things lie, and how long trainings are."""

    data_root: Path
    folder: Path
    steps: int
    precision: str

    @property
    def roots(self) -> tuple[str, ...]:
        """Return the global options of the command line."""
        return ("-q", "--data-root", str(self.data_root), "--work", str(self.folder / "runs"))

    def plan(self, name: str, seed: int) -> Path:
        """Return the plan of an arm."""
        return self.folder / f"{name}__seed{seed}__steps{self.steps}__{self.precision}.json"

    def model(self, name: str, seed: int) -> Path:
        """Return the fold's folder of an arm."""
        models = self.folder / "runs" / ARMS[name].dataset / "models"
        return models / self.plan(name, seed).stem / "3d_fullres" / f"fold_{ARMS[name].fold}"


def make_plan(study: Study, name: str, seed: int) -> None:
    """Plan an arm; made once more it is the same, so that its training goes on."""
    arm = ARMS[name]
    splits = study.folder / f"{arm.dataset}__splits.json"
    write_splits(splits, open_dataset(arm.dataset, study.data_root))
    length = (f"training.epochs={study.steps // EPOCH}", f"training.iterations_per_epoch={EPOCH}")
    settings: list[str] = []
    for one in (*length, f"training.seed={seed}", f"training.precision.cpu={study.precision}", *arm.settings):
        settings += ("--set", one)
    preset = study.folder / "preset.json"
    preset.write_text(json.dumps(PRESET))
    start = ("plan", "-d", arm.dataset, "--preset", str(preset), "--splits", str(splits), "--force")
    tumorseg(*study.roots, *start, *settings, "-o", str(study.plan(name, seed)))


def run(study: Study, name: str, seed: int) -> dict[str, Any]:
    """Plan and train an arm, and return its row."""
    arm = ARMS[name]
    make_plan(study, name, seed)
    placed = ["-p", str(study.plan(name, seed)), "--fold", arm.fold, "--device", "cpu", "--no-mlflow"]
    if arm.given is not None:
        placed += ("--init", str(study.model(arm.given, seed)))
    trained = tumorseg(*study.roots, "train", *placed)
    folder = Path(trained["folder"])
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    curve = smoothed([mean_dsc(entry["dsc"]) for entry in log])
    found = machine()
    return {
        "arm": name,
        "seed": seed,
        "steps": study.steps,
        "precision": study.precision,
        "taken": taken(folder / "init.json"),
        "steps_to": {str(target): steps_to(curve, target) for target in TARGETS},
        "patch_dsc": [round(value, 4) for value in curve],
        "dsc": scores(trained["metrics"]),
        "step_s": round(sum(entry["seconds_by_part"]["step"] for entry in log) / study.steps, 4),
        "minutes": round(sum(entry["seconds"] for entry in log) / 60, 2),
        "commit": found["commit"],
        "cpu": found["cpu"],
    }


def taken(report: Path) -> dict[str, int]:
    """Return how many tensors had each outcome; nothing for a training from scratch."""
    counts: dict[str, int] = {}
    if report.is_file():
        for one in json.loads(report.read_text())["tensors"]:
            counts[one["outcome"]] = counts.get(one["outcome"], 0) + 1
    return counts


def mean_dsc(by_label: dict[str, float | None]) -> float:
    """Return the mean over labels; one that is neither there nor found counts as 0, and so does an epoch without any."""
    return fmean([value or 0.0 for value in by_label.values()] or [0.0])


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the mean of each epoch and those right before it."""
    return [fmean(values[max(0, last - SMOOTHED) : last]) for last in range(1, len(values) + 1)]


def steps_to(curve: Sequence[float], target: float) -> int | None:
    """Return after how many steps a curve reaches a level; None if it never does."""
    # Not before there are as many epochs as are to count.
    for epoch, value in enumerate(curve):
        if epoch >= SMOOTHED - 1 and value >= target:
            return (epoch + 1) * EPOCH
    return None


def scores(metrics: dict[str, Any] | None) -> dict[str, float]:
    """Return the mean DSC of the held-out cases by label; nothing without any."""
    summary = {} if metrics is None else metrics["summary"]
    return {
        label: round(found["dsc"]["mean"], 4) for label, found in summary.items() if found["dsc"]["mean"] is not None
    }


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line an arm: steps to each level, seed by seed, and the DSC of held-out cases."""
    levels = " | ".join(f"steps to {target:g}" for target in TARGETS)
    lines = [f"| arm | {levels} | DSC of cases |", "|---" * (len(TARGETS) + 2) + "|"]
    for name in ARMS:
        own = sorted((row for row in rows if row["arm"] == name and row["dsc"]), key=lambda row: row["seed"])
        if not own:
            continue
        cells = []
        for target in TARGETS:
            cells.append(", ".join(str(row["steps_to"][str(target)] or "-") for row in own))
        dsc = ", ".join(f"{fmean(row['dsc'].values()):.3f}" for row in own)
        lines.append(f"| {name} | {' | '.join(cells)} | {dsc} |")
    return lines


def missing(options: argparse.Namespace, study: Study, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """Yield the arms whose rows are not there, or whose weights others need and are no longer there."""
    of_study = (options.steps, options.precision)
    done = {(row["arm"], row["seed"]) for row in rows if (row["steps"], row["precision"]) == of_study}
    for seed in options.seeds:
        wanted = [name for name in options.arms if (name, seed) not in done]
        needed = {ARMS[name].given for name in wanted}
        for name in ARMS:
            is_lost = name in needed and not (study.model(name, seed) / "latest.ckpt").is_file()
            if name in wanted or is_lost:
                yield name, seed


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/fine_tuning"), help="of plans, cases and models")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--rows", type=int, help="trainings to run now at most  [default: all]")
    parser.add_argument("--steps", type=int, default=600, help=f"of each training, a multiple of {EPOCH}")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of steps on a processor")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    return parser.parse_args()


def main() -> None:
    options = parse()
    rows = read_rows(options.result)
    options.folder.mkdir(parents=True, exist_ok=True)
    study = Study(options.data_root.resolve(), options.folder.resolve(), options.steps, options.precision)
    for name, seed in list(missing(options, study, rows))[: options.rows]:
        print(f"{name}, seed {seed}", flush=True)
        row = run(study, name, seed)
        same = ("arm", "seed", "steps", "precision")
        rows = [other for other in rows if any(other[field] != row[field] for field in same)] + [row]
        write_rows(options.result, rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
