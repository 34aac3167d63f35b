"""Cases on the network's grid for looking at: from the case store, or prepared in memory, and never written."""

import difflib
from collections.abc import Iterator, Sequence

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.cropping import box_slices, inside, whole_box
from tumorseg.ops.labels import class_locations, count_values
from tumorseg.reports.tables import cases_text
from tumorseg.schema.cases import preprocessing_of
from tumorseg.schema.dataset import Case, Dataset
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.stages.opening.loaded import Roots, choose_configuration, open_planned_dataset
from tumorseg.stages.training.preprocess import SEED, PreprocessTask, case_keys, prepare_case
from tumorseg.storage.cases import CaseStore, is_stored
from tumorseg.storage.hashing import HashCache, case_files, combine_hashes, hash_files
from tumorseg.storage.layout import work_folder
from tumorseg.types import Box, Image, Segmentation


class ShownCase:
    """One case in memory, read as the case store's are.

    What a previous configuration found in it is taken to be right: the reference stands for it.
    """

    def __init__(self, case_id: str, image: Image, indices: Segmentation, targets: Targets) -> None:
        """Hold the image (C, Z, Y, X) and class indices (Z, Y, X)."""
        self.case_id = case_id
        # Prepared images may have their axes reversed, which torch does not take.
        self._image, self._indices = np.ascontiguousarray(image), np.ascontiguousarray(indices)
        # The same voxels as in the case store, so that patches are those of a training.
        self._locations, self._starts = class_locations(indices, targets, np.random.default_rng(SEED))
        counts = dict(zip(*count_values(indices), strict=True))
        self._voxels = tuple(counts.get(index, 0) for index in range(targets.num_classes))
        self._has_ignore_label = targets.ignore_value is not None

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Return the one case."""
        return (self.case_id,)

    def has_any(self, classes: Sequence[int]) -> bool:
        """Return whether a voxel has one of these class indices."""
        return any(self._voxels[index] for index in classes)

    def shape(self, case_id: str) -> tuple[int, int, int]:
        """Return its voxels (Z, Y, X)."""
        z, y, x = self._indices.shape
        return (z, y, x)

    def supervised_classes(self, case_id: str) -> tuple[int, ...]:
        """Return the classes on whose voxels patches are centred; none without an ignore label, when any voxel will do."""
        return tuple(range(len(self._voxels))) if self._has_ignore_label else ()

    def num_locations(self, case_id: str, class_index: int) -> int:
        """Return how many voxels of a class are known."""
        return self._starts[class_index + 1] - self._starts[class_index]

    def num_voxels(self, case_id: str, class_index: int) -> int:
        """Return how many voxels of a class there are."""
        return self._voxels[class_index]

    def location(self, case_id: str, class_index: int, number: int) -> tuple[int, int, int]:
        """Return one known voxel of a class."""
        z, y, x = self._locations[self._starts[class_index] + number].tolist()
        return (z, y, x)

    def read(self, case_id: str, box: Box) -> tuple[Image, Segmentation]:
        """Return image (C, …) and class indices of the part of a box that lies inside the case."""
        found = box_slices(inside(box, self._indices.shape))
        # Copies, as from the case store: whoever reads a patch may change it.
        return self._image[found].copy(), self._indices[found].copy()

    def read_previous(self, case_id: str, box: Box) -> Segmentation:
        """Return the reference there, ignored voxels as background."""
        return np.maximum(self.read(case_id, box)[1], 0)


class CaseOpener:
    """Opens cases of a plan's dataset, one at a time."""

    def __init__(self, plan: Plan, configuration: str, roots: Roots, dataset: str | None = None) -> None:
        """Find the dataset.

        Args:
            plan: says how cases are prepared.
            configuration: whose grid they are brought to.
            roots: data and work folder.
            dataset: where it is, if it moved.

        Raises:
            InputError: the dataset is not there.
            PlanError: it is another one than the plan's, or there is no such configuration.
        """
        _, chosen = choose_configuration(plan, configuration)
        self._dataset: Dataset = open_planned_dataset(plan, roots, dataset)
        self._preprocessing = preprocessing_of(plan, chosen)
        self._work = work_folder(roots.work, self._dataset.name)
        self._targets = targets_of(plan.dataset)
        self._foreground = tuple(range(1, self._targets.num_classes))
        self._found: dict[tuple[object, ...], ShownCase | None] = {}

    def named(self, case_id: str) -> ShownCase:
        """Open a case.

        Raises:
            InputError: there is no such case, or it cannot be read.
        """
        cases = {case.case_id: case for case in self._dataset.cases}
        if case_id in cases:
            return self._open(cases[case_id])
        near = difflib.get_close_matches(case_id, cases)
        meant = f"did you mean {' or '.join(near)}?" if near else f"it has {cases_text(list(cases))}"
        raise InputError(f"--case: {self._dataset.name} has no case {case_id!r}; {meant}")

    def first(self) -> ShownCase:
        """Open the first case that has foreground, or, if none has, the first one.

        Raises:
            InputError: a case cannot be read.
        """
        return self.first_with(self._foreground) or self._open(self._dataset.cases[0])

    def first_with(self, classes: Sequence[int], *, but: str | None = None) -> ShownCase | None:
        """Open the first case in which one of these classes is found; None if there is none.

        Args:
            classes: class indices.
            but: a case that is passed over.

        Raises:
            InputError: a case cannot be read.
        """
        # Kept, as many patches may copy from it.
        question = (*classes, but)
        if question not in self._found:
            self._found[question] = next(self._having(classes, but), None)
        return self._found[question]

    def _having(self, classes: Sequence[int], but: str | None) -> Iterator[ShownCase]:
        for case in self._dataset.cases:
            if case.case_id != but and case.label is not None:
                opened = self._open(case)
                if opened.has_any(classes):
                    yield opened

    def _open(self, case: Case) -> ShownCase:
        """Return a case as it is in the store, or prepared as it would be put there."""
        states = HashCache(self._work.hashes).case_states(case) or hash_files(case_files(case))
        case_hash = combine_hashes(case, {path: state.digest for path, state in states.items()})
        key = case_keys(self._dataset, {case.case_id: case_hash}, self._preprocessing)[case.case_id]
        if is_stored(self._work.cases, key):
            store = CaseStore(self._work.cases, {case.case_id: key})
            image, indices = store.read(case.case_id, whole_box(store.shape(case.case_id)))
            return ShownCase(case.case_id, image, indices, self._targets)
        task = PreprocessTask(case, self._preprocessing, self._targets, self._work.cases, key, states)
        prepared = prepare_case(task)
        return ShownCase(case.case_id, prepared.image.image, prepared.indices, self._targets)
