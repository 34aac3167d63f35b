"""Images without a reference as further cases: found, kept apart from what judges the student, and stored for training."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tumorseg.errors import InputError, PlanError
from tumorseg.ops.labels import class_locations, count_values
from tumorseg.ops.preprocessing import axis_order, prepare_image
from tumorseg.reports.tables import cases_text
from tumorseg.schema.base import content_hash
from tumorseg.schema.cases import StoredCase
from tumorseg.schema.dataset import Case, Dataset, ImageFile
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import IGNORE
from tumorseg.sources.inputs import open_inputs
from tumorseg.stages.distillation.agreement import agreement, decided
from tumorseg.stages.distillation.opening import FoundTeacher, Student
from tumorseg.stages.distillation.whole_cases import Audience, Room, SeenCase, TaughtCase, key_of
from tumorseg.stages.opening.loaded import Roots, failed_cases, find_planned_dataset, hash_dataset
from tumorseg.stages.opening.reading import read_case_image
from tumorseg.storage.cases import CaseArrays, is_stored, store_case
from tumorseg.storage.dicom.files import parts_of
from tumorseg.storage.hashing import HashCache, case_files, hash_files
from tumorseg.storage.layout import WorkFolder, work_folder
from tumorseg.types import Segmentation

logger = logging.getLogger(__name__)

STORED_VERSION = 1
"""Raised when the same further case would be stored otherwise."""
PREFIX = "unlabelled_"
"""Of the names of further cases, which are no names of the dataset's."""
SEED = 1234


class Further(NamedTuple):
    """Further cases."""

    cases: tuple[Case, ...]
    """Under names of their own, with the student's channels."""
    hashes: Mapping[str, str]
    """Of their files, by case_id."""

    @property
    def identity(self) -> str:
        """Return the hash of all their content, in its order."""
        # In their order, by which patches of them are drawn.
        return content_hash([self.hashes[case.case_id] for case in self.cases])


def find_further(
    paths: Sequence[Path], student: Student, dataset: Dataset, roots: Roots, *, place: str | None = None
) -> Further:
    """Return the cases that paths name.

    Args:
        paths: as `predict -i` takes them.
        student: that learns from them.
        dataset: its plan's, whose files are hashed already.
        roots: data and work folder.
        place: where the dataset is, if it moved.

    Raises:
        PlanError: one is of a patient of whom cases judge the student or are kept back, or an image of such a case or of one that the plan
            does not use, or bears the name of a case of the dataset; or the student is a cascade, which would be shown nothing of them.
        InputError: a path is missing, or holds no image of the plan's channels.
        TumorsegError: cases cannot be used; all are listed.
    """
    if student.plan.configurations[student.configuration].previous_configuration is not None:
        raise PlanError(
            "--unlabelled: a cascade is shown what its previous configuration found in each case, which nobody knows of further ones; leave it out"
        )
    channels = dataset.channels
    names, kinds = [channel.name for channel in channels], [channel.kind for channel in channels]
    inputs = open_inputs(paths, names, kinds)
    if inputs.refused:
        raise failed_cases([*inputs.refused], len(inputs.cases) + len(inputs.refused), "--unlabelled")
    cases = tuple(case.changed(case_id=f"{PREFIX}{case.case_id}", label=None, more_labels=()) for case in inputs.cases)
    if taken := sorted({case.case_id for case in cases} & {case.case_id for case in dataset.cases}):
        raise PlanError(
            f"--unlabelled: {cases_text(taken)} would be the name of a further case, and is one of the dataset's; rename the images"
        )
    further = dataset.changed(cases=cases, doubts=())
    hashes = hash_dataset(further, roots)
    _check_apart(further, _with_unused(dataset, student, roots, place), student, work_folder(roots.work, dataset.name))
    return Further(cases, hashes)


def _with_unused(dataset: Dataset, student: Student, roots: Roots, place: str | None) -> Dataset:
    """Return a plan's dataset with the images that are there of cases that the plan does not use; these are hashed here."""
    known, unused = {case.case_id for case in dataset.cases}, []
    for case in _every_case(student.plan, roots, place):
        if case.case_id not in known:
            there = tuple(found for found in map(_there, case.images) if found is not None)
            # Without any it still tells whose images its patient's are.
            unused.append(case.changed(images=there, label=None, more_labels=()))
    if unused:
        hash_dataset(dataset.changed(cases=tuple(unused), doubts=()), roots)
    return dataset.changed(cases=(*dataset.cases, *unused), doubts=())


