"""Teachers of one training: what its record says of them, networks that look at its patches, and what they find in whole cases."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from tumorseg.engine.distillation import Teacher, Teaching
from tumorseg.engine.feed import Data
from tumorseg.engine.hints import Hints
from tumorseg.engine.learner import Learner
from tumorseg.engine.taught_cases import TaughtCases, Told
from tumorseg.errors import PlanError, StorageError
from tumorseg.ops.quantised import num_stored
from tumorseg.schema.base import content_hash
from tumorseg.schema.cases import preprocessing_of
from tumorseg.schema.dataset import Case
from tumorseg.schema.distillation import TeacherNote, TeachingWay
from tumorseg.schema.extensions import External
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.quantities import GB
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.sources.regions import select_channels
from tumorseg.stages.distillation.opening import FoundTeacher, Student, check_weights
from tumorseg.stages.distillation.unlabelled import Further, Learnt, further_views, learn_from, seen_further
from tumorseg.stages.distillation.whole_cases import Audience, Room, SeenCase, key_of
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.stages.opening.loaded import Roots, check_content, open_planned_dataset
from tumorseg.storage.cases import CaseStore
from tumorseg.storage.layout import work_folder
from tumorseg.storage.locks import hold_folder
from tumorseg.storage.probability_cache import ProbabilityCache
from tumorseg.storage.taught_layout import taught_folder


class Source(NamedTuple):
    """Where a student's cases lie, and what may be kept of them."""

    roots: Roots
    """Data and work folder."""
    dataset: str | None
    """Where the dataset is, if it moved."""
    cache_gb: float
    """Most that is kept of what teachers find in whole cases."""


def way_of(teacher: FoundTeacher, student: Student) -> TeachingWay:
    """Return whether a teacher can look at the student's own patches, or has to see whole cases before.

    It can where its plan prepares images in the same way, and its network takes patches of the student's size.
    """
    ours, theirs = student.plan.configurations[student.configuration], teacher.configuration
    is_same_grid = preprocessing_of(student.plan, ours) == preprocessing_of(teacher.plan, theirs)
    channels = [[channel.name for channel in plan.dataset.channels] for plan in (student.plan, teacher.plan)]
    if not is_same_grid or channels[0] != channels[1]:
        return "cases"
    if isinstance(theirs.network, External):
        # Of which sizes it takes nothing is known but this.
        return "patches" if theirs.patch_size == ours.patch_size else "cases"
    return "patches" if theirs.network.patch_problem(ours.patch_size) is None else "cases"


def note_of(teacher: FoundTeacher, way: TeachingWay) -> TeacherNote:
    """Return what a training's record says of a teacher."""
    return TeacherNote(
        plan_name=teacher.plan.name,
        plan_hash=teacher.plan_hash,
        configuration=teacher.configuration_name,
        fold=teacher.fold,
        weights=teacher.weights,
        way=way,
        num_held_out=len(teacher.held_out),
        held_out=content_hash(sorted(teacher.held_out)),
    )


class FoundTeachers:
    """The teachers of a student, as its training needs them."""

    def __init__(
        self, student: Student, teachers: Sequence[FoundTeacher], source: Source, further: Further | None = None
    ) -> None:
        """Decide what each looks at.

        Args:
            student: that learns.
            teachers: as `find_teachers` has found them.
            source: of the cases.
            further: cases without a reference.

        Raises:
            PlanError: what teachers find before augmentation would not be true of the patches that come of it.
        """
        self._student, self._source, self._all, self._further = student, source, list(teachers), further
        ways = [way_of(teacher, student) for teacher in teachers]
        self.notes = tuple(note_of(teacher, way) for teacher, way in zip(teachers, ways, strict=True))
        self.unlabelled = None if further is None else further.identity
        self._present = [teacher for teacher, way in zip(teachers, ways, strict=True) if way == "patches"]
        self._earlier = [teacher for teacher, way in zip(teachers, ways, strict=True) if way == "cases"]
        self._loaded: tuple[Teacher, ...] | None = None
        if self._earlier:
            _check_augmentation(student, self._earlier[0])
        _check_hints(student, has_any=bool(self._present))

    def extended(self, data: Data, device: str, *, is_first: bool) -> Data:
        """Return the cases of a training with what teachers found in them as wholes, if any has to, and with further ones.

        Args:
            data: the cases.
            device: where teachers compute.
            is_first: whether this is the process that writes files; the others come once all is there.

        Raises:
            StorageError: there is not room for it, or another process is at it.
            TumorsegError: cases failed.
            Stopped: a signal asked to.
        """
        if not self._earlier and self._further is None:
            return data
        audience, plan = self._audience, self._student.plan
        cases = seen_cases(plan, self._earlier, audience, self._source, data.training.case_ids) if self._earlier else []
        beyond = [] if self._further is None else further_views(self._further, self._all, self._student, audience)
        if self._further is not None and self._earlier:
            cases += seen_further(self._further, self._earlier, self._student, audience)
        wanted = {one.key for one in cases} | {one.key for view in beyond for one in view.cases}
        with self._room(device, wanted, is_first=is_first) as room:
            learnt = learn_from(beyond, audience, room) if beyond else Learnt({}, {})
            seen = room.look_at(cases, self._earlier, audience) if cases else []
        volumes = {one.case.case_id: one.volumes for one in seen}
        told = Told(num_stored(audience.targets), volumes, learnt.trust)
        further = CaseStore(room.cases, learnt.keys) if learnt.keys else None
        return data._replace(training=TaughtCases(data.training, told, further))

    @contextmanager
    def _room(self, device: str, wanted: Collection[str], *, is_first: bool) -> Iterator[Room]:
        """Hold the folder of what these teachers find, in the process that writes it."""
        work = work_folder(self._source.roots.work, self._student.plan.dataset.name)
        # Of these cases alone, so that nobody who wants others ever makes room at the cost of a training that reads them.
        folder = taught_folder(work, key_of(self._all, self._audience, sorted(wanted)))
        if not is_first:
            yield Room(folder, work.cases, None, device)
            return
        with hold_folder(folder, doing="filled by teachers", error=StorageError):
            # What is there already stays, however little is to be kept now: another training may be reading it.
            cache = ProbabilityCache(folder, max(round(self._source.cache_gb * GB), _kept_bytes(folder)), wanted)
            yield Room(folder, work.cases, cache, device)

    @property
    def _audience(self) -> Audience:
        plan = self._student.plan
        configuration = plan.configurations[self._student.configuration]
        return Audience(preprocessing_of(plan, configuration), targets_of(plan.dataset))

    def teaching(self, plan: Plan, configuration: Configuration, learner: Learner) -> Teaching:
        """Return the teachers that look at patches, loaded once however often a training is begun.

        Raises:
            PlanError: one was trained again meanwhile, or hints are asked for that none can give.
        """
        if self._loaded is None:
            self._loaded = tuple(_load(teacher, learner.device) for teacher in self._present)
        assert plan.training.distillation is not None  # or it would have no teachers
        spec, targets = plan.training.distillation, targets_of(plan.dataset)
        teaching = Teaching(spec, targets, self._loaded, num_read=len(self._earlier))
        if spec.hints > 0:
            teaching.hints = _hints(teaching, plan, configuration, learner)
        return teaching


