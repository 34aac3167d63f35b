"""Trainings as a user has them, and a row of each: what was planned, how far it came in its time, and DSC of the cases that its fold holds out."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.hippocampus import tumorseg
from benchmarks.machine import machine
from benchmarks.training_study import scores
from benchmarks.training_study_scores import Row
from tumorseg.stages.opening.loaded import read_plan


def train_plan(roots: Sequence[str], path: Path, fold: int) -> Row:
    """Train and validate a plan on the CPU, and return its row.

    Args:
        roots: global options of the command line.
        path: of the plan.
        fold: which is trained.
    """
    trained = tumorseg(*roots, "train", "-p", str(path), "--fold", str(fold), "--device", "cpu", "--no-mlflow")
    log = [json.loads(line) for line in (Path(trained["folder"]) / "log.jsonl").read_text().splitlines()]
    plan, found = read_plan(path), machine()
    configuration = plan.configurations[plan.default_configuration]
    steps = log[-1]["iteration"]
    return {
        "taken_minutes": round(sum(entry["seconds"] for entry in log) / 60, 2),
        "fold": fold,
        "seed": plan.training.seed,
        "epochs": len(log),
        "steps": steps,
        "step_s": round(sum(entry["seconds_by_part"]["step"] for entry in log) / steps, 4),
        "patch_size": list(configuration.patch_size),
        "batch_size": configuration.batch_size,
        "precision": plan.training.precision.cpu,
        "dsc": scores(trained["metrics"]["cases"]),
        "commit": found["commit"],
        "cpu": found["cpu"],
        "cores": found["cores"],
    }