def _there(image: ImageFile) -> ImageFile | None:
    """Return an image without those files of its series that are gone; None if nothing of it is there."""
    folder, parts = Path(image.path), parts_of(image)
    left = [part for part in parts if Path(part).is_file()]
    if len(left) == len(parts):
        return image
    # Any slice tells a series; a header tells nothing without its voxels.
    is_part_there = folder.is_dir() and left
    return image.changed(parts=tuple(str(Path(part).relative_to(folder)) for part in left)) if is_part_there else None


def _every_case(plan: Plan, roots: Roots, place: str | None) -> Sequence[Case]:
    """Return the cases of a plan's dataset, whether the plan uses them or not; without excluded ones if they are past reading."""
    open_to_all = plan.dataset.changed(excluded=(), kept_back=(), listed=None)
    try:
        return find_planned_dataset(plan.changed(dataset=open_to_all), roots, place).cases
    except InputError as error:
        if not plan.dataset.excluded:
            raise
        logger.warning(
            "--unlabelled: excluded cases are not looked for among the images, as the dataset cannot be read with them (%s)",
            error,
        )
    but_excluded = open_to_all.changed(excluded=plan.dataset.excluded)
    return find_planned_dataset(plan.changed(dataset=but_excluded), roots, place).cases


def _check_apart(further: Dataset, dataset: Dataset, student: Student, work: WorkFolder) -> None:
    """Refuse what is kept from the student, or of patients who are, whatever it is called: teachers would be asked about it."""
    groups = {case.case_id: case.group for case in dataset.cases}
    patients = _patients_apart(student, groups)
    cache = HashCache(work.hashes)
    held: dict[str, tuple[str, str]] = {}
    for case in dataset.cases:
        if (why := _why_apart(case, student, patients)) is not None:
            held |= dict.fromkeys(_image_digests(case, cache), (case.case_id, why))
    for case in further.cases:
        if case.group in patients:
            raise PlanError(
                f"--unlabelled: {case.images[0].path} is of patient {case.group}, of whom fold {student.fold} holds out cases, or the plan keeps "
                "some back; leave it out"
            )
        if found := [held[digest] for digest in _image_digests(case, cache) if digest in held]:
            known, why = found[0]
            raise PlanError(
                f"--unlabelled: {case.images[0].path} is an image of case {known}, {why}; take it out of the folder"
            )


def _is_kept_back(case_id: str, plan: Plan) -> bool:
    """Tell whether a case is in none of the lists of a split file, whether planning knew of it or not."""
    return case_id not in plan.dataset.excluded and not plan.dataset.selection().uses(case_id)


def _patients_apart(student: Student, groups: Mapping[str, str | None]) -> frozenset[str]:
    """Return the patients of whom cases judge the student, or are kept back."""
    kept_back = (group for case_id, group in groups.items() if _is_kept_back(case_id, student.plan))
    return student.patients(groups) | {group for group in kept_back if group is not None}


def _why_apart(case: Case, student: Student, patients: Collection[str]) -> str | None:
    """Return why no image of a case may be learnt from, as what follows its name; None if it may."""
    if case.case_id in student.judges:
        return f"which fold {student.fold} holds out"
    if _is_kept_back(case.case_id, student.plan):
        return "which the plan keeps back from training"
    if case.group in patients:
        return f"of a patient of whom other cases fold {student.fold} holds out, or the plan keeps back"
    return "which the plan excludes" if case.case_id in student.plan.dataset.excluded else None


def _image_digests(case: Case, cache: HashCache) -> list[str]:
    """Return the hashes of a case's images, which are read where another process has just replaced the cache by one that lacks them."""
    images = case.changed(label=None, more_labels=())
    states = cache.case_states(images)
    if states is None:
        states = hash_files(case_files(images))
    return [state.digest for state in states.values()]


class Learnt(NamedTuple):
    """Further cases that are stored for training."""

    keys: dict[str, str]
    """Address in the store by case_id."""
    trust: dict[str, float]
    """How far teachers are believed, by case_id; above 0."""


def stored_key(case_key: str) -> str:
    """Return the address of a further case in the store: what the first teacher finds in it tells where patches are centred.

    Args:
        case_key: under which is kept what that teacher finds.
    """
    return content_hash([STORED_VERSION, "unlabelled", case_key])


