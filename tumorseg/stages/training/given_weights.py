"""The file of weights that `--init` names: found in a model, or given as it is, and what is known of its training."""

from itertools import chain
from pathlib import Path
from typing import NamedTuple

from tumorseg.engine.ranks import Ranks
from tumorseg.errors import InputError, PlanError, StorageError, TrainingError
from tumorseg.schema.networks import NetworkSpec
from tumorseg.schema.plan import Plan
from tumorseg.stages.inference.folds import is_finished, weights_file
from tumorseg.stages.inference.nnunet_model import is_nnunet_fold, is_nnunet_model, read_nnunet_model
from tumorseg.stages.opening.fold_folders import fold_plan, model_folds, read_run
from tumorseg.storage.hashing import check_unchanged, hash_files
from tumorseg.storage.layout import (
    ALL_CASES,
    NNUNET_CHECKPOINTS,
    NNUNET_V1_CHECKPOINTS,
    FoldFolder,
    NnunetModel,
    is_fold_folder,
)
from tumorseg.storage.weight_files import WeightFile, read_weights


class Origin(NamedTuple):
    """A file of weights, and what is known of the training that made it."""

    path: Path
    plan: Plan | None = None
    """None for a file that lies in no model's folder, or in one whose plan cannot be read."""
    trained_on: frozenset[str] | None = None
    """Cases that it was trained on; None if that is not known."""
    warning: str = ""
    """Why less is known than the folder should tell."""
    network: NetworkSpec | None = None
    """That the weights are of; None if that is not known."""


class Initial(NamedTuple):
    """Weights to begin with."""

    origin: Origin
    file: WeightFile
    digest: str
    """Hash of the file's bytes."""


def open_initial(path: Path, fold: str, *, own: Path | None = None) -> Initial:
    """Find the weights that a model or file holds; they stay on disk until they are used.

    Args:
        path: a model folder, ours or nnU-Net's (MedNeXt's are of its first version), one fold's folder, or a file.
        fold: that is to be trained; of a model folder the same fold is taken if it is there.
        own: folder of the fold that is to be trained, which its model's folder does not stand for.

    Raises:
        PlanError: a folder that is no model, an ensemble, or a model without a checkpoint.
        StorageError: a file is missing, damaged, being written, or holds anything but tensors and plain values.
    """
    origin = _origin_of(path, fold, own)
    # A file that is not there is told by what reads it.
    states = hash_files([str(origin.path)] if origin.path.is_file() else [])
    found = read_weights(origin.path)
    try:
        check_unchanged(states)
    except InputError:
        raise StorageError(
            "is being written; wait until the training that writes it is done, or give a copy", file=origin.path
        ) from None
    return Initial(origin, found, states[str(origin.path)].digest)


def check_same_weights(initial: Initial, ranks: Ranks) -> None:
    """Check that all processes that train together have read the same bytes.

    Raises:
        TrainingError: they have not.
    """
    if not ranks.have_same(initial.digest):
        raise TrainingError(
            f"not all processes read the same file for --init ({initial.origin.path}); wait until it is everywhere, or give a copy that "
            "no training writes"
        )


def _origin_of(path: Path, fold: str, own: Path | None) -> Origin:
    if path.is_file() and is_fold_folder(path.absolute().parent):
        return _of_fold(FoldFolder(path.absolute().parent), path)
    if path.is_file() and is_nnunet_fold(path.absolute().parent):
        return _of_nnunet_file(path)
    if is_nnunet_model(path):
        parts = read_nnunet_model([path], _nnunet_fold_of(path, fold))
        return Origin(parts.checkpoints[0], parts.plan)
    if not path.is_dir():
        return Origin(path)
    if (file := _first_version_file(path, fold)) is not None:
        return Origin(file, warning=_first_version_warning(file, fold))
    folder = FoldFolder(path) if is_fold_folder(path) else _fold_of(path, fold, own)
    return _of_fold(folder, weights_file(folder))


def _first_version_file(model: Path, fold: str) -> Path | None:
    """Return the checkpoint of a fold of nnU-Net's first version, or in a folder of folds, the same one first; None if it is neither."""
    everything = model / ALL_CASES
    same = everything if fold == ALL_CASES else model / f"fold_{fold}"
    folders = [model, same, *sorted(model.glob("fold_*")), everything]
    files = (folder / name for folder in folders for name in NNUNET_V1_CHECKPOINTS)
    return next((file for file in files if file.is_file()), None)


def _first_version_warning(file: Path, fold: str) -> str:
    folder = file.absolute().parent.name
    is_other = folder == ALL_CASES or (folder.startswith("fold_") and folder != f"fold_{fold}")
    if fold == ALL_CASES or not is_other:
        return ""
    return f"it is of {folder}, which may have been trained on what fold {fold} holds out: if so, its scores will be too good"


def _of_nnunet_file(path: Path) -> Origin:
    """Return a file that need not be the one that would predict, whose weights are sound whatever its plans are."""
    try:
        return Origin(path, read_nnunet_model([path.absolute().parent], ()).plan)
    except (PlanError, InputError) as error:
        return Origin(path, warning=f"its labels are not known, as its model cannot be imported ({error})")


def _nnunet_fold_of(model: Path, fold: str) -> tuple[str, ...]:
    """Return the name of the fold to take, as of our models; none if the folder is itself a fold, or has none with weights."""
    trained = {}
    for name, folder in NnunetModel(model).folds().items():
        if found := [file for file in NNUNET_CHECKPOINTS if (folder / file).is_file()]:
            trained[name] = found[0]
    finished = (name for name, file in trained.items() if file == NNUNET_CHECKPOINTS[0])
    chosen = next(chain((name for name in trained if name == fold), finished, trained), None)
    return () if chosen is None else (chosen,)


def _fold_of(model: Path, fold: str, own: Path | None) -> FoldFolder:
    """Return the fold that held out the same cases, if the model has one; else one that is finished."""
    folders = [folder for folder in model_folds(model) if _has_weights(folder) and not _is_at(folder, own)]
    same = (folder for folder in folders if folder.root.name == f"fold_{fold}")
    # Others are not looked at once one is found: a damaged one does no harm.
    found = next(chain(same, filter(is_finished, folders), folders), None)
    if found is None:
        raise PlanError(
            "has no checkpoint in any fold but the one that is to be trained; give another model, or one fold's folder",
            file=model,
        )
    return found


def _has_weights(folder: FoldFolder) -> bool:
    return folder.latest.is_file() or folder.best.is_file()


def _is_at(folder: FoldFolder, own: Path | None) -> bool:
    return own is not None and folder.root.resolve() == own.resolve()


def _of_fold(folder: FoldFolder, path: Path) -> Origin:
    plan, run = fold_plan(folder), read_run(folder)
    cases = frozenset().union(*plan.folds)
    seen = cases if run.fold == ALL_CASES else cases - plan.not_trained_on(int(run.fold))
    return Origin(path, plan, seen, network=plan.configurations[run.configuration].network)
