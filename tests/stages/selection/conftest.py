"""Models that look trained: folds with weights of their own for the toy dataset, below a work folder of their own."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.stages.conftest import Toy
from tumorseg.networks.registry import build_network
from tumorseg.schema.losses import BinaryCrossEntropyLoss
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.opening.fold_folders import TrainOptions, begin_run, write_run
from tumorseg.stages.opening.loaded import Roots
from tumorseg.storage.checkpoints import save_checkpoint
from tumorseg.storage.layout import FoldFolder, fold_folder, work_folder

FOLDS = (("case_0", "case_1"), ("case_2", "case_5"), ("case_3", "case_4"))
REGIONS = {"regions": ({"name": "whole", "labels": (2, 7), "value": 2}, {"name": "middle", "labels": (7,), "value": 7})}
CONFIGURATION = "3d_fullres"


class Study(NamedTuple):
    """Plans with trainings."""

    toy: Toy
    roots: Roots
    plans: tuple[Plan, ...]

    def fold(self, plan: Plan, number: int | str) -> FoldFolder:
        return fold_folder(work_folder(self.roots.work, "Toy").model(plan.name, CONFIGURATION), number)


def small_plan(plan: Plan, name: str, **changes) -> Plan:
    """Return a plan of a network that takes milliseconds, with one configuration and three folds."""
    full = plan.configurations[CONFIGURATION]
    network = full.network.model_copy(update={"features_per_stage": (3, 4, 5)})
    inference = full.inference.model_copy(update={"mirroring": False})
    small = full.model_copy(update={"network": network, "inference": inference, "patch_size": (24, 24, 24)})
    dataset = plan.dataset.changed(**changes.pop("dataset", {}))
    if dataset.regions:
        loss = small.loss.changed(preset="binary", components=(BinaryCrossEntropyLoss(),))
        small = small.model_copy(update={"loss": loss})
    fields = {"name": name, "folds": FOLDS, "configurations": {CONFIGURATION: small}, "dataset": dataset} | changes
    return Plan.model_validate(plan.model_copy(update=fields).model_dump())


def write_fold(folder: FoldFolder, plan: Plan, *, seed: int, is_finished: bool = True) -> None:
    """Write what a training leaves behind that prediction looks at; weights are random, so that folds differ."""
    torch.manual_seed(seed)
    configuration, targets = plan.configurations[CONFIGURATION], targets_of(plan.dataset)
    channels = num_inputs(configuration, targets)
    network = build_network(configuration.network, num_channels=channels, num_outputs=targets.num_outputs)
    iterations = plan.training.epochs * plan.training.iterations_per_epoch
    fold = folder.root.name.removeprefix("fold_")
    write_run(folder, plan, begin_run(plan, CONFIGURATION, fold, TrainOptions()))
    progress = {"iteration": iterations if is_finished else 1, "losses": []}
    state = {"network": network.state_dict(), "progress": progress, "length": {"tail": None, "watch": None}}
    save_checkpoint(folder.latest, state)


def make_study(toy: Toy, root: Path, *plans: Plan) -> Study:
    """Write all folds of plans below a work folder."""
    roots = Roots(data_root=toy.roots.data_root, work=root / "runs")
    shutil.copytree(toy.roots.work / "Toy", roots.work / "Toy", ignore=shutil.ignore_patterns("models", "cases"))
    study = Study(toy, roots, plans)
    for place, plan in enumerate(plans):
        for number in range(len(plan.folds)):
            write_fold(study.fold(plan, number), plan, seed=10 * place + number)
    return study


@pytest.fixture(scope="module")
def study(toy, tmp_path_factory) -> Study:
    """Two plans, the second of another axis order."""
    first = small_plan(toy.plan, "first")
    second = small_plan(toy.plan, "second", transpose=(2, 0, 1))
    return make_study(toy, tmp_path_factory.mktemp("study"), first, second)
