"""Previous segmentations of a cascade: from files of label values to class indices beside the stored cases."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.ops.preprocessing import axis_order, network_grid, prepare_segmentation
from tumorseg.schema.cases import Preprocessing
from tumorseg.schema.dataset import Case, Dataset
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.stages.opening.reading import largest_first, read_case_image, read_previous
from tumorseg.stages.training.preprocess import StoredCases, fill_store
from tumorseg.storage.cases import is_previous_stored, previous_name, store_previous
from tumorseg.storage.hashing import FileState, check_unchanged, hash_files


class PreviousTask(NamedTuple):
    """Input of a worker that brings one previous segmentation to the network's grid."""

    case: Case
    prediction: Path
    preprocessing: Preprocessing
    targets: Targets
    place: Path
    """Where it is kept."""
    state: FileState
    """The prediction's file as it was hashed."""


def keep_previous(
    dataset: Dataset,
    stored: StoredCases,
    files: Mapping[str, Path],
    preprocessing: Preprocessing,
    *,
    jobs: int | None = None,
) -> dict[str, str]:
    """Put the previous segmentation of every case beside it into the store; those of unchanged files are there already.

    Args:
        dataset: the cases.
        stored: where they are in the store.
        files: predictions by case_id.
        preprocessing: the way to the network's grid.
        jobs: processes at most.

    Returns:
        The names of the stored segmentations by case_id.

    Raises:
        PlanError: cases have no prediction.
        TumorsegError: cases failed; all are listed, and the others are stored.
    """
    if missing := sorted(stored.keys.keys() - files.keys()):
        raise PlanError(
            f"no fold holds out {len(missing)} cases of {dataset.name} ({', '.join(missing[:5])}), so the previous "
            "configuration never segmented them as unseen; plan folds that hold out every case once, or leave these out by --exclude"
        )
    hashes = hash_files(map(str, files.values()))
    names = {case_id: previous_name(hashes[str(files[case_id])].digest) for case_id in stored.keys}
    places = {case_id: stored.folder / stored.keys[case_id] / name for case_id, name in names.items()}
    todo = largest_first(case for case in dataset.cases if not is_previous_stored(places[case.case_id]))
    targets = targets_of(dataset)

    def tasks() -> Iterator[tuple[str, PreviousTask]]:
        for case in todo:
            path, place = files[case.case_id], places[case.case_id]
            state = hashes[str(path)]
            yield case.case_id, PreviousTask(case, path, preprocessing, targets, place, state)

    fill_store(previous_case, tasks(), todo, dataset, jobs=jobs)
    return names


def previous_case(task: PreviousTask) -> None:
    """Bring one previous segmentation to its case's stored grid and put it there; called in a worker process.

    Raises:
        InputError: the image or the prediction cannot be read, or they do not fit each other.
        StorageError: the store cannot be written.
    """
    spec = task.preprocessing
    found = read_case_image(task.case, spec.reading, axis_order(spec))
    indices = read_previous(task.case, task.prediction, found, targets=task.targets, reading=spec.reading)
    grid = network_grid(found.image, found.spacing_mm, spec, covered=found.covered)
    prepared = prepare_segmentation(indices, grid, spec, image=found.image, covered=found.covered)
    check_unchanged({str(task.prediction): task.state})
    store_previous(task.place, prepared)
