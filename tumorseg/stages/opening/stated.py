"""Facts that a user states where a dataset's files leave them open, and the dataset read with them."""

from collections.abc import Mapping

from tumorseg.errors import InputError
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.dataset import Dataset, OrientationCode, repeated_values
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.opening.loaded import Roots


class Stated(Record):
    """Options that several verbs know."""

    assumed_orientation: OrientationCode | None = None
    """Orientation of files that state none; the manifest's if None."""
    paint_order: tuple[str, ...] = ()
    """Labels in the order in which structures that overlap are painted; the manifest's if empty."""
    confirm_labels: bool = False
    """Whether labels that are doubtful, or in no case, are meant."""
    allow_outside: bool = False
    """Whether links and a dataset.json may lead out of the dataset's folder."""


def open_stated(name: str, roots: Roots, stated: Stated, *, labels: Mapping[str, int] | None = None) -> Dataset:
    """Open a dataset and read its files as the user says.

    Args:
        name: what `-d` says.
        roots: data and work folder.
        stated: what the user says.
        labels: names and values, if known.

    Raises:
        InputError: as from `open_dataset`, or the paint order names no labels of the dataset.
    """
    dataset = open_dataset(name, roots.data_root, labels=labels, allow_outside=stated.allow_outside)
    return with_stated(dataset, stated)


def with_stated(dataset: Dataset, stated: Stated) -> Dataset:
    """Return a dataset that is read as the user says.

    Raises:
        InputError: the paint order names no labels of the dataset.
    """
    given = {
        "assumed_orientation": stated.assumed_orientation,
        "paint_order": stated.paint_order,
    }
    # What the user does not state stays as the manifest has it.
    changes = {field: value for field, value in given.items() if value}
    if not changes:
        return dataset
    if repeated := repeated_values(stated.paint_order):
        raise InputError(
            f"--paint-order names {', '.join(repeated)} twice; expected each label once; correct the names"
        )
    if unknown := [name for name in stated.paint_order if dataset.labels.get(name, 0) == 0]:
        known = ", ".join(name for name, value in dataset.labels.items() if value != 0)
        raise InputError(
            f"--paint-order: {dataset.name} has no label {', '.join(unknown)}; expected some of {known}; correct the names"
        )
    reading = dataset.reading.changed(**changes)
    fields = {field: getattr(dataset, field) for field in Dataset.model_fields}
    return parse_record(Dataset, {**fields, "reading": reading}, source=dataset.name, error=InputError)
