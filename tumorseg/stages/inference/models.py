"""One case through a model: files in, label values on the case's own grid out."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from tumorseg.engine.averaging import Views, averaged_forward
from tumorseg.engine.cascade_channels import with_previous_tiles
from tumorseg.engine.learner import PRECISIONS
from tumorseg.engine.placement import place
from tumorseg.engine.restoration import segment_slabs
from tumorseg.engine.sliding_window import predict_slabs, tiling_of
from tumorseg.errors import InputError, PlanError
from tumorseg.networks.registry import build_network
from tumorseg.ops.cropping import box_shape, box_slices
from tumorseg.ops.geometry import orient, restore_orientation
from tumorseg.ops.labels import smallest_dtype, to_indices
from tumorseg.ops.preprocessing import prepare_image, prepare_segmentation, resampling_orders
from tumorseg.schema.cases import reading_of
from tumorseg.schema.dataset import Case
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.targets import num_inputs, num_previous, targets_of
from tumorseg.stages.inference.method import averaged_axes
from tumorseg.stages.inference.nnunet_model import is_nnunet_model, nnunet_weights, read_nnunet_model
from tumorseg.stages.opening.fold_folders import Run, fold_plan, model_folds, read_run
from tumorseg.stages.opening.loaded import preprocessing_of
from tumorseg.stages.opening.reading import CaseImage, read_previous
from tumorseg.storage.checkpoints import load_checkpoint
from tumorseg.storage.hashing import check_unchanged, hash_files
from tumorseg.storage.layout import FoldFolder, previous_model
from tumorseg.types import Segmentation

logger = logging.getLogger(__name__)


class Model(NamedTuple):
    """The folds of one model, ready to predict."""

    plan: Plan
    configuration: Configuration
    networks: tuple[nn.Module, ...]
    """On the device, in eval mode."""
    device: torch.device
    weight_hashes: tuple[str, ...]
    """Of the checkpoints that were loaded, and of those that made what a cascade is shown."""
    previous: "Model | KnownPrevious | None" = None
    """What tells a cascade the previous segmentation; None for a model that is none."""


class KnownPrevious(NamedTuple):
    """Previous segmentations that are there already."""

    files: dict[str, Path]
    """Label values on each case's own grid, by case_id."""
    weight_hashes: tuple[str, ...]
    """Of the checkpoints that made them."""


def load_model(
    paths: Sequence[Path], device: str, folds: Sequence[str] = (), *, previous: KnownPrevious | None = None
) -> Model:
    """Load the networks of model folders or fold folders, ours or nnU-Net's, which must be folds of one model.

    Args:
        paths: model folders (their folds are averaged) or folds' folders.
        device: where to compute.
        folds: which folds of a model folder; all if empty.
        previous: what to show a cascade instead of what its own previous model finds.

    Raises:
        PlanError: no training, folds that are not there, folds of different models, or a cascade's previous model is missing.
        StorageError: a checkpoint is missing or damaged.
        InputError: a checkpoint was replaced while it was loaded.
    """
    if any(map(is_nnunet_model, paths)):
        return _load_nnunet(paths, device, folds)
    folders = list(
        {folder.root.resolve(): folder for path in paths for folder in _wanted(model_folds(path), path, folds)}.values()
    )
    runs = [read_run(folder) for folder in folders]
    if len({(run.plan_hash, run.configuration) for run in runs}) > 1:
        found = ", ".join(sorted({f"{run.plan_name}/{run.configuration}" for run in runs}))
        raise PlanError(
            f"the models given are folds of different plans or configurations: {found}; give folds of one model"
        )
    plan = fold_plan(folders[0])
    configuration = plan.configurations[runs[0].configuration]
    checkpoints = [weights_file(folder) for folder in folders]
    shown = None if configuration.previous_configuration is None else previous or _load_previous(folders, runs, device)
    states = hash_files(map(str, checkpoints))
    networks = tuple(_load_network(plan, configuration, path, device) for path in checkpoints)
    check_unchanged(states)  # a training that goes on replaces its checkpoints
    hashes = tuple(state.digest for state in states.values()) + (shown.weight_hashes if shown is not None else ())
    return Model(plan, configuration, networks, torch.device(device), hashes, shown)


def _load_previous(folders: Sequence[FoldFolder], runs: Sequence[Run], device: str) -> Model:
    """Load the model that a cascade keeps beside its folds, whose segmentations it was trained with."""
    identities = sorted({run.previous or "none" for run in runs})
    if len(identities) > 1:
        raise PlanError(
            f"the folds given were trained with segmentations of different previous models ({', '.join(identities)}); "
            "give folds of one, or train the others with --restart"
        )
    found = [previous_model(folder.root.resolve().parent, identities[0]) for folder in folders]
    present = [path for path in found if path.is_dir()]
    if not present:
        raise PlanError(
            f"{folders[0].root} is a cascade, and the previous model that it was trained with is missing ({found[0]}); "
            "keep folds inside their model folder, and copy it whole"
        )
    return load_model(present[:1], device)


def _load_nnunet(paths: Sequence[Path], device: str, folds: Sequence[str]) -> Model:
    found = read_nnunet_model(paths, folds)
    configuration = found.plan.configurations[found.configuration]
    networks = []
    states = hash_files(map(str, found.checkpoints))
    for path in found.checkpoints:
        network = _fresh_network(found.plan, configuration)
        network.load_state_dict(nnunet_weights(path, configuration, network.state_dict()))
        networks.append(place(network, torch.device(device)).eval())
    check_unchanged(states)
    hashes = tuple(state.digest for state in states.values())
    return Model(found.plan, configuration, tuple(networks), torch.device(device), hashes)


