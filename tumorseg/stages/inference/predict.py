"""Segment cases with a trained model, each result in its input's own geometry."""

import logging
from pathlib import Path

from tumorseg.engine.precision import NO_BF16, has_bf16
from tumorseg.errors import InputError
from tumorseg.schema.base import Record
from tumorseg.schema.plan import InferenceEngine, InferencePrecision
from tumorseg.sources.inputs import Inputs, open_inputs
from tumorseg.stages.inference.dicom_results import require_writers
from tumorseg.stages.inference.method import PredictOptions
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.outputs import AS_USUAL, Outputs
from tumorseg.stages.inference.predict_cases import Filling, Predicted, predict_cases
from tumorseg.stages.inference.predict_file import is_one_file, predict_into_file
from tumorseg.stages.inference.prediction_folder import hold_predictions
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.stages.inference.shards import read_shard
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.loaded import failed_cases
from tumorseg.stages.opening.stated import Stated

logger = logging.getLogger(__name__)


class PredictRequest(Record):
    """Options of `predict`."""

    models: tuple[Path, ...]
    """Model folders or folds' folders, all of one model."""
    inputs: tuple[Path, ...]
    """Files, folders of cases in any layout, or manifests."""
    output: Path
    """Folder for `<case_id>.nii.gz`; or, for one case, a file that ends as label maps do, or in .dcm."""
    outputs: Outputs = AS_USUAL
    """What is written of each case; into a file the format that it is called by."""
    only_labels: tuple[str, ...] = ()
    """Labels that masks are confined to; all others become background. Empty: all."""
    shard: str | None = None
    """Part of the cases that is segmented, as `2/4`; the shards of one command fill a folder side by side. None: all."""
    folds: tuple[str, ...] = ()
    """Folds of a model folder; all if empty."""
    mirroring: bool | None = None
    """Whether mirrored views are averaged; as the plan says if None."""
    precision: InferencePrecision | None = None
    """`fp32` for none but float32; as the plan says if None."""
    engine: InferenceEngine | None = None
    """What runs the network; as the plan says if None."""
    engine_cache: Path | None = None
    """Folder in which an engine keeps what it has compiled; None: not kept."""
    device: str | None = None
    """The best there is if None."""
    stated: Stated = Stated()
    """What is stated of files that leave it open; as the plan says if nothing."""


def predict(request: PredictRequest) -> Predicted:
    """Segment every case, but those whose files were already made in the same way.

    Raises:
        InputError: inputs are not there or have other channels than the model's, what is asked for cannot be made of them, or a
            result would take the place of another file.
        PlanError: no such model, or several.
        StorageError: another process writes into the folder now.
        TumorsegError: cases failed; all are listed, and the others are written.
    """
    options = PredictOptions(
        request.mirroring,
        request.stated.assumed_orientation,
        precision=request.precision,
        only_labels=request.only_labels,
    )
    if is_one_file(request.output, request.outputs):
        if request.shard is not None:
            raise InputError(
                f"-o {request.output}: is one file, and has no shards; leave --shard out, or give a folder"
            )
        require_writers(request.outputs)
        return predict_into_file(*_open(request), request.output, options=options, outputs=request.outputs)
    shard = None if request.shard is None else read_shard(request.shard)
    require_writers(request.outputs)
    with hold_predictions(request.output, shard):
        model, inputs = _open(request)
        made = predict_cases(
            model, inputs.cases, request.output, options=options, filling=Filling(request.outputs, shard)
        )
    refused = [failure for failure in inputs.refused if shard is None or shard.has(failure.case_id)]
    if failures := [*refused, *made.failures]:
        raise failed_cases(failures, len(made.files) + len(refused), "prediction")
    return made


def _open(request: PredictRequest) -> tuple[Model, Inputs]:
    runtime = RuntimeOptions(engine=request.engine, precision=request.precision, cache=request.engine_cache)
    model = load_model(request.models, choose_device(request.device), request.folds, runtime=runtime)
    logger.info("%s runs the network in %s on %s", model.runtime.engine, model.runtime.precision, model.device)
    # Whoever asked for fp32 need not be told that it is what they get.
    if not model.runtime.is_exact and model.device.type == "cpu" and not has_bf16():
        logger.info("%s", NO_BF16)
    channels = model.plan.dataset.channels
    names = [channel.name for channel in channels]
    kinds = [channel.kind for channel in channels]
    return model, open_inputs(request.inputs, names, kinds, allow_outside=request.stated.allow_outside)