def _kept_bytes(folder: Path) -> int:
    """Return what whole cases take; not what killed runs left half-written, which goes, nor the lock."""
    kept = (path for case in folder.glob("[!.]*") for path in case.rglob("*"))
    return sum(path.stat().st_size for path in kept if path.is_file())


def _hints(teaching: Teaching, plan: Plan, configuration: Configuration, learner: Learner) -> Hints:
    first = teaching.first
    assert first is not None  # as was checked before anything was done
    numbers = (num_inputs(configuration, targets_of(plan.dataset)), first.num_channels)
    probes = [torch.zeros(1, number, *configuration.patch_size, device=learner.device) for number in numbers]
    return Hints(learner.network, first.network, probes, seed=plan.training.seed)


def _check_hints(student: Student, *, has_any: bool) -> None:
    spec = student.plan.training.distillation
    if spec is not None and spec.hints > 0 and not has_any:
        raise PlanError(
            "--hints: no teacher looks at the student's patches, as their plans prepare images otherwise, or their networks take no patches of that "
            "size; leave out --hints, or give another teacher"
        )


def _load(teacher: FoundTeacher, device: torch.device) -> Teacher:
    # Torch alone: it is the step that decides about precision, and no engine is made for so many voxels.
    model = load_model([teacher.folder], str(device), runtime=RuntimeOptions(engine="torch"))
    check_weights(teacher, model.weight_hashes[0])
    network = model.networks[0].requires_grad_(False)
    return Teacher(network, targets_of(teacher.plan.dataset), len(teacher.configuration.normalization))


def _check_augmentation(student: Student, teacher: FoundTeacher) -> None:
    transforms = student.plan.configurations[student.configuration].augmentation.transforms
    for transform in transforms:
        if isinstance(transform, External) or transform.changes_labels:
            raise PlanError(
                f"{teacher.name} has to see whole cases, as its plan prepares images otherwise than the student's, or its network takes no patches "
                f"of that size; {transform.name} would make patches of which it knows nothing; leave {transform.name} out of the student's augmentation, "
                "or give teachers that can look at its patches"
            )


def seen_cases(
    plan: Plan, teachers: Sequence[FoundTeacher], audience: Audience, source: Source, case_ids: Sequence[str]
) -> list[SeenCase]:
    """Return the student's training cases, with the channels that each teacher takes.

    Args:
        plan: the student's.
        teachers: that look at whole cases.
        audience: for whom.
        source: of the cases.
        case_ids: those of interest.

    Raises:
        PlanError: the dataset is not what a teacher's plan was made for.
        InputError: a case lacks a channel that a teacher takes, or files are missing.
    """
    dataset = open_planned_dataset(plan, source.roots, source.dataset)
    hashes = [check_content(plan, dataset, source.roots)]
    by_id = {case.case_id: case for case in dataset.cases}
    own: list[Mapping[str, Case]] = []
    for teacher in teachers:
        names = [channel.name for channel in teacher.plan.dataset.channels]
        if teacher.origin is None:
            # Of nnU-Net's datasets there is nothing but this one.
            theirs = select_channels(dataset, names)
            hashes.append(hashes[0])
        else:
            theirs = open_planned_dataset(teacher.plan, source.roots, source.dataset)
            hashes.append(check_content(teacher.plan, theirs, source.roots))
        own.append({case.case_id: case for case in theirs.cases})
    found = []
    for case_id in case_ids:
        if lacking := [one.name for one, cases in zip(teachers, own, strict=True) if case_id not in cases]:
            raise PlanError(
                f"{lacking[0]} was made for a dataset without {case_id}, of which it is to tell; plan both with the same --exclude"
            )
        key = key_of(teachers, audience, [each[case_id] for each in hashes])
        found.append(SeenCase(by_id[case_id], tuple(cases[case_id] for cases in own), key))
    return found
