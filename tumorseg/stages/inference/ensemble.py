"""Segment cases with several models together, or keep these as one model."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from tumorseg.errors import InputError
from tumorseg.schema.ensembles import Combination, Weight
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.stages.inference.agreement import Named, common_dataset
from tumorseg.stages.inference.ensemble_folder import check_place, save_members
from tumorseg.stages.inference.ensembles import Ensemble, together
from tumorseg.stages.inference.member_files import MemberFiles, open_members
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.out_of_fold import out_of_fold_weights
from tumorseg.stages.inference.outputs import AS_USUAL
from tumorseg.stages.inference.predict import PredictionOptions, Task, carry_out
from tumorseg.stages.inference.predict_cases import Predicted
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.stages.opening.stated import Stated

EnsembleMethod = Literal["mean", "weighted", "vote", "staple"]
"""mean: of probabilities. weighted: the same by weight. vote: of each model's own decision. staple: SimpleITK's estimate from masks."""


class EnsembleRequest(PredictionOptions):
    """Options of `ensemble`."""

    models: tuple[Path, ...] = Field(min_length=1)
    """Model folders or folds' folders; folds of one model folder count as one model. The first one leads: masks lie on the grid that it
    reads."""
    inputs: tuple[Path, ...] = ()
    """Files, folders of cases in any layout, or manifests; none to save the ensemble alone."""
    output: Path | None = None
    """As of `predict`; None where there are no inputs."""
    method: EnsembleMethod = "mean"
    """How the models' answers are combined."""
    weights: tuple[Weight, ...] = ()
    """Of each model in the word on every label, for `weighted` and `vote`. Empty: each model's out-of-fold DSC of the label for
    `weighted`, all alike for `vote`."""
    save: Path | None = None
    """Folder that becomes the ensemble as one model, which `predict` takes; None: it is not kept."""


class Combined(NamedTuple):
    """What `ensemble` did."""

    combination: Combination
    """How the answers are combined."""
    models: tuple[str, ...]
    """What each model is called."""
    saved: Path | None
    """The ensemble's folder; None if it was not asked for."""
    predicted: Predicted | None
    """What was segmented; None if nothing was asked for."""


def ensemble(request: EnsembleRequest) -> Combined:
    """Combine models, keep them as one model if asked for, and segment every case that is not done.

    Raises:
        InputError: options contradict each other, a fold's DSC is asked for that is not known, a folder holds something else; and as from
            `predict`.
        PlanError: a model is missing, or models cannot be combined.
        StorageError: something cannot be written.
        TumorsegError: cases failed; all are listed, and the others are written.
    """
    _check(request)
    members = open_members(request.models, request.folds)
    dataset = common_dataset([Named(member.name, member.plan.dataset) for member in members])
    combination = _combination(request, members, targets_of(dataset))
    if request.save is not None:
        save_members(request.save, members, combination=combination)
    predicted = None
    if request.output is not None:
        load = partial(load_members, members, combination, runtime=request.runtime)
        predicted = carry_out(Task(request.inputs, request.output, load), request)
    return Combined(combination, tuple(member.name for member in members), request.save, predicted)


def load_members(
    members: Sequence[MemberFiles], combination: Combination, device: str, *, runtime: RuntimeOptions
) -> Ensemble:
    """Load the networks of models onto a device, as an ensemble.

    Args:
        members: the models.
        combination: how their answers are combined.
        device: where to compute.
        runtime: engine and precision.

    Raises:
        PlanError: they cannot be combined.
        StorageError: a checkpoint is missing or damaged.
        InputError: a checkpoint was replaced while it was loaded, or the engine cannot run a network.
    """
    loaded = [load_model(member.paths, device, runtime=runtime) for member in members]
    return together(loaded, combination)


def _check(request: EnsembleRequest) -> None:
    """Refuse options that contradict each other, before any work is done."""
    if bool(request.inputs) != (request.output is not None):
        raise InputError("found inputs or an output alone, expected both, or neither to save the ensemble (-i, -o)")
    if request.output is None and request.save is None:
        raise InputError(
            "found nothing to do, expected inputs and an output (-i, -o), a folder to save (--save), or both"
        )
    if request.output is None:
        _check_idle(request)
    if request.weights and request.method not in ("weighted", "vote"):
        raise InputError(
            f"--weights: {request.method} knows no weights; give --method weighted or vote, or leave --weights out"
        )
    if request.method == "staple" and request.outputs.maps.kinds:
        raise InputError(
            f"--{request.outputs.maps.kinds[0]}: STAPLE makes a mask of the models' masks, and no probabilities; give another --method, or "
            "no maps"
        )
    if request.save is not None:
        check_place(request.save)


def _check_idle(request: EnsembleRequest) -> None:
    """Refuse options of a prediction where nothing is predicted: the saved model does not keep them."""
    known = {
        "--format or a map": request.outputs != AS_USUAL,
        "--only-labels": bool(request.only_labels),
        "--no-mirroring": request.mirroring is not None,
        "--precision": request.precision is not None,
        "--engine": request.engine is not None,
        "--shard": request.shard is not None,
        "--assume-orientation or --allow-outside": request.stated != Stated(),
        "--device": request.device is not None,
    }
    if given := [name for name, is_given in known.items() if is_given]:
        raise InputError(
            f"{given[0]}: does nothing where nothing is segmented, as a saved model does not keep it; give -i and -o too, or leave it out"
        )


def _combination(request: EnsembleRequest, members: Sequence[MemberFiles], targets: Targets) -> Combination:
    names = targets.scored_names
    if request.weights:
        _check_weights(request.weights, members)
        weights = dict.fromkeys(names, request.weights)
    elif request.method == "weighted":
        weights = out_of_fold_weights(members, names)
    else:
        weights = {}
    return Combination(method="mean" if request.method == "weighted" else request.method, weights=weights)


def _check_weights(weights: Sequence[float], members: Sequence[MemberFiles]) -> None:
    if len(weights) != len(members):
        found = ", ".join(member.name for member in members)
        raise InputError(
            f"--weights: found {len(weights)}, expected {len(members)}, one for each model ({found}); folds of one model folder are one "
            "model"
        )
    if not sum(weights) > 0:
        raise InputError("--weights: found nothing above 0; give at least one model a weight")