def store_further(taught: TaughtCase, audience: Audience, cases: Path) -> None:
    """Store a further case, all of it without a reference.

    Args:
        taught: the case, and what the first teacher finds in it.
        audience: for whom.
        cases: the store.

    Raises:
        InputError: the case cannot be read.
        StorageError: the store cannot be written.
    """
    spec, targets = audience.preprocessing, audience.targets
    image = read_case_image(taught.case, spec.reading, axis_order(spec))
    prepared = prepare_image(image.image, image.spacing_mm, spec, covered=image.covered)
    found = decided(taught.volumes, targets)
    locations, starts = class_locations(found, targets, np.random.default_rng(SEED))
    voxels = dict(zip(*count_values(found), strict=True))
    shape, spacing = prepared.image.shape, prepared.target_spacing_mm
    record = StoredCase(
        case_id=taught.case.case_id,
        shape=(shape[1], shape[2], shape[3]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        num_channels=shape[0],
        class_voxels=tuple(voxels.get(index, 0) for index in range(targets.num_classes)),
        location_starts=tuple(starts),
        has_ignore_label=targets.ignore_value is not None,
    )
    nothing: Segmentation = np.full(shape[1:], IGNORE, np.int8)
    store_case(cases, stored_key(taught.key), record, CaseArrays(prepared.image, nothing, locations))


class View(NamedTuple):
    """What is asked of one teacher about all further cases."""

    teacher: FoundTeacher
    cases: list[SeenCase]
    mirroring: bool | None
    """As for a `Desk`."""


def further_views(
    further: Further, teachers: Sequence[FoundTeacher], student: Student, audience: Audience
) -> list[View]:
    """Return whose opinions of further cases are asked for: each teacher's, or a single one's with and without mirrored views.

    Args:
        further: the cases.
        teachers: of the student; the first one's opinion, as planned, stands first.
        student: that learns from them.
        audience: the same, as teachers know it.

    Raises:
        PlanError: a teacher takes channels that the student does not.
    """
    asked: list[tuple[FoundTeacher, bool | None]] = [(teacher, None) for teacher in teachers]
    inference = teachers[0].configuration.inference
    if len(teachers) == 1 and inference.mirroring_axes:
        asked.append((teachers[0], not inference.mirroring))
    elif len(teachers) == 1:
        logger.warning(
            "--unlabelled: a single teacher that mirrors nothing is believed wholly; give another one, with which it may agree"
        )
    views = []
    for teacher, mirroring in asked:
        cases = seen_further(further, [teacher], student, audience, mirroring=mirroring)
        views.append(View(teacher, cases, mirroring))
    return views


def learn_from(views: Sequence[View], audience: Audience, room: Room) -> Learnt:
    """Have teachers look at further cases, and store those about which they agree at all.

    How far they are believed is how well they agree.

    Args:
        views: of `further_views`.
        audience: the student, as teachers know it.
        room: where all is kept.

    Raises:
        StorageError: there is not room for it.
        TumorsegError: cases failed.
        Stopped: a signal asked to.
    """
    opinions = [room.look_at(view.cases, [view.teacher], audience, mirroring=view.mirroring) for view in views]
    trust = {}
    for same in zip(*opinions, strict=True):
        trust[same[0].case.case_id] = agreement([one.volumes for one in same], audience.targets)
    if doubted := sorted(case_id for case_id, value in trust.items() if value == 0):
        logger.warning("left out, as teachers agree on nothing in them: %s", cases_text(doubted))
    believed = [one for one in opinions[0] if trust[one.case.case_id] > 0]
    keys = {one.case.case_id: stored_key(one.key) for one in believed}
    for one in believed:
        if room.may_write and not is_stored(room.cases, keys[one.case.case_id]):
            store_further(one, audience, room.cases)
    return Learnt(keys, {case_id: trust[case_id] for case_id in keys})


def seen_further(
    further: Further,
    teachers: Sequence[FoundTeacher],
    student: Student,
    audience: Audience,
    *,
    mirroring: bool | None = None,
) -> list[SeenCase]:
    """Return further cases for teachers to look at.

    Args:
        further: the cases.
        teachers: that look at them together.
        student: that learns.
        audience: the same, as teachers know it.
        mirroring: as for a `Desk`.

    Raises:
        PlanError: a teacher takes channels that the student does not.
    """
    found = []
    for case in further.cases:
        key = key_of(teachers, audience, [further.hashes[case.case_id]], mirroring=mirroring)
        own = tuple(own_further(case, teacher, student) for teacher in teachers)
        found.append(SeenCase(case, own, key))
    return found


def own_further(case: Case, teacher: FoundTeacher, student: Student) -> Case:
    """Return a further case with the channels that a teacher takes.

    Raises:
        PlanError: the teacher takes a channel that the student does not.
    """
    ours = [channel.name for channel in student.plan.dataset.channels]
    theirs = [channel.name for channel in teacher.plan.dataset.channels]
    if lacking := [name for name in theirs if name not in ours]:
        raise PlanError(
            f"--unlabelled: {teacher.name} takes {', '.join(lacking)}, which further cases are not asked for, as the student does not take it; give "
            "teachers of the student's channels"
        )
    return case.changed(images=tuple(case.images[ours.index(name)] for name in theirs))
