"""Fill the case store: every case on the network's grid, once."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from tumorseg.errors import InputError, Stopped
from tumorseg.ops.labels import class_locations, count_values
from tumorseg.ops.preprocessing import PreparedImage, axis_order, prepare_image, prepare_segmentation
from tumorseg.schema.base import Record
from tumorseg.schema.cases import Preprocessing, StoredCase, preprocessing_of
from tumorseg.schema.dataset import Case, Dataset
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.stages.opening.each_case import Steps, each_case
from tumorseg.stages.opening.loaded import (
    Roots,
    check_content,
    choose_configuration,
    failed_cases,
    open_planned_dataset,
)
from tumorseg.stages.opening.reading import expected_bytes, largest_first, read_case_image, read_case_indices
from tumorseg.stages.opening.stopping import is_stop_asked, stop_on_signal
from tumorseg.storage.cases import CaseArrays, case_key, is_stored, remove_stale, store_case
from tumorseg.storage.file_warnings import captured_warnings
from tumorseg.storage.hashing import FileState, HashCache, check_unchanged
from tumorseg.storage.images import knows_names_only
from tumorseg.storage.layout import work_folder
from tumorseg.tracking.progress import progress
from tumorseg.types import Segmentation, Spacing

logger = logging.getLogger(__name__)

SEED = 1234
COMPARED_AT_ONCE = 4
"""Cases of the store: enough for a network disk to have something to do all the time."""
MOST_LOST = 0.1
"""Share of a label's volume that may be lost on the way to the store without a word."""

T = TypeVar("T")


class PreprocessRequest(Record):
    """Options of `preprocess`."""

    roots: Roots = Roots()
    """Data and work folder."""
    plan: Plan
    """What to carry out."""
    configurations: tuple[str, ...] = ()
    """Which configurations; all if empty."""
    dataset: str | None = None
    """Where the dataset is, if it moved."""
    jobs: int | None = None
    """Processes at most; one per core if None, and never more than memory holds."""
    has_comparison: bool = True
    """Whether all bytes of cases that are stored are compared with what was written; a training compares those that it reads."""


class StoredCases(NamedTuple):
    """Folder and keys of the preprocessed cases of a configuration."""

    folder: Path
    keys: dict[str, str]
    """By case_id."""


class PreprocessTask(NamedTuple):
    """Input of a worker that preprocesses one case."""

    case: Case
    preprocessing: Preprocessing
    targets: Targets
    folder: Path
    key: str
    states: Mapping[str, FileState]
    """Its files as they were hashed."""
    is_reported: bool = False
    """Whether this command has read the case before, so that what there is to say of its files has been said."""


class Seen(NamedTuple):
    """Facts about the files that this command knows already."""

    states: Mapping[str, Mapping[str, FileState]]
    """Each case's files as they were hashed."""
    reported: Set[str]
    """Cases of which has been said what there is to say."""


def _missing(dataset: Dataset, stored: StoredCases, *, in_full: bool) -> list[Case]:
    """Return the cases that are not in the store as they were written, the largest first, and name those that are damaged."""
    kept = _stored_keys(stored, in_full=in_full)
    missing = [case for case in dataset.cases if stored.keys[case.case_id] not in kept]
    for case in missing:
        if (folder := stored.folder / stored.keys[case.case_id]).is_dir():
            logger.warning("case %s: %s is damaged, and made anew", case.case_id, folder)
    return largest_first(missing)


def _stored_keys(stored: StoredCases, *, in_full: bool) -> set[str]:
    """Return the keys of the cases that are in the store as they were written.

    Args:
        stored: the cases that are looked for.
        in_full: compare all bytes, which reads the whole store: several files at once, with a bar.

    Raises:
        StorageError: the store cannot be read.
    """
    keys = [key for key in dict.fromkeys(stored.keys.values()) if is_stored(stored.folder, key)]
    if not in_full or not keys:
        return set(keys)
    found = set()
    # Threads, as comparing is all that they do, without Python's lock: they wait for the disk.
    with progress("compare", len(keys)) as advance, ThreadPoolExecutor(min(COMPARED_AT_ONCE, len(keys))) as pool:
        for key, is_whole in zip(keys, pool.map(partial(is_stored, stored.folder, in_full=True), keys), strict=True):
            if is_stop_asked():
                pool.shutdown(wait=False, cancel_futures=True)
                raise Stopped("cases that are stored stay; the same command goes on")
            found.update([key] if is_whole else [])
            advance()
    return found


