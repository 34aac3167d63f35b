"""The folds of a model that predict, and which of their checkpoints."""

import logging
from collections.abc import Sequence
from pathlib import Path

from tumorseg.errors import PlanError
from tumorseg.stages.opening.extending import reached
from tumorseg.stages.opening.fold_folders import fold_plan, model_folds
from tumorseg.storage.layout import FoldFolder

logger = logging.getLogger(__name__)


def chosen_folds(paths: Sequence[Path], folds: Sequence[str]) -> list[FoldFolder]:
    """Return the folds that predict, each once.

    Args:
        paths: model folders or folds' folders.
        folds: which folds of a model folder; all that are trained to their end if empty.

    Raises:
        PlanError: no training, or folds that are not there.
    """
    chosen: dict[Path, FoldFolder] = {}
    for path in paths:
        for folder in _chosen_of(path, folds):
            # By its real place: a fold that is named twice, or by a link, must not count twice in the mean.
            chosen[folder.root.resolve()] = folder
    return list(chosen.values())


def _chosen_of(path: Path, folds: Sequence[str]) -> list[FoldFolder]:
    found = model_folds(path)
    # A fold that is alone predicts even before its training has ended.
    if not folds:
        return _finished(found) if len(found) > 1 else list(found)
    by_name = {folder.root.name.removeprefix("fold_"): folder for folder in found}
    if missing := [fold for fold in folds if fold not in by_name]:
        raise PlanError(f"{path} has no fold {', '.join(missing)}; it has {', '.join(sorted(by_name))}")
    return [by_name[fold] for fold in folds]


def _finished(found: Sequence[FoldFolder]) -> list[FoldFolder]:
    """Return the folds that are trained to their end, or all if none is."""
    finished = [folder for folder in found if is_finished(folder)]
    skipped = ", ".join(folder.root.name for folder in found if folder not in finished)
    if skipped and finished:
        logger.warning(
            "left out, because their training is not finished: %s; name them with --folds to use them", skipped
        )
    return finished or list(found)


def is_finished(folder: FoldFolder) -> bool:
    """Return whether a fold was trained to its end, which may be sooner than planned."""
    return folder.latest.is_file() and reached(folder, fold_plan(folder).training).is_end


def weights_file(folder: FoldFolder) -> Path:
    """Return the checkpoint to predict with, as from `known_weights`, and tell of one that is not the last."""
    found = known_weights(folder)
    if found == folder.best:
        logger.warning("%s is not finished; its best epoch so far predicts", folder.root)
    return found


def known_weights(folder: FoldFolder) -> Path:
    """Return the checkpoint to predict with: the last one of a finished training, else the best so far."""
    return folder.latest if is_finished(folder) or not folder.best.is_file() else folder.best
