"""Models of the matrix: their plans, their trained folds, and what tells whether either changed."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError, PlanError
from tumorseg.schema.base import content_hash, record_hash
from tumorseg.schema.crossing import CrossedModel
from tumorseg.schema.dataset import repeated_values
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.stages.inference.folds import chosen_folds, weights_file
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.nnunet_model import is_nnunet_model, read_nnunet_model
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.fold_folders import fold_plan, read_run
from tumorseg.stages.training.cascade import known_to
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.layout import FoldFolder

logger = logging.getLogger(__name__)


class CrossModel(NamedTuple):
    """A model that is on disk; its networks are loaded cell by cell."""

    name: str
    """Unique in the matrix."""
    path: Path
    """Its folder, or that of one fold."""
    plan: Plan
    configuration_name: str
    configuration: Configuration
    folds: Mapping[str, FoldFolder]
    """The folds that predict, by name; empty for a model of nnU-Net, which does not say which cases its folds held out."""
    weights: Mapping[str, str]
    """Hash of each checkpoint by name of the fold, or by path for nnU-Net."""
    without: str | None = None
    """The part of the dataset that it was trained without, if it was trained to leave one out."""

    @property
    def is_cascade(self) -> bool:
        """Return whether another model's segmentation is one of its inputs."""
        return self.configuration.previous_configuration is not None

    @property
    def identity(self) -> str:
        """Return the hash of all that its masks follow from beside images and options."""
        return content_hash([record_hash(self.plan), self.configuration_name, dict(self.weights)])

    def described(self) -> CrossedModel:
        """Return what the document says of it."""
        return CrossedModel(
            name=self.name,
            plan=self.plan.name,
            configuration=self.configuration_name,
            trained_on=self.plan.dataset.name,
            folds=tuple(self.folds),
            without=self.without,
        )


def open_models(paths: Sequence[Path]) -> list[CrossModel]:
    """Read the plans of models and hash their weights; models of one plan's name are told apart by their paths.

    Raises:
        PlanError: a folder holds no training, or folds of different plans.
        InputError: a model is given twice.
        StorageError: a checkpoint is missing.
    """
    found = [_open_nnunet(path) if is_nnunet_model(path) else open_model(path) for path in paths]
    names = unique_names([(model.name, model.path) for model in found], option="-m")
    return [model._replace(name=name) for model, name in zip(found, names, strict=True)]


def open_model(path: Path) -> CrossModel:
    """Read a model that was trained here; it is called like its plan.

    Raises:
        PlanError: the folder holds no training, or folds of different plans.
        StorageError: a checkpoint is missing.
    """
    folders = chosen_folds([path], ())
    runs = [read_run(folder) for folder in folders]
    if len({(run.plan_hash, run.configuration) for run in runs}) > 1:
        raise PlanError(f"{path} holds folds of different plans; give the folders of folds of one, or train anew")
    plan, name = fold_plan(folders[0]), runs[0].configuration
    checkpoints = {run.fold: str(weights_file(folder)) for run, folder in zip(runs, folders, strict=True)}
    states = hash_files(checkpoints.values())
    weights = {fold: states[file].digest for fold, file in checkpoints.items()}
    # What a cascade is shown shapes its masks too.
    weights |= {f"previous of {run.fold}": run.previous for run in runs if run.previous is not None}
    folds = {run.fold: folder for run, folder in zip(runs, folders, strict=True)}
    return CrossModel(plan.name, path, plan, name, plan.configurations[name], folds, weights)


def _open_nnunet(path: Path) -> CrossModel:
    parts = read_nnunet_model([path], ())
    states = hash_files(map(str, parts.checkpoints))
    weights = {Path(file).parent.name: state.digest for file, state in states.items()}
    (name,) = parts.plan.configurations
    return CrossModel(parts.plan.name, path, parts.plan, name, parts.configuration, {}, weights)


def load_folds(model: CrossModel, folds: Sequence[str], device: str, *, held_out: bool) -> Model:
    """Load the networks of some of a model's folds.

    Args:
        model: of the matrix.
        folds: names of its folds; none for a model of nnU-Net, all of whose folds are loaded.
        device: where to compute.
        held_out: whether only cases that these folds held out are to be segmented. A cascade is then shown what its fold was
            shown of them, as its previous model has seen them.

    Raises:
        PlanError: as from `load_model`, or the previous segmentations of held-out cases are not those of the training.
    """
    if not model.folds:
        return load_model([model.path], device)
    folders = [model.folds[fold] for fold in folds]
    previous = known_to(folders[0], read_run(folders[0])) if held_out and model.is_cascade else None
    return load_model([folder.root for folder in folders], device, previous=previous)


def unique_names(named: Sequence[tuple[str, Path]], *, option: str) -> list[str]:
    """Return a name for each path: those given, and where they clash what distinguishes the paths as well.

    Args:
        named: name and path of each.
        option: by which they were given, for the message.

    Raises:
        InputError: a path is given twice, or two cannot be told apart.
    """
    by_name: dict[str, list[Path]] = defaultdict(list)
    for name, path in named:
        by_name[name].append(path.resolve())
    for paths in by_name.values():
        if len(set(paths)) < len(paths):
            raise InputError(f"{option} {paths[0]} is given twice; give each once")
    names = [_distinct(name, path.resolve(), by_name[name]) for name, path in named]
    # Each has a folder of its own, so that two of one name would overwrite each other.
    if repeated := repeated_values(names):
        raise InputError(f"{option}: {len(names)} are given, and several are called {repeated[0]}; rename one of them")
    return names


def _distinct(name: str, path: Path, rivals: Sequence[Path]) -> str:
    if len(rivals) == 1:
        return name
    common = set.intersection(*(set(rival.parts) for rival in rivals))
    own = [part for part in path.parts if part not in common]
    # A folder inside another rival has parts that are all common, save for its own name.
    return "-".join([name, *(own or [path.name])])
