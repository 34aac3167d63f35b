"""What benchmarks/training.py trains: Task04_Hippocampus, planned and preprocessed by both programs.

The same network, patch and batch on both sides; of ours also the network of preset `fast_prototyping`, for what does not need the peer.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.preprocessing import Bench
from benchmarks.watching import watch

Row = dict[str, Any]
CONFIGURATION = "3d_fullres"
DATASET, NNUNET_NAME = "MSD_Hippocampus", "Dataset004_Hippocampus"
PRESETS = ("nnunet", "fast_prototyping")
"""Of plans; the first is nnU-Net's own, the second what a processor trains in minutes."""
BATCH_SIZE = 2
JOBS = ("-np", "2")
VERSIONS = """
import json
from importlib.metadata import version
print(json.dumps({name: version(name) for name in ("nnunetv2", "batchgeneratorsv2", "torch")}))
"""


class Settings(NamedTuple):
    """How much to measure."""

    turns: int
    """Of each side."""
    iterations: int
    """Timed steps in a turn."""
    warm_up: int
    """Steps before them."""

    def options(self) -> tuple[str, ...]:
        """Return what a process has to know of them."""
        return ("--iterations", str(self.iterations), "--warm-up", str(self.warm_up))


class Job(NamedTuple):
    """What is measured, where, and how much of it."""

    bench: Bench
    has_peer: bool
    settings: Settings

    def plan(self, preset: str) -> Path:
        """Return our plan of a preset."""
        return self.bench.folder / f"hippocampus__{preset}.json"


def prepare(job: Job) -> Iterator[Row]:
    """Plan and preprocess in both programs, by nnU-Net once; check that they train the same network."""
    for preset in PRESETS:
        # Anew each time, as plans follow the code; cases that are stored stay.
        _prepare_own(job, preset)
    if not job.has_peer:
        yield {"dataset": DATASET}
        return
    note = job.bench.folder / "peer.json"
    if not note.is_file():
        _prepare_peer(job.bench)
        note.write_text(json.dumps(_versions(job.bench)))
    yield {"dataset": DATASET, "peer": json.loads(note.read_text()), **_same_training(job)}


def _prepare_own(job: Job, preset: str) -> None:
    batch = ("--set", f"configurations.{CONFIGURATION}.batch_size={BATCH_SIZE}")
    plan = ("-p", str(job.plan(preset)), "--configuration", CONFIGURATION)
    job.bench.tumorseg("plan", "-d", DATASET, "--preset", preset, *batch, "-o", str(job.plan(preset)), "--force")
    job.bench.tumorseg("preprocess", *plan)


def fed_plan(job: Job, dataset: str) -> Path:
    """Return the plan that a processor trains a set in minutes by; cases that are stored stay."""
    path = job.bench.folder / f"{dataset}__{PRESETS[1]}.json"
    job.bench.tumorseg("plan", "-d", dataset, "--preset", PRESETS[1], "-o", str(path), "--force")
    job.bench.tumorseg("preprocess", "-p", str(path), "--configuration", CONFIGURATION)
    return path


def _prepare_peer(bench: Bench) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        shutil.rmtree(Path(bench.nnunet[name]) / NNUNET_NAME, ignore_errors=True)
    bench.raw(DATASET, NNUNET_NAME)
    bench.nnunet_command("nnUNetv2_extract_fingerprint", "-d", "4", *JOBS)
    bench.nnunet_command("nnUNetv2_plan_experiment", "-d", "4")
    path = _peer_plans(bench)
    plans = json.loads(path.read_text())
    plans["configurations"][CONFIGURATION]["batch_size"] = BATCH_SIZE
    path.write_text(json.dumps(plans))
    bench.nnunet_command("nnUNetv2_preprocess", "-d", "4", "-c", CONFIGURATION, *JOBS)


def _peer_plans(bench: Bench) -> Path:
    return Path(bench.nnunet["nnUNet_preprocessed"]) / NNUNET_NAME / "nnUNetPlans.json"


def _versions(bench: Bench) -> dict[str, str]:
    found: dict[str, str] = json.loads(watch([str(bench.peer), "-c", VERSIONS]).output)
    return found


def _same_training(job: Job) -> Row:
    """Return what both programs train.

    Raises:
        ValueError: they train different networks, or on other patches.
    """
    exported = job.bench.folder / "exported" / NNUNET_NAME
    shutil.rmtree(exported, ignore_errors=True)
    exported.parent.mkdir(exist_ok=True)
    job.bench.tumorseg("plan", "export", str(job.plan(PRESETS[0])), "-o", str(exported))
    found: list[Row] = []
    for path in (_peer_plans(job.bench), exported / "nnUNetPlans.json"):
        planned = json.loads(path.read_text())["configurations"][CONFIGURATION]
        found.append({name: planned[name] for name in ("patch_size", "batch_size", "architecture")})
    if found[0] != found[1]:
        raise ValueError(f"nnU-Net plans {found[0]}, tumorseg {found[1]}; there is nothing to compare")
    return {name: found[0][name] for name in ("patch_size", "batch_size")}
