"""Rows and columns of a matrix: models, and datasets or parts of one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.sources.registry import locate_dataset
from tumorseg.stages.crossing.hashed_datasets import HashedDataset, hashed
from tumorseg.stages.crossing.leaving_out import LeaveOutRequest, Untrained, left_out_models, open_parts, whole_model
from tumorseg.stages.crossing.models import CrossModel, open_models, unique_names
from tumorseg.stages.crossing.request import CrossEvaluateRequest
from tumorseg.stages.opening.stated import open_stated
from tumorseg.storage.cross_folders import CrossFolder


class Sides(NamedTuple):
    """Rows and columns of a matrix."""

    models: Sequence[CrossModel | Untrained]
    """Models that are given, then those that were trained without a part."""
    datasets: Mapping[str, HashedDataset]
    """By name: parts that are left out, then datasets that are given."""

    @property
    def num_untrained(self) -> int:
        """Return how many models other processes are to train."""
        return sum(isinstance(model, Untrained) for model in self.models)


def open_sides(request: CrossEvaluateRequest, output: CrossFolder, device: str) -> Sides | None:
    """Open models and datasets, and train what is to be left out of and is not trained yet.

    Args:
        request: what is asked for.
        output: where plans are written.
        device: where to train.

    Returns:
        None where a signal ended a training after a checkpoint.

    Raises:
        InputError: a model or dataset is given twice, or is unsound.
        PlanError: a folder holds no training, or the plan's dataset cannot be divided.
        TrainingError: a training cannot go on.
    """
    if request.plan is None or request.leave_out is None:
        return Sides(open_models(request.models), _open_datasets(request, {}))
    asked = LeaveOutRequest(
        roots=request.roots, plan=request.plan, by=request.leave_out, device=device, jobs=request.jobs
    )
    parts = open_parts(asked, output)
    paths = list(request.models)
    # What cross-validation makes of the same cases is what the left-out scores are held against.
    whole = whole_model(request.roots, request.plan)
    if whole is not None and whole.resolve() not in [path.resolve() for path in paths]:
        paths.append(whole)
    mine = [request.is_mine(len(paths) + number) for number in range(len(parts.datasets))]
    trained = left_out_models(asked, parts, mine)
    if trained is None:
        return None
    return Sides([*open_models(paths), *trained], dict(parts.datasets) | _open_datasets(request, parts.datasets))


def _open_datasets(request: CrossEvaluateRequest, taken: Mapping[str, HashedDataset]) -> dict[str, HashedDataset]:
    """Return the datasets that `-d` names, hashed, by a name that is unique."""
    datasets = [open_stated(name, request.roots, request.stated) for name in request.datasets]
    places = [Path(locate_dataset(name, request.roots.data_root) or name) for name in request.datasets]
    names = unique_names([(one.name, place) for one, place in zip(datasets, places, strict=True)], option="-d")
    if both := sorted(set(names) & set(taken)):
        raise InputError(f"-d {both[0]} is called like a part that is left out; rename it by a manifest with a `name`")
    return {name: hashed(dataset, request.roots) for name, dataset in zip(names, datasets, strict=True)}
