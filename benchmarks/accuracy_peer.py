"""nnU-Net's side of benchmarks/accuracy.py: its own plan with a batch of 2, its own training with the schedule set to end in time, its own validation."""

import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import machine
from benchmarks.preprocessing import Bench
from benchmarks.training_study import scores
from benchmarks.training_study_scores import Row
from benchmarks.watching import told_by, watch
from tumorseg.schema.training import Training
from tumorseg.stages.training.calibrate import fit_to_hours

CONFIGURATION = "3d_fullres"
BATCH_SIZE = 2
JOBS = ("-np", "2")
EPOCH, VALIDATION = 20, 4
"""Most steps in an epoch, and batches of held-out patches after one, as in preset `fast_prototyping`."""
TIMED, WARM_UP = 10, 3
"""Steps."""
SCRIPTS = Path(__file__).parent / "peer"
POLL_S = 5.0
"""A look at memory, which nobody asks for here, takes time of the training."""


class PeerSet(NamedTuple):
    """A dataset as nnU-Net calls it."""

    name: str

    @property
    def number(self) -> str:
        """Return what its commands call it by."""
        found = re.match(r"Dataset(\d+)_", self.name)
        assert found is not None
        return str(int(found[1]))


def prepare_peer(bench: Bench, dataset: str, peer_set: PeerSet, splits: Path) -> None:
    """Plan and preprocess with nnU-Net, once, and give it our folds."""
    preprocessed = Path(bench.nnunet["nnUNet_preprocessed"]) / peer_set.name
    if not (preprocessed / "is_done").is_file():
        for name in bench.nnunet:
            shutil.rmtree(Path(bench.nnunet[name]) / peer_set.name, ignore_errors=True)
        bench.raw(dataset, peer_set.name)
        bench.nnunet_command("nnUNetv2_extract_fingerprint", "-d", peer_set.number, *JOBS)
        bench.nnunet_command("nnUNetv2_plan_experiment", "-d", peer_set.number)
        path = preprocessed / "nnUNetPlans.json"
        plans = json.loads(path.read_text())
        plans["configurations"][CONFIGURATION]["batch_size"] = BATCH_SIZE
        path.write_text(json.dumps(plans))
        bench.nnunet_command("nnUNetv2_preprocess", "-d", peer_set.number, "-c", CONFIGURATION, *JOBS)
        (preprocessed / "is_done").touch()
    shutil.copy(splits, preprocessed / "splits_final.json")


def length(step_s: float, minutes: float) -> Training:
    """Return the length of a training of some minutes, by the rule that `tumorseg train` follows."""
    asked = Training(epochs=1, iterations_per_epoch=EPOCH, validation_iterations=VALIDATION, max_hours=minutes / 60)
    return fit_to_hours(asked, step_s, has_validation=True)


def train_peer(bench: Bench, dataset: str, peer_set: PeerSet, *, minutes: float, fold: int, seed: int) -> Row:
    """Time steps of nnU-Net, train and validate it for some minutes, and return its row."""
    variables = {**bench.nnunet, "nnUNet_compile": "f"}
    common = ("--dataset", peer_set.number)
    timing = (str(SCRIPTS / "training.py"), "steps", *common, "--iterations", str(TIMED), "--warm-up", str(WARM_UP))
    timed = told_by(watch([str(bench.peer), *timing], environment=variables, poll_s=POLL_S))
    step_s = sum(timed["steps_s"]) / TIMED
    planned = length(step_s, minutes)
    lengths = ("--epochs", planned.epochs, "--iterations", planned.iterations_per_epoch)
    lengths = (*lengths, "--validation", planned.validation_iterations)
    training = (str(SCRIPTS / "accuracy.py"), *common, "--fold", fold, *lengths, "--seed", seed)
    told = told_by(watch([str(bench.peer), *map(str, training)], environment=variables, poll_s=POLL_S))
    preprocessed = Path(bench.nnunet["nnUNet_preprocessed"]) / peer_set.name
    planned_by_it = json.loads((preprocessed / "nnUNetPlans.json").read_text())["configurations"][CONFIGURATION]
    network, found = planned_by_it["architecture"]["arch_kwargs"], machine()
    return {
        "taken_minutes": round(told["seconds"] / 60, 2),
        "fold": fold,
        "seed": seed,
        "epochs": planned.epochs,
        "steps": planned.epochs * planned.iterations_per_epoch,
        "step_s": round(step_s, 4),
        "patch_size": planned_by_it["patch_size"],
        "network": {"features": network["features_per_stage"], "strides": network["strides"]},
        "batch_size": BATCH_SIZE,
        "precision": "fp32",
        "dsc": _scores_of_masks(bench, dataset, peer_set, Path(told["masks"])),
        "commit": found["commit"],
        "cpu": found["cpu"],
        "cores": found["cores"],
    }


def _scores_of_masks(bench: Bench, dataset: str, peer_set: PeerSet, masks: Path) -> dict[str, dict[str, float | None]]:
    """Score nnU-Net's masks as ours are scored."""
    references = Path(bench.nnunet["nnUNet_raw"]) / peer_set.name / "labelsTr"
    scored = bench.folder / "scores.json"
    scored.unlink(missing_ok=True)
    compared = ("-i", str(masks), "-r", str(references), "-d", dataset)
    # The references of other folds have no masks here.
    bench.tumorseg("evaluate", *compared, "--missing", "skip", "--metrics", "dsc", "-o", str(scored))
    return scores(json.loads(scored.read_text())["cases"])
