"""What makes the results of a run, as the record and the report tell it."""

from tumorseg.stages.inference.case_report import RunEntry, versions_here
from tumorseg.stages.inference.method import (
    METHOD_VERSION,
    PredictOptions,
    is_mirrored,
    method_hash,
    precision_of,
    reading_for,
)
from tumorseg.stages.inference.outputs import Outputs
from tumorseg.stages.inference.predictions import Predictions
from tumorseg.stages.inference.trained_model import Model


def method_of(model: Model, options: PredictOptions) -> str:
    """Return the hash of everything that shapes a mask beside the files of its case."""
    # What is left out of a mask is still shown to a cascade.
    shown = options._replace(only_labels=())
    previous = None if model.previous_model is None else method_of(model.previous_model, shown)
    weights = model.weight_hashes
    return method_hash(model.plan, model.configuration, weights=weights, options=options, previous=previous)


def made_by(model: Model, options: PredictOptions, outputs: Outputs) -> Predictions:
    """Return the record of a folder in which nothing is done yet."""
    return Predictions(
        method_hash=method_of(model, options),
        method_version=METHOD_VERSION,
        plan=model.plan.name,
        weight_hashes=model.weight_hashes,
        mirroring=is_mirrored(model.configuration, options.mirroring),
        reading=reading_for(model.plan, options),
        precision=precision_of(model.configuration, options.precision),
        only_labels=options.only_labels,
        forms=outputs.forms(model.plan.dataset),
    )


def run_entry(model: Model, options: PredictOptions) -> RunEntry:
    """Return what the report tells of a run."""
    named = model.plan.configurations.items()
    return RunEntry(
        plan=model.plan.name,
        configuration=next((name for name, planned in named if planned == model.configuration), None),
        num_folds=len(model.networks),
        weight_hashes=model.weight_hashes,
        method_hash=method_of(model, options),
        engine=model.runtime.engine,
        precision=model.runtime.precision,
        device=str(model.device),
        versions=versions_here(),
    )
