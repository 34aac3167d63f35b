"""Model folders of nnU-Net v2: their plan, their folds and the weights under our names."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from tumorseg.errors import PlanError, StorageError
from tumorseg.networks.nnunet_weights import from_nnunet
from tumorseg.planning.evidence.laterality import sided_pairs
from tumorseg.planning.nnunet.import_plan import NnunetSource, import_plan
from tumorseg.schema.base import parse_record
from tumorseg.schema.networks import UNetTopology
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.sources.nnunet import describe_nnunet
from tumorseg.stages.inference.runtime import AS_PLANNED, RuntimeOptions
from tumorseg.stages.inference.trained_model import Model, WeightFiles, load_networks
from tumorseg.storage.json_files import read_json
from tumorseg.storage.layout import ALL_CASES, NNUNET_CHECKPOINTS, NnunetModel
from tumorseg.storage.nnunet_checkpoints import load_nnunet_checkpoint

logger = logging.getLogger(__name__)


class NnunetModelParts(NamedTuple):
    """All but the weights of one model of nnU-Net."""

    plan: Plan
    """Imported, with the mirroring that the checkpoints allow."""
    configuration: Configuration
    """The one that was trained."""
    checkpoints: tuple[Path, ...]
    """One per fold."""


def is_nnunet_model(path: Path) -> bool:
    """Return whether a folder is a model of nnU-Net, or one fold of it."""
    return NnunetModel(path).is_there() or is_nnunet_fold(path)


def is_nnunet_fold(path: Path) -> bool:
    """Return whether a folder is one fold of a model of nnU-Net."""
    is_trained = any((path / name).is_file() for name in NNUNET_CHECKPOINTS)
    return is_trained and NnunetModel(path.resolve().parent).is_there()


def read_nnunet_source(plans: Path, dataset: Path) -> NnunetSource:
    """Read plans and the dataset.json that belongs to them.

    Raises:
        PlanError: the plans are not there or no JSON object.
        InputError: dataset.json is missing or malformed.
    """
    document = read_json(plans, PlanError)
    if not isinstance(document, dict) or not isinstance(document.get("dataset_name"), str):
        raise PlanError("found no `dataset_name`; expected plans of nnU-Net v2", file=plans)
    description, num_cases = describe_nnunet(dataset, document["dataset_name"])
    return NnunetSource(document, description, num_cases, str(plans))


def load_nnunet_model(
    paths: Sequence[Path], device: str, folds: Sequence[str], *, runtime: RuntimeOptions = AS_PLANNED
) -> Model:
    """Load the networks of a model.

    Args:
        paths: the model's folder, or folders of its folds.
        device: where to compute.
        folds: which folds of a model folder; all finished ones if empty.
        runtime: engine and precision.

    Raises:
        PlanError: folders of several models, folds that are not there, weights of another network, or a model that
            cannot be imported.
        InputError: dataset.json is malformed, or a checkpoint was replaced while it was loaded.
        StorageError: a checkpoint is missing or damaged.
    """
    found = read_nnunet_model(paths, folds)
    network_spec = found.configuration.network
    assert isinstance(network_spec, UNetTopology)  # an import makes no other

    def read(path: Path, network: nn.Module) -> dict[str, Tensor]:
        try:
            return from_nnunet(load_nnunet_checkpoint(path)[0], network.state_dict(), network_spec.num_stages)
        except PlanError as error:
            raise PlanError(str(error), file=path) from None

    weights = WeightFiles(found.checkpoints, read)
    return load_networks(found.plan, found.configuration, weights, device, runtime=runtime)


def read_nnunet_model(paths: Sequence[Path], folds: Sequence[str]) -> NnunetModelParts:
    """Read all of a model but its weights.

    Args:
        paths: the model's folder, or folders of its folds.
        folds: which folds of a model folder; all finished ones if empty.

    Raises:
        PlanError: folders of several models, folds that are not there, or a model that cannot be imported.
        InputError: dataset.json is malformed.
        StorageError: a checkpoint is missing or damaged.
    """
    resolved = [path.resolve() for path in paths]
    models = {path.parent if is_nnunet_fold(path) else path for path in resolved}
    if len(models) > 1:
        listed = ", ".join(sorted(map(str, models)))
        raise PlanError(
            f"the models given are several: {listed}; give folds of one model; models of different plans are combined by "
            "`tumorseg ensemble`"
        )
    model = NnunetModel(models.pop())
    checkpoints: list[Path] = []
    for path in resolved:
        checkpoints += _checkpoints(path, folds)
    # A fold that is named twice counts once.
    checkpoints = list(dict.fromkeys(checkpoints))
    name, axes = _agreed(checkpoints)
    source = read_nnunet_source(model.plans, model.dataset)
    plan = import_plan(source, source.plans.get("plans_name") or model.root.name, configurations=(name,))
    configuration = plan.configurations[name]
    if (previous := configuration.previous_configuration) is not None:
        raise PlanError(
            f"{name} needs the segmentation of {previous} as an input; predicting with an nnU-Net cascade is not "
            "supported; use its 3d_fullres",
            file=model.root,
        )
    mirrored = _with_mirroring(configuration, axes, str(model.root))
    _warn_of_sides(plan, axes)
    return NnunetModelParts(plan.changed(configurations={name: mirrored}), mirrored, tuple(checkpoints))


def _checkpoints(path: Path, folds: Sequence[str]) -> list[Path]:
    if is_nnunet_fold(path):
        return [_checkpoint(path)]
    found = NnunetModel(path).folds()
    if missing := [fold for fold in folds if fold not in found]:
        raise PlanError(f"{path} has no fold {', '.join(missing)}; it has {', '.join(found) or 'none'}")
    if folds:
        return [_checkpoint(found[fold]) for fold in folds]
    # `fold_all` is a training of its own, averaged with no other unless it is asked for by name.
    numbered = [fold for name, fold in found.items() if name != ALL_CASES] or list(found.values())
    finished = [fold for fold in numbered if (fold / NNUNET_CHECKPOINTS[0]).is_file()]
    if not numbered:
        raise PlanError(f"{path} holds no fold (fold_0, …, fold_all); copy the whole model folder")
    skipped = ", ".join(fold.name for fold in numbered if fold not in finished)
    if skipped and finished:
        logger.warning("left out, for they hold no %s: %s; name them with --folds", NNUNET_CHECKPOINTS[0], skipped)
    return [_checkpoint(fold) for fold in finished or numbered]


def _checkpoint(fold: Path) -> Path:
    """Return the checkpoint to predict with."""
    found = next((fold / name for name in NNUNET_CHECKPOINTS if (fold / name).is_file()), None)
    if found is None:
        raise StorageError(f"found none of {', '.join(NNUNET_CHECKPOINTS)}; copy the whole model folder", file=fold)
    if found.name != NNUNET_CHECKPOINTS[0]:
        logger.warning("%s holds no %s; %s predicts", fold, NNUNET_CHECKPOINTS[0], found.name)
    return found


def _agreed(checkpoints: Sequence[Path]) -> tuple[str, tuple[int, ...]]:
    """Return the configuration and the mirroring axes that all checkpoints name."""
    notes = [load_nnunet_checkpoint(path)[1] for path in checkpoints]
    found = {(note.init_args.configuration, tuple(note.inference_allowed_mirroring_axes or ())) for note in notes}
    if len(found) > 1:
        listed = ", ".join(f"{name} mirrored along {list(axes)}" for name, axes in sorted(found))
        raise PlanError(f"the folds differ: {listed}; give folds of one model", file=checkpoints[0].parent.parent)
    return found.pop()


def _with_mirroring(configuration: Configuration, axes: tuple[int, ...], source: str) -> Configuration:
    """Return the configuration with the axes that the checkpoints allow; both number those of the network's space."""
    fields: dict[str, Any] = configuration.model_dump()
    fields["inference"] |= {"mirroring": bool(axes), "mirroring_axes": axes}
    return parse_record(Configuration, fields, source=source, error=PlanError)


def _warn_of_sides(plan: Plan, axes: tuple[int, ...]) -> None:
    if axes and (pairs := sided_pairs(plan.dataset)):
        logger.warning(
            "the model averages mirrored views, as it was trained, although %s differ by their side only; "
            "--no-mirroring leaves them out",
            " and ".join(pairs[0]),
        )
