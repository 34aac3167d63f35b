"""`--exclude`: which cases a user leaves out, and how errors offer it."""

import difflib
import os
import shlex
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from tumorseg.errors import InputError, TumorsegError, with_advice
from tumorseg.planning.folds.split_lists import SplitLists, check_known
from tumorseg.schema.dataset import Dataset
from tumorseg.schema.planned_dataset import Selection
from tumorseg.sources.leaving_out import leaving_out
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.opening.stated import Stated, open_stated
from tumorseg.storage.json_files import read_json

MOST_OFFERED = 5
"""Cases that an error names one by one."""


def excluded_ids(given: Sequence[str]) -> tuple[str, ...]:
    """Return the case_ids that the values of `--exclude` name, sorted.

    Args:
        given: case_ids, and files of them: a JSON list, or text of one a line.

    Raises:
        InputError: a file is neither.
    """
    found: set[str] = set()
    for value in given:
        found.update(_read_ids(Path(value)) if os.path.isfile(value) else [value])  # noqa: PTH113 (an id may be no path at all)
    return tuple(sorted(found))


def _read_ids(path: Path) -> list[str]:
    if path.suffix.lower() == ".json":
        ids = read_json(path, InputError)
        if not isinstance(ids, list) or not all(isinstance(case_id, str) for case_id in ids):
            raise InputError(f"--exclude {path}: expected a JSON list of case ids; mend the file")
        return ids
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--exclude {path}: cannot be read as text ({error}); expected one case id a line") from None
    return [line.strip() for line in lines if line.strip()]


def open_selected(
    name: str, roots: Roots, stated: Stated, *, exclude: Sequence[str], splits: SplitLists | None
) -> tuple[Dataset, tuple[str, ...]]:
    """Open a dataset as if it had no other cases than those that are used.

    Args:
        name: what `-d` says.
        roots: data and work folder.
        stated: what the user says of the dataset.
        exclude: values of `--exclude`.
        splits: what a split file says of the other cases; None for no such file.

    Returns:
        The dataset, and the ids of the cases that are in no list.

    Raises:
        InputError: as from `open_stated`, or an excluded case is not there.
        PlanError: the split file names cases that are not there.
    """
    selection = Selection(frozenset(excluded_ids(exclude)), splits.listed() if splits else None)
    with leaving_out(selection) as left:
        try:
            dataset = open_stated(name, roots, stated)
        except InputError as error:
            raise offering(error, left.refused) from None
    case_ids = [case.case_id for case in dataset.cases]
    check_excluded(selection.excluded, left.found.union(case_ids), dataset.name)
    if splits is not None:
        check_known(splits, case_ids)  # before hours of measuring
    return dataset, tuple(sorted(left.found - selection.excluded))


def check_excluded(excluded: Iterable[str], known: Collection[str], dataset: str) -> None:
    """Refuse to exclude cases that a dataset does not have: a misspelt id would leave the case in.

    Args:
        excluded: case_ids.
        known: those of the dataset, excluded ones included.
        dataset: its name.

    Raises:
        InputError: ids are unknown; those that resemble them are named.
    """
    unknown = sorted(set(excluded) - set(known))
    if not unknown:
        return
    near: set[str] = set()
    # Each of them is compared with every id, so only those that are named are looked up.
    for case_id in unknown[:MOST_OFFERED]:
        near.update(difflib.get_close_matches(case_id, known))
    meant = f"did you mean {', '.join(sorted(near)[:MOST_OFFERED])}? " if near else ""
    raise InputError(
        f"--exclude: {dataset} has no case {', '.join(map(repr, unknown[:MOST_OFFERED]))}, and there is no such file; {meant}correct the ids"
    )


def offering(error: TumorsegError, case_ids: Collection[str]) -> TumorsegError:
    """Return an error that offers to leave out the cases that it is about, if there are any."""
    if not case_ids:
        return error
    return with_advice(error, f"or leave {_it(case_ids)} out: {exclusion_of(case_ids)}")


def exclusion_of(case_ids: Collection[str]) -> str:
    """Return the options that leave cases out."""
    if len(case_ids) > MOST_OFFERED:
        return f"--exclude FILE, a file of the {len(case_ids)} ids, one a line"
    return " ".join(f"--exclude {shlex.quote(case_id)}" for case_id in sorted(case_ids))


def _it(case_ids: Collection[str]) -> str:
    return "it" if len(case_ids) == 1 else "them"
