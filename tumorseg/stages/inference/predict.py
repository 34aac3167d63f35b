"""Segment cases with a trained model, each result in its input's own geometry."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tumorseg.engine.precision import NO_BF16, has_bf16
from tumorseg.errors import InputError
from tumorseg.schema.base import Record
from tumorseg.schema.dataset import Case
from tumorseg.schema.plan import InferenceEngine, InferencePrecision
from tumorseg.sources.inputs import Inputs, open_inputs
from tumorseg.stages.inference.budget import Budget, BudgetRequest, Chosen, read_budget, read_settings, within_budget
from tumorseg.stages.inference.dicom_results import require_writers
from tumorseg.stages.inference.ensembles import Ensemble, load_ensemble
from tumorseg.stages.inference.method import PredictOptions
from tumorseg.stages.inference.offers import Wish
from tumorseg.stages.inference.outputs import AS_USUAL, Outputs
from tumorseg.stages.inference.predict_cases import Filling, Predicted, predict_cases
from tumorseg.stages.inference.predict_file import is_one_file, predict_into_file
from tumorseg.stages.inference.prediction_folder import hold_predictions
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.stages.inference.shards import read_shard
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.loaded import failed_cases
from tumorseg.stages.opening.stated import Stated
from tumorseg.stages.opening.stopping import stop_on_signal

logger = logging.getLogger(__name__)


class PredictionOptions(Record):
    """Options that `predict` and `ensemble` share: what is written of each case, and how the networks run."""

    outputs: Outputs = AS_USUAL
    """What is written of each case; into a file the format that it is called by."""
    only_labels: tuple[str, ...] = ()
    """Labels that masks are confined to; all others become background. Empty: all."""
    shard: str | None = None
    """Part of the cases that is segmented, as `2/4`; the shards of one command fill a folder side by side. None: all."""
    folds: tuple[str, ...] = ()
    """Folds of each model folder; all if empty."""
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

    @property
    def runtime(self) -> RuntimeOptions:
        """Return engine and precision."""
        return RuntimeOptions(engine=self.engine, precision=self.precision, cache=self.engine_cache)

    @property
    def predict_options(self) -> PredictOptions:
        """Return what changes masks."""
        return PredictOptions(
            self.mirroring, self.stated.assumed_orientation, precision=self.precision, only_labels=self.only_labels
        )


class PredictRequest(PredictionOptions):
    """Options of `predict`."""

    models: tuple[Path, ...]
    """Model folders or folds' folders, all of one model; or a saved ensemble's folder."""
    inputs: tuple[Path, ...]
    """Files, folders of cases in any layout, or manifests."""
    output: Path
    """Folder for `<case_id>.nii.gz`; or, for one case, a file that ends as label maps do, or in .dcm."""
    budget: str | None = None
    """Time that no case is to exceed, as `20s`: the best setting of the model's table that keeps it. None: as planned."""


class Task(NamedTuple):
    """What is to be segmented, where to, and by what."""

    inputs: tuple[Path, ...]
    output: Path
    load: Callable[[str], Ensemble]
    """Loads the networks onto a device, once it is known that results can be written."""
    choose: Callable[[Ensemble, Sequence[Case]], Chosen] | None = None
    """Chooses how they predict, once the cases are known; None: as the plans and the options say."""


class _Opened(NamedTuple):
    """Networks, cases, and what changes masks."""

    ensemble: Ensemble
    inputs: Inputs
    method: PredictOptions


def predict(request: PredictRequest) -> Predicted:
    """Segment every case, but those whose files were already made in the same way.

    Raises:
        InputError: inputs are not there or have other channels than the model's, what is asked for cannot be made of them, or a
            result would take the place of another file.
        PlanError: no such model, or several.
        StorageError: another process writes into the folder now.
        TumorsegError: cases failed; all are listed, and the others are written.
        Stopped: a signal asked to; masks that are done are kept.
    """
    if request.budget is not None:
        return carry_out(_within(request, read_budget(request.budget)), request)

    def load(device: str) -> Ensemble:
        return load_ensemble(request.models, device, request.folds, runtime=request.runtime)

    return carry_out(Task(request.inputs, request.output, load), request)


