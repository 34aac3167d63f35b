"""Cases of a dataset that a model was trained on, whatever they are called there."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.geometry import spacing_of
from tumorseg.reports.tables import cases_text
from tumorseg.schema.crossing import KnownBy
from tumorseg.schema.dataset import Case
from tumorseg.stages.crossing.hashed_datasets import HashedDataset, PlannedFiles, cases_of
from tumorseg.stages.crossing.models import CrossModel
from tumorseg.stages.crossing.voxel_digests import VoxelDigests, same_voxels, scan_of
from tumorseg.storage.images import read_geometry

UNKNOWN_TRAINING = (
    "an nnU-Net model does not say which cases it was trained on: all are scored as if it had seen none of them"
)
SHARE_OF_OWN = 0.9
"""Of a dataset's cases, known by their content, from which on it is taken for the model's own."""

Owners = Mapping[str, frozenset[str]]
"""case_id to what the case is called in a model's plan: several names where cases of the plan share an image."""


class KnownCases(NamedTuple):
    """Cases that a model was trained on in part or whole."""

    planned: Owners
    """Those that stand in its plan."""
    remarks: tuple[str, ...] = ()
    """How far that is certain, where it is not."""
    by: KnownBy = "content"
    """How they are told from others."""
    is_own: bool = False
    """Whether nearly all cases are, by their content, those of the plan, whose files are what they were."""
    relatives: Mapping[str, frozenset[str]] = {}
    """Cases of the plan of the same patient, by case_id; the case itself included."""


class _Told(NamedTuple):
    """What tells the cases of a plan."""

    by_content: Owners
    by_name: tuple[str, ...]
    """case_ids that stand in the plan, of cases that may be those of the plan."""
    namesakes: tuple[str, ...]
    """case_ids that stand in the plan, of other cases."""
    num_uncompared: int = 0


def known_cases(
    model: CrossModel, found: HashedDataset, planned: PlannedFiles | None, digests: VoxelDigests | None = None
) -> KnownCases:
    """Return which cases of a dataset are those of a model's plan, whatever they are called there.

    A case is known by the bytes or the voxels of one of its images; and by its case_id, if it lies on the same grid or the planned
    files are not what they were. A case too many costs a score, a case too few makes scores too good.

    Args:
        model: of the matrix.
        found: the dataset.
        planned: what is there of the dataset that the model was planned for.
        digests: of voxels that are known already.
    """
    if not model.folds:
        return KnownCases({}, (UNKNOWN_TRAINING,), "unknown")
    digests = digests or VoxelDigests()
    told = _told(model, found, planned, digests)
    names: dict[str, set[str]] = defaultdict(set)
    for case_id, owners in told.by_content.items():
        names[case_id] |= owners
    for case_id in told.by_name:
        names[case_id].add(case_id)
    known = {case_id: frozenset(owners) for case_id, owners in names.items()}
    is_confirmed = planned is not None and planned.is_confirmed
    return KnownCases(
        known,
        tuple(_remarks(model, found.dataset.name, planned, told)),
        "content" if is_confirmed and not told.num_uncompared else "case_id",
        is_own=is_confirmed and len(told.by_content) >= SHARE_OF_OWN * len(found.dataset.cases),
        relatives=_relatives(found, known, planned),
    )


def _told(model: CrossModel, found: HashedDataset, planned: PlannedFiles | None, digests: VoxelDigests) -> _Told:
    named = cases_of(model.plan)
    if planned is None:
        return _Told({}, tuple(case.case_id for case in found.dataset.cases if case.case_id in named), ())
    by_content = _of_same_bytes(found, planned.found, digests)
    rest = [case for case in found.dataset.cases if case.case_id not in by_content]
    compared = same_voxels(found, rest, planned.found, digests)
    by_content |= compared.owners
    by_id = {case.case_id: case for case in planned.found.dataset.cases}
    by_name, namesakes = [], []
    for case in found.dataset.cases:
        if case.case_id not in named | by_id.keys():
            continue
        # What was planned may have had this grid where the file is no longer the same.
        if not planned.is_confirmed or _share_grid(case, by_id[case.case_id]):
            by_name.append(case.case_id)
        elif case.case_id not in by_content:
            namesakes.append(case.case_id)
    return _Told(by_content, tuple(by_name), tuple(namesakes), compared.num_uncompared)


