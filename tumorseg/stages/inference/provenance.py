"""What makes the results of a run, as the record and the report tell it."""

from collections.abc import Iterable

from tumorseg.schema.base import content_hash
from tumorseg.stages.inference.case_report import RunEntry, RunMember, versions_here
from tumorseg.stages.inference.ensembles import Ensemble
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

COMBINING_VERSION = 1
"""Raised when the same answers of members would be combined into another mask."""


def method_of(ensemble: Ensemble, options: PredictOptions) -> str:
    """Return the hash of everything that shapes a mask beside the files of its case."""
    if ensemble.is_model:
        return method_of_model(ensemble.lead, options)
    members = []
    for member in ensemble.members:
        members.append([method_of_model(member, options), ensemble.positions(member)])
    parts = {
        "version": COMBINING_VERSION,
        "members": members,
        # The whole of it, though a temperature shapes maps alone: what it outdates must not stay.
        "combination": ensemble.combination.model_dump(mode="json"),
        "targets": ensemble.targets.model_dump(mode="json"),
    }
    return content_hash(parts)


def method_of_model(model: Model, options: PredictOptions) -> str:
    """Return this hash of a model alone."""
    # What is left out of a mask is still shown to a cascade.
    shown = options._replace(only_labels=())
    previous = None if model.previous_model is None else method_of_model(model.previous_model, shown)
    weights = model.weight_hashes
    return method_hash(model.plan, model.configuration, weights=weights, options=options, previous=previous)


def made_by(ensemble: Ensemble, options: PredictOptions, outputs: Outputs) -> Predictions:
    """Return the record of a folder in which nothing is done yet; what it tells of reading and precision is the first member's."""
    lead = ensemble.lead
    return Predictions(
        method_hash=method_of(ensemble, options),
        method_version=METHOD_VERSION,
        plan=ensemble.name,
        weight_hashes=ensemble.weight_hashes,
        mirroring=_is_mirrored(ensemble, options),
        reading=reading_for(lead.plan, options),
        precision=precision_of(lead.configuration, options.precision),
        only_labels=options.only_labels,
        forms=outputs.forms(ensemble.dataset),
    )


def run_entry(ensemble: Ensemble, options: PredictOptions) -> RunEntry:
    """Return what the report tells of a run."""
    lead = ensemble.lead
    # A saved one of one model is called by its folder, so that only its member says which plan that is of.
    is_plain = ensemble.is_model and ensemble.root is None
    members = () if is_plain else tuple(map(_member, ensemble.members))
    return RunEntry(
        plan=ensemble.name,
        configuration=lead.configuration_name if ensemble.is_model else None,
        num_folds=sum(len(member.networks) for member in ensemble.members),
        members=members,
        method=None if ensemble.is_model else ensemble.combination.method,
        weight_hashes=ensemble.weight_hashes,
        method_hash=method_of(ensemble, options),
        engine=_joined(member.runtime.engine for member in ensemble.members),
        precision=_joined(member.runtime.precision for member in ensemble.members),
        mirroring=_is_mirrored(ensemble, options),
        overlap=lead.configuration.inference.overlap,
        device=str(ensemble.device),
        versions=versions_here(),
    )


def _is_mirrored(ensemble: Ensemble, options: PredictOptions) -> bool:
    return any(is_mirrored(member.configuration, options.mirroring) for member in ensemble.members)


def _member(model: Model) -> RunMember:
    return RunMember(plan=model.plan.name, configuration=model.configuration_name, num_folds=len(model.networks))


def _joined(names: Iterable[str]) -> str:
    """Return names, each once: members may differ."""
    return ", ".join(dict.fromkeys(names))
