"""The models that benchmarks/inference.py predicts with, each as a folder of nnU-Net that both programs read.

`hippocampus`: nnU-Net's default network for Task04_Hippocampus, trained here on fold 0. `ct`: its network for the CT of
512 x 512 x 119, with random but fixed weights. `sixty`: a network of four features a stage for 60 classes and a large grid.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import torch
from torch import Tensor

from benchmarks.preprocessing import Bench
from tumorseg.networks.nnunet_weights import nnunet_name
from tumorseg.networks.registry import build_network
from tumorseg.schema.networks import UNetTopology
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.opening.loaded import read_plan
from tumorseg.storage.checkpoints import load_checkpoint

CONFIGURATION = "3d_fullres"
MODEL_NAME = f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
ALL_AXES = (0, 1, 2)
"""Mirrored along each of them a network sees 8 views."""
SEED = 0
LISTED_TWICE = {"conv": "all_modules.0", "norm": "all_modules.1"}
"""Parts of a unit, and the names under which nnU-Net's state dict holds them once more."""
TINY_FEATURES = 4
"""Of every stage of the network of 60 classes: its passes shall cost little beside the sums of its logits."""


class Prepared(NamedTuple):
    """A model, and images to segment with it."""

    folder: Path
    """Of all that belongs to it."""

    @property
    def model(self) -> Path:
        """Return the folder of the model, as nnU-Net keeps it."""
        return self.folder / MODEL_NAME

    @property
    def inputs(self) -> Path:
        """Return the folder of `<case_id>_0000.nii.gz`."""
        return self.folder / "inputs"

    @property
    def plan(self) -> Path:
        """Return our plan of it."""
        return self.folder / "plan.json"

    @property
    def case_ids(self) -> list[str]:
        """Return the cases to segment."""
        return sorted(path.name.removesuffix("_0000.nii.gz") for path in self.inputs.iterdir())


def nnunet_weights(own: Mapping[str, Tensor], num_stages: int) -> dict[str, Tensor]:
    """Return the weights of one of our U-Nets as nnU-Net's state dict holds them, those included that it lists twice."""
    named: dict[str, Tensor] = {}
    for name, tensor in own.items():
        theirs = nnunet_name(name, num_stages)
        unit, _, part = theirs.rpartition(".")[0].rpartition(".")
        kind = theirs.rpartition(".")[2]
        again = [f"{unit}.{LISTED_TWICE[part]}.{kind}"] if part in LISTED_TWICE else []
        for known in (theirs, *again):
            named[known] = tensor
            if known.startswith("encoder."):
                # The decoder holds the encoder that it was built with.
                named[f"decoder.{known}"] = tensor
    return named


def write_model(prepared: Prepared, exported: Path, weights: Mapping[str, Tensor], num_stages: int) -> None:
    """Write a model folder of one fold from exported plans and our weights."""
    fold = prepared.model / "fold_0"
    fold.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(exported / "nnUNetPlans.json", prepared.model / "plans.json")
    shutil.copyfile(exported / "dataset.json", prepared.model / "dataset.json")
    checkpoint = {
        "network_weights": nnunet_weights(weights, num_stages),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION},
        "inference_allowed_mirroring_axes": ALL_AXES,
    }
    torch.save(checkpoint, fold / "checkpoint_final.pth")


def prepare_hippocampus(
    bench: Bench, prepared: Prepared, *, train_hours: float, weights: Path | None, num_cases: int
) -> None:
    """Plan, train fold 0 unless there are weights, and lay out the first of its held-out cases."""
    dataset = ("-d", "MSD_Hippocampus")
    make_plan = ("plan", *dataset, "--preset", "nnunet", "--set", f"configurations.{CONFIGURATION}.batch_size=2")
    bench.tumorseg(*make_plan, "-o", str(prepared.plan), "--force", work="hippocampus/runs")
    plan = read_plan(prepared.plan)
    if weights is None:
        weights = _train(bench, prepared, train_hours)
    state: dict[str, Tensor] = load_checkpoint(weights)["network"]
    write_model(prepared, _export(bench, prepared, "Dataset004_Hippocampus"), state, _num_stages(plan))
    source = bench.data_root / "Task04_Hippocampus" / "imagesTr"
    _clear(prepared.inputs)
    for case_id in sorted(plan.folds[0])[:num_cases]:
        shutil.copyfile(source / f"{case_id}.nii.gz", prepared.inputs / f"{case_id}_0000.nii.gz")


def _train(bench: Bench, prepared: Prepared, hours: float) -> Path:
    """Train fold 0 in the work folder of the model and return its checkpoint; the same call goes on after an interruption."""
    work = "hippocampus/runs"
    chosen = ("-p", str(prepared.plan), "--configuration", CONFIGURATION)
    bench.tumorseg("preprocess", *chosen, work=work)
    length = ("--fold", "0", "--max-hours", str(hours), "--validation", "none", "--no-mlflow")
    trained = bench.tumorseg("train", *chosen, *length, work=work)
    return Path(json.loads(trained.output)["folder"]) / "latest.ckpt"


