"""Models on disk: what belongs to each, before any network is loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.schema.plan import Plan
from tumorseg.stages.inference.folds import chosen_folds, known_weights
from tumorseg.stages.inference.nnunet_model import is_nnunet_fold, is_nnunet_model, read_nnunet_model
from tumorseg.stages.inference.previous_sources import kept_previous_model
from tumorseg.stages.opening.fold_folders import fold_plan, model_folds, read_run
from tumorseg.storage.layout import ALL_CASES, FoldFolder, NnunetModel, is_fold_folder, previous_model


class MemberFiles(NamedTuple):
    """A model on disk."""

    paths: tuple[Path, ...]
    """As `load_model` takes them: folders of its folds, or its own."""
    plan: Plan
    configuration: str
    """Name in the plan."""
    folds: Mapping[str, Path]
    """Folder of each fold that predicts, by name: `0`, `1`, …, `all`."""
    files: Mapping[str, Path]
    """All that it takes to predict, by the path inside a model folder."""
    checkpoints: tuple[Path, ...]
    """Of each fold that predicts, in their order."""
    is_ours: bool = True
    """Whether it was trained here, so that it says which cases its folds held out."""

    @property
    def name(self) -> str:
        """Return what messages call it."""
        return f"{self.plan.name}/{self.configuration}"

    @property
    def validated_folds(self) -> dict[str, FoldFolder]:
        """Return the folds that hold cases out, by name; none of a model of nnU-Net, which does not say which."""
        if not self.is_ours:
            return {}
        return {name: FoldFolder(path) for name, path in self.folds.items() if name != ALL_CASES}


def open_members(paths: Sequence[Path], folds: Sequence[str] = ()) -> list[MemberFiles]:
    """Return the models that paths name: folders of folds of one model folder are one model.

    Args:
        paths: model folders or folds' folders, ours or nnU-Net's.
        folds: which folds of the model folders; all that are trained to their end if empty.

    Raises:
        PlanError: no training, folds that are not there, or a folder whose folds are of different plans.
        StorageError: a checkpoint is missing or damaged.
    """
    by_model: dict[Path, list[Path]] = {}
    for path in paths:
        by_model.setdefault(_model_root(path), []).append(path)
    return [read_member(given, folds) for given in by_model.values()]


def _model_root(path: Path) -> Path:
    """Return the model folder that a path is, or lies in as a fold."""
    resolved = path.resolve()
    return resolved.parent if is_fold_folder(resolved) or is_nnunet_fold(resolved) else resolved


def read_member(paths: Sequence[Path], folds: Sequence[str] = ()) -> MemberFiles:
    """Return one model.

    Args:
        paths: its folder, or those of its folds.
        folds: which folds of a model folder; all that are trained to their end if empty.

    Raises:
        PlanError: no training, folds that are not there, or folds of different plans.
        StorageError: a checkpoint is missing or damaged.
    """
    if any(map(is_nnunet_model, paths)):
        return _read_nnunet(paths, folds)
    folders = chosen_folds(paths, folds)
    runs = [read_run(folder) for folder in folders]
    if len({(run.plan_hash, run.configuration) for run in runs}) > 1:
        found = ", ".join(sorted({f"{run.plan_name}/{run.configuration}" for run in runs}))
        raise PlanError(f"{folders[0].root.parent} holds folds of different plans: {found}; train them with --restart")
    named = {folder.root.name: folder for folder in folders}
    if len(named) < len(folders):
        raise PlanError(f"{', '.join(map(str, paths))}: folds of one name in several folders; give one model's folds")
    files: dict[str, Path] = {}
    # Whoever loads them tells of a training that goes on.
    checkpoints = tuple(map(known_weights, folders))
    for (name, folder), checkpoint in zip(named.items(), checkpoints, strict=True):
        files |= {f"{name}/{path.name}": path for path in (folder.plan, folder.run, checkpoint)}
    if runs[0].previous is not None:
        files |= _previous_files(kept_previous_model(folders, runs))
    by_fold = {run.fold: folder.root for run, folder in zip(runs, folders, strict=True)}
    paths, plan = tuple(by_fold.values()), fold_plan(folders[0])
    return MemberFiles(paths, plan, runs[0].configuration, by_fold, files, checkpoints)


def _previous_files(model: Path) -> dict[str, Path]:
    """Return the files of the model that a cascade keeps beside its folds."""
    root = previous_model(Path(), model.name)
    files = {}
    for folder in model_folds(model):
        for path in (folder.plan, folder.run, folder.latest):
            files[(root / folder.root.name / path.name).as_posix()] = path
    return files


def _read_nnunet(paths: Sequence[Path], folds: Sequence[str]) -> MemberFiles:
    parts = read_nnunet_model(paths, folds)
    (configuration,) = parts.plan.configurations
    model = NnunetModel(parts.checkpoints[0].parent.parent)
    files = {path.name: path for path in (model.plans, model.dataset)}
    files |= {f"{path.parent.name}/{path.name}": path for path in parts.checkpoints}
    by_fold = {path.parent.name.removeprefix("fold_"): path.parent for path in parts.checkpoints}
    found = tuple(by_fold.values())
    return MemberFiles(found, parts.plan, configuration, by_fold, files, parts.checkpoints, is_ours=False)