@stop_on_signal()
def preprocess(request: PreprocessRequest) -> dict[str, StoredCases]:
    """Preprocess every case that is not in the store yet.

    Returns:
        Where the cases of each configuration are.

    Raises:
        PlanError: the dataset's content is not what was planned.
        TumorsegError: cases failed; all are listed, and the others are stored.
        Stopped: a signal asked to; what is done is kept.
    """
    plan = request.plan
    dataset = open_planned_dataset(plan, request.roots, request.dataset)
    names = request.configurations or tuple(sorted(plan.configurations))
    chosen = [choose_configuration(plan, name) for name in names]
    hashes = check_content(plan, dataset, request.roots)
    states = _states(dataset, request.roots)
    folder = work_folder(request.roots.work, dataset.name).cases
    remove_stale(folder)
    stored: dict[str, StoredCases] = {}
    done: set[str] = set()
    reported: set[str] = set()
    for name, configuration in chosen:
        preprocessing = preprocessing_of(plan, configuration)
        keys = case_keys(dataset, hashes, preprocessing)
        stored[name] = StoredCases(folder, keys)
        # Configurations that prepare cases alike share the stored ones.
        if not done.issuperset(keys.values()):
            missing = _missing(dataset, stored[name], in_full=request.has_comparison)
            seen = Seen(states, frozenset(reported))
            tasks = _tasks(missing, stored[name], preprocessing, targets_of(dataset), seen)
            fill_store(preprocess_case, tasks, missing, dataset, jobs=request.jobs)
            reported |= {case.case_id for case in missing}
            done.update(keys.values())
    return stored


def _states(dataset: Dataset, roots: Roots) -> dict[str, Mapping[str, FileState]]:
    """Return the files of every case as they were just hashed."""
    cache = HashCache(work_folder(roots.work, dataset.name).hashes)
    found = {case.case_id: cache.case_states(case) for case in dataset.cases}
    if changed := [case_id for case_id, states in found.items() if states is None]:
        raise InputError(
            f"{dataset.name}: files of {', '.join(changed[:5])} were changed while they were read; give the command again once they are complete"
        )
    return {case_id: states for case_id, states in found.items() if states is not None}


def case_keys(dataset: Dataset, hashes: Mapping[str, str], preprocessing: Preprocessing) -> dict[str, str]:
    """Return each case's address in the store by case_id.

    Args:
        dataset: the cases.
        hashes: of their files, by case_id; those without are passed over.
        preprocessing: what is done to them.
    """
    targets = targets_of(dataset)
    # Where labels are known by name only, names decide what is painted.
    named = {case.case_id for case in dataset.cases if case.label is not None and knows_names_only(case.label)}
    keys = {}
    for case_id, found in hashes.items():
        keys[case_id] = case_key(found, preprocessing, targets, has_names=case_id in named)
    return keys


def _tasks(
    missing: Iterable[Case], stored: StoredCases, preprocessing: Preprocessing, targets: Targets, seen: Seen
) -> Iterator[tuple[str, PreprocessTask]]:
    for case in missing:
        key, states = stored.keys[case.case_id], seen.states[case.case_id]
        is_reported = case.case_id in seen.reported
        yield case.case_id, PreprocessTask(case, preprocessing, targets, stored.folder, key, states, is_reported)


