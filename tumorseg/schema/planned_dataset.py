"""The dataset of a plan: which of its cases are used, and what was found in them."""

from collections.abc import Iterator
from itertools import chain
from typing import Annotated, NamedTuple

from pydantic import Field

from tumorseg.schema.base import Record
from tumorseg.schema.dataset import DatasetDescription, repeated_values

CaseLists = tuple[tuple[str, ...], ...]
"""case_ids, fold by fold."""


class Selection(NamedTuple):
    """Cases of a dataset that are used; nothing reads the others."""

    excluded: frozenset[str] = frozenset()
    """case_ids that are not."""
    listed: frozenset[str] | None = None
    """case_ids beside which none is; None for no such list."""

    def uses(self, case_id: str) -> bool:
        """Tell whether a case is used."""
        return case_id not in self.excluded and (self.listed is None or case_id in self.listed)


EVERY_CASE = Selection()
"""Leaves none out."""


class MirroredLabels(Record):
    """Two labels that mirror each other in the images at the sagittal plane halfway between them."""

    left: str
    """The one on the patient's left."""
    right: str
    """The other one."""
    num_cases: Annotated[int, Field(ge=1)]
    """Cases that hold both."""
    num_mirrored: Annotated[int, Field(ge=1)]
    """Those of them in which they mirror each other."""
    offsets_mm: tuple[float, float]
    """How far their centres are apart along Z and Y in the median case."""


class PlannedDataset(DatasetDescription):
    """The dataset that the plan was made for."""

    content_hash: str | None = None
    """Hash of all files of the cases that are used; null if it was planned from a fingerprint without one."""
    excluded: tuple[str, ...] = ()
    """Cases that `--exclude` left out: nothing reads them."""
    kept_back: tuple[str, ...] = ()
    """Cases in no list of a split file with `train` lists, such as a test set: nothing reads them. Those that planning knew of."""
    listed: tuple[str, ...] | None = None
    """Cases in the lists of such a split file: nothing reads any other; null where there is none: all that are not excluded are used."""
    mirrored_labels: tuple[MirroredLabels, ...] = ()
    """Labels that a mirrored image would turn into each other, by what the images show; names may tell of further ones."""

    def selection(self) -> Selection:
        """Return which cases are used."""
        return Selection(frozenset(self.excluded), None if self.listed is None else frozenset(self.listed))


def fold_contradictions(folds: CaseLists, kept_from_training: CaseLists) -> Iterator[str]:
    """Yield where folds contradict each other.

    Args:
        folds: held-out case_ids of each fold.
        kept_from_training: those that a fold neither trains on nor holds out; empty, or as many lists as folds.
    """
    if repeated := repeated_values(chain.from_iterable(folds)):
        yield f"folds hold out a case twice: {repeated[:5]}"
    if kept_from_training and len(kept_from_training) != len(folds):
        yield f"kept_from_training has {len(kept_from_training)} lists for {len(folds)} folds"
        return  # which list is of which fold is not known
    # Without any list there is nothing to compare, and the lengths differ.
    for number, (held_out, kept) in enumerate(zip(folds, kept_from_training, strict=bool(kept_from_training))):
        if both := sorted(set(held_out) & set(kept)):
            yield f"kept_from_training.{number} names cases that the fold holds out: {both[:5]}"


def unused_contradictions(dataset: PlannedDataset, lists: CaseLists) -> Iterator[str]:
    """Yield where lists of cases name some that the dataset says are not used.

    Args:
        dataset: of the plan.
        lists: its folds, and what these keep from training.
    """
    selection = dataset.selection()
    named = set(chain.from_iterable(lists))
    if unused := sorted(case_id for case_id in named if not selection.uses(case_id)):
        yield f"folds name cases that the plan does not use (dataset.excluded, dataset.listed): {unused[:5]}"
