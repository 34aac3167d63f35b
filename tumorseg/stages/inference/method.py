"""The hash of everything that shapes a mask beside the files of its case.

Masks of equal hashes are results of the same thing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tumorseg.ops.absent_channels import AbsentChannels
from tumorseg.schema.base import content_hash
from tumorseg.schema.cases import CaseReading, preprocessing_of, reading_of
from tumorseg.schema.plan import Configuration, InferencePrecision, Plan

METHOD_VERSION = 1
"""Raised when the same model, options and files would give another mask."""

# Named are the parts that shape none, so that a part which is added later counts until somebody has thought about it.
NOT_OF_PLAN: dict[str, bool | set[str]] = {
    "schema_version": True,
    "name": True,
    "parent": True,
    "dataset": {"name", "content_hash", "excluded", "kept_back", "listed", "mirrored_labels", "codes"},
    "fingerprint": True,
    "budget": True,
    "default_configuration": True,
    "configurations": True,  # the one that predicts is counted by itself
    "training": True,
    "folds": True,
    "kept_from_training": True,
    "reasons": True,
}
"""Parts of a plan that shape no mask once the weights are there."""
NOT_OF_CONFIGURATION: dict[str, bool | set[str]] = {
    "median_shape": True,
    "batch_size": True,
    "augmentation": True,
    "loss": True,
    "optimizer": True,
    "schedule": True,
    "sampling": True,
    # What comes of them and of the options is counted, but for the engine, which only rounds otherwise.
    "inference": {"mirroring", "mirroring_axes", "precision", "engine"},
    "gradient_accumulation": True,
    "activation_checkpointing": True,
}
"""Parts of a configuration likewise."""


class PredictOptions(NamedTuple):
    """Options of a prediction that change its masks."""

    mirroring: bool | None = None
    """Whether mirrored views are averaged, by a cascade's previous model too; as each one's plan says if None."""
    assumed_orientation: str | None = None
    """Orientation of files that state none; as the plan says if None."""
    absent: AbsentChannels | None = None
    """Channels of the plan that the cases lack, and what stands in for them; None where they lack none."""
    precision: InferencePrecision | None = None
    """Of the networks, a cascade's previous ones too; as each one's plan says if None."""
    only_labels: tuple[str, ...] = ()
    """Labels that masks are confined to, sorted; all others become background. Empty: all."""


AS_PLANNED = PredictOptions()


def is_mirrored(configuration: Configuration, mirroring: bool | None) -> bool:
    """Return whether mirrored views are averaged: as asked for, else as the plan says."""
    return configuration.inference.mirroring if mirroring is None else mirroring


def precision_of(configuration: Configuration, precision: InferencePrecision | None) -> InferencePrecision:
    """Return the precision that the networks are to have: as asked for, else as the plan says."""
    return configuration.inference.precision if precision is None else precision


def averaged_axes(configuration: Configuration, mirroring: bool | None) -> tuple[int, ...]:
    """Return the axes along which mirrored views are averaged; none where nothing is mirrored.

    Args:
        configuration: the one that predicts.
        mirroring: what is asked for; as the plan says if None.
    """
    return configuration.inference.mirroring_axes if is_mirrored(configuration, mirroring) else ()


def reading_for(plan: Plan, options: PredictOptions) -> CaseReading:
    """Return how files are read: as the options say, else as the plan says."""
    planned = reading_of(plan.dataset)
    orientation = options.assumed_orientation or planned.assumed_orientation
    return planned.changed(assumed_orientation=orientation)


def method_hash(
    plan: Plan,
    configuration: Configuration,
    *,
    weights: Sequence[str],
    options: PredictOptions,
    previous: str | None = None,
) -> str:
    """Return the hash of everything that shapes a mask beside the files of its case.

    Rounding, of a device, an engine or of half precision, does not count, but where float32 is asked for.

    Args:
        plan: the model's.
        configuration: the one that predicts.
        weights: hash of each checkpoint.
        options: how cases are segmented.
        previous: this hash of a cascade's previous model; None where there is none, or its masks are files of the case.
    """
    parts: dict[str, Any] = {
        "version": METHOD_VERSION,
        "plan": plan.model_dump(mode="json", exclude=NOT_OF_PLAN),
        "configuration": configuration.model_dump(mode="json", exclude=NOT_OF_CONFIGURATION),
        "mirroring_axes": averaged_axes(configuration, options.mirroring),
        # with a version of its own, which is raised when it gives other arrays
        "preprocessing": preprocessing_of(plan, configuration).model_dump(mode="json"),
        "reading": reading_for(plan, options).model_dump(mode="json"),
        "weights": list(weights),
        "previous": previous,
    }
    # Only where it says something, so that masks of whole images keep the hash that they have.
    if options.absent is not None:
        parts["absent"] = options.absent._asdict()
    if (precision := precision_of(configuration, options.precision)) != "auto":
        parts["precision"] = precision
    if options.only_labels:
        parts["only_labels"] = list(options.only_labels)
    return content_hash(parts)
