"""Folds of nnU-Net: which ones may teach, and which cases its folder tells that it has not seen."""

from pathlib import Path

from tumorseg.errors import PlanError
from tumorseg.stages.inference.nnunet_model import NnunetModelParts, is_nnunet_fold, read_nnunet_model
from tumorseg.storage.layout import ALL_CASES, NNUNET_CHECKPOINTS, NnunetModel
from tumorseg.storage.nnunet_checkpoints import validated_cases


def nnunet_folds(path: Path, fold: str) -> list[Path]:
    """Return the folders of the folds that may teach one: that of the same number, or where nothing is held out and there is no `fold_all`, each.

    Args:
        path: of a model of nnU-Net, or of a fold of one, which stands for itself.
        fold: that is to learn.

    Raises:
        PlanError: it has no such fold that is trained to its end.
    """
    if is_nnunet_fold(path):
        if not _is_finished(path):
            raise PlanError(
                f"holds no {NNUNET_CHECKPOINTS[0]}: it is not trained to its end, so that it cannot teach; let its training end",
                file=path,
            )
        return [path]
    found = NnunetModel(path).folds()
    finished = {name: folder for name, folder in found.items() if _is_finished(folder)}
    if fold in finished:
        return [finished[fold]]
    if fold == ALL_CASES and finished:
        return list(finished.values())
    raise PlanError(
        f"has no fold {fold} that is trained to its end, the only one that may teach fold {fold}; it has {', '.join(found) or 'none'}",
        file=path,
    )


def _is_finished(fold: Path) -> bool:
    return (fold / NNUNET_CHECKPOINTS[0]).is_file()


def held_out_by_nnunet(folder: Path) -> tuple[NnunetModelParts, frozenset[str]]:
    """Return a fold of nnU-Net, and the cases that it has segmented as held out, which it was not trained on.

    Its plans do not say which cases a fold holds out; what it validated on does. `fold_all` validates on what it was trained on.

    Raises:
        PlanError: the model cannot be imported.
        StorageError: the summary of its validation is damaged.
    """
    parts = read_nnunet_model([folder], ())
    is_all = folder.name == f"fold_{ALL_CASES}"
    return parts, frozenset() if is_all else validated_cases(folder)
