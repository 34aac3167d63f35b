"""Two models and datasets that call and number the same things otherwise."""

import csv
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.toys import save, toy_arrays
from tumorseg.schema.plan import Plan
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.crossing.fold_choices import Pairing
from tumorseg.stages.crossing.hashed_datasets import hashed, planned_dataset
from tumorseg.stages.crossing.known_cases import known_cases
from tumorseg.stages.crossing.models import open_models
from tumorseg.stages.opening.loaded import Roots

SPACING = (1.1, 0.9, 1.4)


class Crossing(NamedTuple):
    roots: Roots
    models: tuple[Path, Path]
    """`toy`, fold 0 of a plan of `Toy`; and `other`, with the same weights, planned for other cases."""
    own: str
    """The dataset of `toy`: channels T1 and T2; shell 2, core 7."""
    other: str
    """Channels t2w and T1-weighted; core 1, shell 4."""


def write_dataset(folder, channels, labels, *, first=20, count=2, case="other"):
    """Write a manifest dataset; channels map their name to the toy's channel, labels their name to their value."""
    rows, known = [], {"shell": 2, "core": 7}
    affine = np.diag([*SPACING, 1.0])
    for number in range(first, first + count):
        images, drawn = toy_arrays(number, (15, 18, 13))
        renumbered = np.zeros_like(drawn)
        for name, value in labels.items():
            renumbered[drawn == known.get(name, 2)] = value
        case_id = f"{case}_{number}"
        files = []
        for position, (name, source) in enumerate(channels.items()):
            save(images[..., source], affine, folder / case_id / f"{position}.nii.gz", "LPS")
            files.append((name, f"{case_id}/{position}.nii.gz"))
        save(renumbered, affine, folder / case_id / "seg.nii.gz", "LPS")
        rows.append([case_id, *(file for _, file in files), f"{case_id}/seg.nii.gz", *("" for _ in labels)])
    header = ["case_id", *channels, "label", *(f"label:{name}={value}" for name, value in labels.items())]
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return folder


def copy_model(source, target, name):
    """Copy a fold's folder as a model of a plan that was made for another dataset."""
    shutil.copytree(source, target)
    plan = json.loads((target / "plan.json").read_text())
    ids = {case_id: f"elsewhere_{case_id}" for fold in plan["folds"] for case_id in fold}
    plan |= {"name": name, "folds": [[ids[case_id] for case_id in fold] for fold in plan["folds"]]}
    plan["dataset"] |= {"name": "Elsewhere", "content_hash": None}
    (target / "plan.json").write_text(Plan.model_validate(plan).model_dump_json())
    run = json.loads((target / "run.json").read_text())
    (target / "run.json").write_text(json.dumps(run | {"plan_name": name}))
    return target


@pytest.fixture(scope="session")
def crossing(toy, trained, tmp_path_factory):
    root = tmp_path_factory.mktemp("crossing")
    other = write_dataset(root / "Other", {"t2w": 1, "T1-weighted": 0}, {"core": 1, "shell": 4})
    model = copy_model(trained.folder.root, root / "models" / "other" / "3d_fullres" / "fold_0", "other")
    roots = Roots(data_root=toy.roots.data_root, work=root / "runs")
    return Crossing(roots, (trained.folder.root, model), str(toy.data), str(other))


@pytest.fixture(scope="session")
def models(crossing):
    return {model.name: model for model in open_models(crossing.models)}


def pair(crossing, model, place):
    """Return a model and the dataset at a place."""
    found = hashed(open_dataset(str(place), crossing.roots.data_root), crossing.roots)
    known = known_cases(model, found, planned_dataset(model, crossing.roots))
    return Pairing(model, found.dataset.name, found, known)
