"""Split files: the cases that each fold holds out and, where the file says so, those it trains on.

Two forms are read: a list of lists of held-out case_ids, in which every other case is trained on; and nnU-Net's
`splits_final.json`, whose `train` lists are honoured: a case in neither list of a fold is kept from its training, and
one in no list at all is not used.
"""

from collections.abc import Collection
from itertools import chain
from typing import Any, NamedTuple

from tumorseg.errors import PlanError
from tumorseg.schema.base import Record
from tumorseg.schema.dataset import repeated_values
from tumorseg.schema.planned_dataset import CaseLists


class SplitLists(Record):
    """Contents of a split file."""

    held_out: CaseLists
    """case_ids, fold by fold."""
    training: CaseLists | None = None
    """case_ids, fold by fold; None for a file without such lists: folds train on all that they do not hold out."""

    def listed(self) -> frozenset[str] | None:
        """Return the cases beside which none is used; None for a file without `train` lists."""
        if self.training is None:
            return None
        return frozenset(chain.from_iterable((*self.held_out, *self.training)))

    def without(self, excluded: Collection[str]) -> "SplitLists":
        """Return the lists without some cases."""
        left_out = frozenset(excluded)
        return SplitLists(
            held_out=_without(self.held_out, left_out),
            training=None if self.training is None else _without(self.training, left_out),
        )


class Division(NamedTuple):
    """The folds of a plan."""

    folds: CaseLists
    """Held-out case_ids."""
    kept_from_training: CaseLists = ()
    """case_ids that each fold neither trains on nor holds out; empty if none does so."""


def parse_splits(document: Any, source: str) -> SplitLists:
    """Return what the JSON of a split file says.

    Args:
        document: its value.
        source: what to call the file in an error.

    Raises:
        PlanError: it is neither of the two forms.
    """
    entries = document if isinstance(document, list) else []
    held_out, training = entries, []
    if all(isinstance(fold, dict) and "val" in fold for fold in entries):
        held_out = [fold["val"] for fold in entries]
        training = [fold["train"] for fold in entries if "train" in fold]
    if not entries or not all(map(_is_list_of_ids, (*held_out, *training))):
        raise PlanError(
            f"{source}: expected a list of folds, each a list of held-out case_ids, or nnU-Net's splits_final.json"
        )
    if training and len(training) != len(held_out):
        raise PlanError(
            f"{source}: {len(training)} of {len(held_out)} folds have a `train` list; expected one for each fold, or "
            "for none"
        )
    return SplitLists(held_out=tuple(map(tuple, held_out)), training=tuple(map(tuple, training)) or None)


def check_known(splits: SplitLists, case_ids: Collection[str]) -> None:
    """Refuse lists that name cases which a dataset does not have.

    Args:
        splits: without the cases that are excluded.
        case_ids: of the dataset.

    Raises:
        PlanError: they do.
    """
    for what, lists in (("hold out", splits.held_out), ("train on", splits.training or ())):
        if unknown := sorted(set(chain.from_iterable(lists)) - set(case_ids)):
            raise PlanError(
                f"splits {what} cases that the dataset does not have: {', '.join(unknown[:5])}; correct the ids"
            )


def divide(splits: SplitLists, case_ids: Collection[str]) -> Division:
    """Return the folds of a split file, checked against the cases that are used.

    Args:
        splits: without the cases that are excluded.
        case_ids: of the dataset.

    Raises:
        PlanError: unknown cases, a case held out twice, named twice or on both sides of a fold, or a fold without cases
            on one side.
    """
    check_known(splits, case_ids)
    if twice := repeated_values(chain.from_iterable(splits.held_out)):
        raise PlanError(
            f"splits hold out a case in more than one fold: {', '.join(twice[:5])}; hold out each once at most"
        )
    for number, fold in enumerate(splits.held_out):
        if not fold or len(fold) == len(case_ids):
            raise PlanError(
                f"fold {number} of the splits holds out {len(fold)} of {len(case_ids)} cases; leave some on both sides"
            )
    return Division(tuple(tuple(sorted(fold)) for fold in splits.held_out), _kept_from_training(splits, case_ids))


def _kept_from_training(splits: SplitLists, case_ids: Collection[str]) -> CaseLists:
    kept = []
    for number, training in enumerate(splits.training or ()):
        held_out = splits.held_out[number]
        _check_training(f"fold {number} of the splits", training, held_out)
        kept.append(tuple(sorted(set(case_ids) - {*training, *held_out})))
    # As many lists as folds, or none at all: a fold that keeps nothing back among others has an empty one.
    return tuple(kept) if any(kept) else ()


def _check_training(fold: str, training: Collection[str], held_out: Collection[str]) -> None:
    if not training:
        raise PlanError(f"{fold} trains on no case; expected some in its `train` list")
    if twice := repeated_values(training):
        raise PlanError(f"{fold} names a case twice in its `train` list: {', '.join(twice[:5])}; name it once")
    if both := sorted(set(training) & set(held_out)):
        raise PlanError(f"{fold} trains on cases that it holds out: {', '.join(both[:5])}; leave each in one list")


def _is_list_of_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(case_id, str) for case_id in value)


def _without(folds: CaseLists, left_out: frozenset[str]) -> CaseLists:
    remaining = []
    for fold in folds:
        remaining.append(tuple(case_id for case_id in fold if case_id not in left_out))
    return tuple(remaining)