def fill_store(
    work: Callable[[T], None],
    tasks: Iterable[tuple[str, T]],
    missing: Sequence[Case],
    dataset: Dataset,
    *,
    jobs: int | None,
) -> None:
    """Do the work of every case that is missing in the store, in worker processes.

    Args:
        work: stands at the top of a module.
        tasks: (case_id, argument) pairs, drawn one at a time.
        missing: their cases, the largest first.
        dataset: all of them.
        jobs: processes at most; one per core if None.

    Raises:
        TumorsegError: cases failed; all are listed, and the others are stored.
    """
    if not missing:
        return
    total = len(dataset.cases)
    steps = Steps("preprocess", total, total - len(missing), are_named=True)
    expected = expected_bytes(missing)
    if failures := each_case(work, tasks, num_cases=len(missing), expected_bytes=expected, jobs=jobs, steps=steps):
        raise failed_cases(failures, len(dataset.cases), f"preprocessing of {dataset.name}")


class Volumes(NamedTuple):
    """Volumes of a case's labels."""

    voxels: Mapping[int, int]
    """By class index."""
    spacing_mm: Sequence[float]
    """Their edges."""

    def millilitres(self, index: int) -> float:
        """Return the volume of a class."""
        return self.voxels.get(index, 0) * math.prod(self.spacing_mm) / 1000


def _compare_volumes(task: PreprocessTask, labelled: Segmentation, spacing_mm: Spacing, stored: Volumes) -> None:
    """Name the labels that vanish, or shrink by over a tenth, between the file and the store."""
    counts = dict(zip(*count_values(labelled), strict=True))
    read = Volumes(counts, spacing_mm)
    for index, name in enumerate(task.targets.label_names):
        before, after = read.millilitres(index), stored.millilitres(index)
        # A label that the file does not hold loses nothing either: both volumes are 0.
        if index == 0 or after >= (1 - MOST_LOST) * before:
            continue
        logger.warning(
            "case %s: %s %s of its %.3g ml by cropping and resampling to voxels of %s mm (%d voxels in the file, %d in the store); a finer "
            "spacing or no cropping would keep it",
            task.case.case_id,
            name,
            "loses all" if after == 0 else f"loses {1 - after / before:.0%}",
            before,
            " x ".join(f"{edge:.3g}" for edge in stored.spacing_mm),
            counts.get(index, 0),
            stored.voxels.get(index, 0),
        )


class PreparedCase(NamedTuple):
    """A case on the network's grid."""

    image: PreparedImage
    indices: Segmentation
    """Class indices (Z, Y, X)."""
    voxels: Mapping[int, int]
    """Of each class index that is there."""


def prepare_case(task: PreprocessTask) -> PreparedCase:
    """Bring one case to the network's grid, and say which of its labels lose volume on the way.

    Raises:
        InputError: the case cannot be read or is unsound.
    """
    spec = task.preprocessing
    with captured_warnings() if task.is_reported else nullcontext():
        found = read_case_image(task.case, spec.reading, axis_order(spec))
        labelled = read_case_indices(task.case, found, task.targets, spec.reading)
    prepared = prepare_image(found.image, found.spacing_mm, spec, covered=found.covered)
    indices = prepare_segmentation(labelled, prepared.grid, spec, image=found.image, covered=found.covered)
    voxels = dict(zip(*count_values(indices), strict=True))
    _compare_volumes(task, labelled, found.spacing_mm, Volumes(voxels, prepared.target_spacing_mm))
    return PreparedCase(prepared, indices, voxels)


def preprocess_case(task: PreprocessTask) -> None:
    """Bring one case to the network's grid and put it into the store; called in a worker process.

    Raises:
        InputError: the case cannot be read or is unsound.
        StorageError: the store cannot be written.
    """
    prepared, indices, voxels = prepare_case(task)
    locations, starts = class_locations(indices, task.targets, np.random.default_rng(SEED))
    shape, spacing = prepared.image.shape, prepared.target_spacing_mm
    record = StoredCase(
        case_id=task.case.case_id,
        shape=(shape[1], shape[2], shape[3]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        num_channels=shape[0],
        class_voxels=tuple(voxels.get(index, 0) for index in range(task.targets.num_classes)),
        location_starts=tuple(starts),
        has_ignore_label=task.targets.ignore_value is not None,
    )
    # The key is that of the bytes that were hashed, and nothing else may be found under it.
    check_unchanged(task.states)
    store_case(task.folder, task.key, record, CaseArrays(prepared.image, indices, locations))