def _of_same_bytes(found: HashedDataset, planned: HashedDataset, digests: VoxelDigests) -> dict[str, frozenset[str]]:
    """Return the planned cases that share a file with each case of a dataset."""
    owners: dict[str, set[str]] = defaultdict(set)
    for case_id, files in planned.digests.items():
        for digest in files.values():
            owners[digest].add(case_id)
    blank = _blank(planned, {digest for digest, sharing in owners.items() if len(sharing) > 1}, digests)
    same: dict[str, frozenset[str]] = {}
    for case in found.dataset.cases:
        telling = owners.keys() & set(found.digests[case.case_id].values()) - blank
        if telling:
            same[case.case_id] = frozenset().union(*(owners[digest] for digest in telling))
    return same


def _blank(planned: HashedDataset, shared: set[str], digests: VoxelDigests) -> set[str]:
    """Return which files hold the same value everywhere: what stands for a channel that was not acquired tells no cases apart."""
    scans = {}
    for case in planned.dataset.cases if shared else ():
        for number, image in enumerate(case.images):
            digest = planned.digests[case.case_id].get(image.path)
            if digest in shared:
                scans[digest] = scan_of(planned, case, number)
    known = digests.of(scans.values())
    return {digest for digest, scan in scans.items() if scan.key not in known}


def _relatives(found: HashedDataset, known: Owners, planned: PlannedFiles | None) -> dict[str, frozenset[str]]:
    """Return the cases of the plan of each case's patient, as far as either dataset states patients."""
    here = _patients(found.dataset.cases)
    there = _patients(() if planned is None else planned.found.dataset.cases)
    relatives = {}
    for case in found.dataset.cases:
        own = frozenset().union(*(known.get(mate, frozenset()) for mate in here.get(case.case_id, {case.case_id})))
        related = own.union(*(there.get(name, frozenset()) for name in own))
        if related:
            relatives[case.case_id] = related
    return relatives


def _patients(cases: Sequence[Case]) -> dict[str, frozenset[str]]:
    """Return all cases of each case's patient, of the cases of which the patient is stated."""
    groups: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        if case.group is not None:
            groups[case.group].add(case.case_id)
    return {case.case_id: frozenset(groups[case.group]) for case in cases if case.group is not None}


def _remarks(model: CrossModel, dataset: str, planned: PlannedFiles | None, told: _Told) -> list[str]:
    """Return what is not certain, a line each."""
    remarks = []
    if planned is None:
        remarks.append(
            f"the files that {model.name} was trained on are not at hand as they were planned, so that cases of {dataset} are known "
            "by their case_id alone: a copy under another one counts as unseen"
        )
    elif not planned.is_confirmed:
        remarks.append(
            f"the files that {model.name} was trained on cannot be confirmed to be what was planned: cases of {dataset} are known by "
            "the files that are there, and by their case_id; a copy of another under a new case_id counts as unseen"
        )
    if told.num_uncompared:
        remarks.append(
            f"the voxels of {told.num_uncompared} cases of {dataset} were not compared with those that {model.name} was trained on, as "
            "that many images would not be read in bearable time: a copy that was written anew under another case_id counts as unseen"
        )
    doubtful = [case_id for case_id in told.by_name if case_id not in told.by_content]
    if doubtful and planned is not None and planned.is_confirmed:
        remarks.append(
            f"taken for cases of the training by their case_id and grid, though their voxels differ: {cases_text(doubtful)}"
        )
    if told.namesakes:
        remarks.append(
            f"called like cases of the training, but on other grids, and taken for other cases: {cases_text(told.namesakes)}"
        )
    return remarks


def _share_grid(one: Case, other: Case) -> bool:
    """Tell whether two cases have voxels of the same number and size; two that cannot be read count as such."""
    try:
        first, second = (_grid(Path(case.images[0].path)) for case in (one, other))
    except InputError:
        return True
    return first[0] == second[0] and bool(np.allclose(first[1], second[1], rtol=1e-3))


def _grid(path: Path) -> tuple[list[int], list[float]]:
    """Return voxels and edges along each axis, sorted, as copies of a file may store their axes otherwise."""
    geometry = read_geometry(str(path))
    return sorted(geometry.shape), sorted(spacing_of(geometry.affine))