def _within(request: PredictRequest, budget: Budget) -> Task:
    """Return the task of a prediction that keeps a budget.

    Raises:
        InputError: there are several models, or one that was never measured.
    """
    if len(request.models) != 1:
        raise InputError(f"--budget: found {len(request.models)} models, expected one that `tumorseg select` made")
    table = read_settings(request.models[0])
    wish = Wish(
        request.predict_options,
        request.engine,
        has_folds=bool(request.folds),
        disagreement=request.outputs.maps.disagreement,
    )
    # A file has no record that would say how it was begun.
    folder = None if is_one_file(request.output, request.outputs) else request.output
    asked = BudgetRequest(budget, wish, request.engine_cache, folder)

    def load(device: str) -> Ensemble:
        # What is chosen is set afterwards; torch starts at once.
        return load_ensemble(request.models, device, request.folds, runtime=RuntimeOptions(engine="torch"))

    return Task(request.inputs, request.output, load, partial(within_budget, request=asked, table=table))


@stop_on_signal()
def carry_out(task: Task, options: PredictionOptions) -> Predicted:
    """Segment every case of a task, but those whose files were already made in the same way.

    Raises:
        TumorsegError: as from `predict`.
    """
    output, outputs = task.output, options.outputs
    if is_one_file(output, outputs):
        if options.shard is not None:
            raise InputError(f"-o {output}: is one file, and has no shards; leave --shard out, or give a folder")
        require_writers(outputs)
        opened = _open(task, options)
        return predict_into_file(opened.ensemble, opened.inputs, output, options=opened.method, outputs=outputs)
    shard = None if options.shard is None else read_shard(options.shard)
    require_writers(outputs)
    with hold_predictions(output, shard):
        opened = _open(task, options)
        cases, filling = opened.inputs.cases, Filling(outputs, shard)
        made = predict_cases(opened.ensemble, cases, output, options=opened.method, filling=filling)
    refused = [failure for failure in opened.inputs.refused if shard is None or shard.has(failure.case_id)]
    if failures := [*refused, *made.failures]:
        raise failed_cases(failures, len(made.files) + len(refused), "prediction")
    return made


def _open(task: Task, options: PredictionOptions) -> _Opened:
    """Load the networks, find the cases, and choose how these are predicted.

    Raises:
        TumorsegError: as from `predict`.
    """
    ensemble, method = task.load(choose_device(options.device)), options.predict_options
    channels = ensemble.dataset.channels
    names = [channel.name for channel in channels]
    kinds = [channel.kind for channel in channels]
    inputs = open_inputs(task.inputs, names, kinds, allow_outside=options.stated.allow_outside)
    if task.choose is not None and not inputs.cases:
        # None that could take any time.
        raise failed_cases([*inputs.refused], len(inputs.refused), "prediction")
    if task.choose is not None:
        chosen = task.choose(ensemble, inputs.cases)
        ensemble, method = chosen.ensemble, chosen.options
    _tell_runtimes(ensemble)
    return _Opened(ensemble, inputs, method)


def _tell_runtimes(ensemble: Ensemble) -> None:
    # Members are alike in this more often than not.
    for runtime in {(one.runtime.engine, one.runtime.precision): one.runtime for one in ensemble.members}.values():
        logger.info("%s runs the network in %s on %s", runtime.engine, runtime.precision, ensemble.device)
    # Whoever asked for fp32 need not be told that it is what they get.
    is_exact = all(member.runtime.is_exact for member in ensemble.members)
    if not is_exact and ensemble.device.type == "cpu" and not has_bf16():
        logger.info("%s", NO_BF16)