def _wanted(found: Sequence[FoldFolder], path: Path, folds: Sequence[str]) -> list[FoldFolder]:
    if not folds:
        return _finished(found) if len(found) > 1 else list(found)
    by_name = {folder.root.name.removeprefix("fold_"): folder for folder in found}
    if missing := [fold for fold in folds if fold not in by_name]:
        raise PlanError(f"{path} has no fold {', '.join(missing)}; it has {', '.join(sorted(by_name))}")
    return [by_name[fold] for fold in folds]


def _finished(found: Sequence[FoldFolder]) -> list[FoldFolder]:
    """Return the folds to average: those that are trained to their end, or all if none is."""
    finished = [folder for folder in found if is_finished(folder)]
    skipped = ", ".join(folder.root.name for folder in found if folder not in finished)
    if skipped and finished:
        logger.warning(
            "left out, because their training is not finished: %s; name them with --folds to use them", skipped
        )
    return finished or list(found)


def is_finished(folder: FoldFolder) -> bool:
    """Return whether a fold was trained to its planned end."""
    if not folder.latest.is_file():
        return False
    training = fold_plan(folder).training
    done: int = load_checkpoint(folder.latest, is_mapped=True)["progress"]["iteration"]
    return done >= training.epochs * training.iterations_per_epoch


def weights_file(folder: FoldFolder) -> Path:
    """Return the checkpoint to predict with: the last one of a finished training, else the best so far."""
    if is_finished(folder) or not folder.best.is_file():
        return folder.latest
    logger.warning("%s is not finished; its best epoch so far predicts", folder.root)
    return folder.best


def _fresh_network(plan: Plan, configuration: Configuration) -> nn.Module:
    return build_network(
        configuration.network,
        num_channels=num_inputs(configuration, targets_of(plan.dataset)),
        num_outputs=targets_of(plan.dataset).num_outputs,
    )


def _load_network(plan: Plan, configuration: Configuration, path: Path, device: str) -> nn.Module:
    network = _fresh_network(plan, configuration)
    network.load_state_dict(load_checkpoint(path)["network"])
    return place(network, torch.device(device)).eval()


def segment(
    model: Model, found: CaseImage, *, mirroring: bool | None = None, previous: Segmentation | None = None
) -> Segmentation:
    """Segment one image.

    Args:
        model: the networks and their plan.
        found: channels in the plan's axis order.
        mirroring: whether mirrored views are averaged, along the axes that the plan allows, by a cascade's previous model too; as each
            one's plan says if None.
        previous: class indices in the plan's axis order, for a cascade; what its previous model finds if None.

    Returns:
        Label values (Z, Y, X) in the axis order in which the image was stored.

    Raises:
        InputError: the number of channels is not the plan's.
    """
    expected = len(model.plan.dataset.channels)
    if found.image.shape[0] != expected:
        names = ", ".join(channel.name for channel in model.plan.dataset.channels)
        raise InputError(f"the image has {found.image.shape[0]} channels, the model needs {expected}: {names}")
    targets = targets_of(model.plan.dataset)
    spec = preprocessing_of(model.plan, model.configuration)
    prepared = prepare_image(found.image, found.spacing_mm, spec, covered=found.covered)
    image = torch.from_numpy(np.ascontiguousarray(prepared.image))
    forward = averaged_forward(_views(model, mirroring))
    if model.previous is not None:
        if previous is None:
            previous = _find_previous(model, found, mirroring)
        known = prepare_segmentation(previous, prepared.grid, spec, image=found.image, covered=found.covered)
        shown = torch.from_numpy(known.astype(np.float32))
        image = torch.cat((image, shown[None]))
        forward = with_previous_tiles(forward, num_previous(model.configuration, targets), model.device)
    slabs = predict_slabs(
        image,
        forward,
        tiling_of(model.configuration),
        num_outputs=targets.num_outputs,
    )
    orders = resampling_orders(spec.resampling.logit_order, prepared.target_spacing_mm, prepared.spacing_mm, spec)
    cropped = segment_slabs(slabs, (prepared.image.shape[1:], box_shape(prepared.box)), orders, targets)
    whole = np.zeros(found.image.shape[1:], smallest_dtype(targets))
    whole[box_slices(prepared.box)] = cropped
    return np.ascontiguousarray(restore_orientation(whole, found.orientation))


def _find_previous(model: Model, found: CaseImage, mirroring: bool | None) -> Segmentation:
    """Return the class indices that the previous model finds, in the plan's axis order."""
    assert isinstance(model.previous, Model)
    values = segment(model.previous, found, mirroring=mirroring)
    return to_indices(orient(values, found.orientation), targets_of(model.plan.dataset))


def known_file(model: Model, case_id: str) -> Path | None:
    """Return the previous segmentation of a case that is there already; None if it is to be found, or there is none."""
    return model.previous.files[case_id] if isinstance(model.previous, KnownPrevious) else None


def known_previous(model: Model, case: Case, found: CaseImage) -> Segmentation | None:
    """Return the class indices of a case's previous segmentation that is there already; None if it is to be found.

    Raises:
        InputError: it cannot be read, or does not lie on the image's grid.
    """
    file = known_file(model, case.case_id)
    if file is None:
        return None
    reading = reading_of(model.plan.dataset)
    return read_previous(case, file, found, targets=targets_of(model.plan.dataset), reading=reading)


def _views(model: Model, mirroring: bool | None) -> Views:
    dtype = PRECISIONS[model.plan.training.precision]
    is_mixed = model.device.type == "cuda" and dtype is not torch.float32
    autocast = torch.autocast("cuda", dtype=dtype) if is_mixed else nullcontext()
    axes = averaged_axes(model.configuration, mirroring)
    keeps = model.configuration.inference.accumulate_on == "device"
    return Views(model.networks, axes, model.configuration.num_axes, autocast, model.device, keeps)
