"""Sources of the previous segmentation that a cascade is shown: files, or the model kept beside its folds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.stages.opening.fold_folders import Run
from tumorseg.storage.layout import FoldFolder, previous_model


class KnownPrevious(NamedTuple):
    """Previous segmentations that are there already."""

    files: dict[str, Path]
    """Label values on each case's own grid, by case_id."""
    weight_hashes: tuple[str, ...]
    """Of the checkpoints that made them."""


def kept_previous_model(folders: Sequence[FoldFolder], runs: Sequence[Run]) -> Path:
    """Return the folder of the previous model that a cascade's folds were trained with.

    Args:
        folders: of the folds.
        runs: their records.

    Raises:
        PlanError: the folds were trained with different previous models, or it is missing.
    """
    identities = sorted({run.previous or "none" for run in runs})
    if len(identities) > 1:
        raise PlanError(
            f"the folds given were trained with segmentations of different previous models ({', '.join(identities)}); "
            "give folds of one, or train the others with --restart"
        )
    expected = [previous_model(folder.root.resolve().parent, identities[0]) for folder in folders]
    present = next((path for path in expected if path.is_dir()), None)
    if present is None:
        raise PlanError(
            f"{folders[0].root} is a cascade, and the previous model that it was trained with is missing "
            f"({expected[0]}); keep folds inside their model folder, and copy it whole"
        )
    return present