def prepare_ct(bench: Bench, prepared: Prepared, *, extent: tuple[int, int, int] | None) -> None:
    """Plan for the CT alone, draw weights, and lay out the CT, or the middle of it of so many voxels (x, y, z)."""
    prepared.folder.mkdir(parents=True, exist_ok=True)
    _clear(prepared.inputs)
    paths = {"image": prepared.inputs / "liver_0000.nii.gz", "label": prepared.folder / "label.nii.gz"}
    for name, path in paths.items():
        source = bench.data_root / "CT_Liver_IRCADb17" / f"{name}.nii.gz"
        if extent is None:
            shutil.copyfile(source, path)
        else:
            _write_middle(source, path, extent)
    manifest = prepared.folder / "manifest.csv"
    header = "case_id,CT,label,label:liver=1,label:tumour=2"
    # The middle of it may hold no tumour, which `plan` would doubt.
    manifest.write_text(f"{header}\nliver,{paths['image'].resolve()},{paths['label'].resolve()},,\n")
    bench.tumorseg(
        *("plan", "-d", str(manifest), "--preset", "nnunet", "--confirm-labels", "-o", str(prepared.plan), "--force"),
        work="ct/runs",
    )
    plan = read_plan(prepared.plan)
    write_model(prepared, _export(bench, prepared, "Dataset900_CT"), random_weights(plan), _num_stages(plan))


def _write_middle(source: Path, path: Path, extent: tuple[int, int, int]) -> None:
    image = nibabel.Nifti1Image.from_filename(source)
    starts = [max(0, (size - wanted) // 2) for size, wanted in zip(image.shape, extent, strict=True)]
    window = [slice(start, start + wanted) for start, wanted in zip(starts, extent, strict=True)]
    nibabel.save(image.slicer[tuple(window)], path)


def random_weights(plan: Plan) -> dict[str, Tensor]:
    """Return weights of a plan's network, the same each time."""
    configuration, targets = plan.configurations[CONFIGURATION], targets_of(plan.dataset)
    torch.manual_seed(SEED)
    network = build_network(
        configuration.network,
        num_channels=num_inputs(configuration, targets),
        num_outputs=targets.num_outputs,
    )
    return dict(network.state_dict())


def prepare_sixty(
    bench: Bench, prepared: Prepared, *, grid: tuple[int, int, int], patch: tuple[int, int, int], num_classes: int
) -> None:
    """Plan for images of a grid (Z, Y, X) and make the network tiny; its images are written when they are wanted."""
    prepared.folder.mkdir(parents=True, exist_ok=True)
    _clear(prepared.inputs)
    fingerprint = prepared.folder / "fingerprint.json"
    fingerprint.write_text(json.dumps(_fingerprint(grid, num_classes)))
    bench.tumorseg(
        *("plan", "--fingerprint", str(fingerprint), "--preset", "nnunet", "-o", str(prepared.plan), "--force")
    )
    exported = _export(bench, prepared, "Dataset060_Sixty")
    path = exported / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    planned = plans["configurations"][CONFIGURATION]
    network = planned["architecture"]["arch_kwargs"]
    network["features_per_stage"] = [TINY_FEATURES] * network["n_stages"]
    planned["patch_size"] = list(patch)
    path.write_text(json.dumps(plans))
    plan = _narrowed(read_plan(prepared.plan))
    write_model(prepared, exported, random_weights(plan), _num_stages(plan))


def _narrowed(plan: Plan) -> Plan:
    """Return the plan with the features of the tiny network."""
    configuration = plan.configurations[CONFIGURATION]
    topology = _topology(configuration)
    features = (TINY_FEATURES,) * topology.num_stages
    network = topology.changed(features_per_stage=features)
    return plan.changed(configurations={**plan.configurations, CONFIGURATION: configuration.changed(network=network)})


def _fingerprint(grid: tuple[int, int, int], num_classes: int) -> dict[str, Any]:
    case = {"spacing_mm": [1.0, 0.8, 0.8], "shape": grid, "shape_after_crop": grid}
    statistics = {"mean": 50, "median": 50, "std": 100, "min": -1000, "max": 1000}
    percentiles = {"percentile_00_5": -900, "percentile_99_5": 300}
    names = {f"organ_{value:02d}": value for value in range(1, num_classes)}
    return {
        "schema_version": 1,
        "dataset": {
            "name": "Sixty",
            "channels": [{"name": "CT", "kind": "ct"}],
            "labels": {"background": 0, **names},
            "regions": [],
            "ignore_label": None,
        },
        "cases": [{"case_id": f"case_{number}", **case} for number in range(5)],
        "intensities": {"CT": {**statistics, **percentiles}},
        "median_relative_size_after_cropping": 1.0,
    }


def write_body(path: Path, grid: tuple[int, int, int]) -> None:
    """Write a CT-like image (Z, Y, X) without a voxel that is cropped away: a body in air, and noise."""
    rng = np.random.default_rng(SEED)
    rows, columns = np.meshgrid(np.linspace(-1, 1, grid[1]), np.linspace(-1, 1, grid[2]), indexing="ij")
    body = np.where(rows**2 + columns**2 < 0.8, 40, -1000)
    voxels = np.empty(grid, np.int16)
    for plane in voxels:
        plane[...] = body + rng.integers(1, 60, body.shape)
    affine = np.diag([0.8, 0.8, 1.0, 1.0])
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels.transpose(2, 1, 0), affine), path)


def _export(bench: Bench, prepared: Prepared, name: str) -> Path:
    """Write the plan as nnU-Net's, in a folder with the name that nnU-Net wants."""
    exported = prepared.folder / "exported" / name
    if exported.parent.is_dir():
        shutil.rmtree(exported.parent)
    bench.tumorseg("plan", "export", str(prepared.plan), "-o", str(exported))
    return exported


def _clear(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _num_stages(plan: Plan) -> int:
    return _topology(plan.configurations[CONFIGURATION]).num_stages


def _topology(configuration: Configuration) -> UNetTopology:
    assert isinstance(configuration.network, UNetTopology)  # preset nnunet makes no other
    return configuration.network
