"""The models that are to teach: found, and refused where they know what judges the student, or where that cannot be told."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from tumorseg.engine.distillation import parts_of
from tumorseg.errors import PlanError
from tumorseg.reports.tables import cases_text
from tumorseg.schema.dataset import Case
from tumorseg.schema.initial_weights import InitialWeights
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.planned_dataset import PlannedDataset
from tumorseg.schema.targets import targets_of
from tumorseg.stages.distillation.nnunet_folds import held_out_by_nnunet, nnunet_folds
from tumorseg.stages.inference.ensemble_folder import read_ensemble
from tumorseg.stages.inference.folds import is_finished
from tumorseg.stages.inference.nnunet_model import is_nnunet_model
from tumorseg.stages.opening.fold_folders import Run, fold_plan, model_folds, read_run
from tumorseg.storage.ensemble_layout import EnsembleFolder
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.json_files import read_record
from tumorseg.storage.layout import ALL_CASES, FoldFolder, is_fold_folder

logger = logging.getLogger(__name__)

ADVICE = "give models of the same fold, trained with other seeds, networks or configurations"


class Student(NamedTuple):
    """The fold that is to learn."""

    plan: Plan
    configuration: str
    fold: str

    @property
    def judges(self) -> frozenset[str]:
        """Return the cases that judge it: those that its fold does not train on; none of a fold of all cases."""
        return frozenset() if self.fold == ALL_CASES else self.plan.not_trained_on(int(self.fold))

    @property
    def kept_back(self) -> frozenset[str]:
        """Return the cases that its plan keeps back from every fold, such as a test set, as far as planning knew of them."""
        return frozenset(self.plan.dataset.kept_back)

    def patients(self, groups: Mapping[str, str | None]) -> frozenset[str]:
        """Return the patients of whom cases judge it.

        Args:
            groups: of all cases that its plan uses, None for one that is its own patient.
        """
        known = (groups.get(case_id) for case_id in self.judges)
        return frozenset(group for group in known if group is not None)

    def apart(self, groups: Mapping[str, str | None]) -> frozenset[str]:
        """Return the cases that must have shaped nothing that it learns from: its judges, and all others of their patients."""
        patients = self.patients(groups)
        return self.judges | {case_id for case_id, group in groups.items() if group in patients}


class FoundTeacher(NamedTuple):
    """A trained fold that may teach."""

    folder: Path
    plan: Plan
    """With train's own overrides resolved."""
    plan_hash: str
    """Of the plan that its training was given."""
    configuration_name: str
    fold: str
    weights: str
    """Hash of its checkpoint."""
    held_out: frozenset[str]
    """Cases of its dataset that it was not trained on, as far as its plan or folder names them."""
    origin: Run | None = None
    """What its folder was begun with; None for a fold of nnU-Net."""

    @property
    def name(self) -> str:
        """Return what messages call it."""
        return f"{self.plan.name}/{self.configuration_name}, fold {self.fold} ({self.folder})"

    @property
    def configuration(self) -> Configuration:
        """Return the one that was trained."""
        return self.plan.configurations[self.configuration_name]

    @property
    def tells_all(self) -> bool:
        """Return whether its plan tells every case that has shaped it.

        Of a teacher's own teachers is known only that they have not seen what it holds out itself; of a fold of nnU-Net only that.
        """
        return self.origin is not None and not self.origin.teachers

    def has_seen(self, case_id: str) -> bool:
        """Tell whether a case may have shaped it."""
        is_used = not self.tells_all or self.plan.dataset.selection().uses(case_id)
        return is_used and case_id not in self.held_out


def find_teachers(paths: Sequence[Path], student: Student, cases: Sequence[Case]) -> list[FoundTeacher]:
    """Return the teachers that paths name, each once; of a model folder the fold that the student trains.

    Args:
        paths: model folders, folds' folders, folders of nnU-Net, or saved ensembles, whose models all teach.
        student: that is to learn from them.
        cases: of the dataset, those that the student's plan uses, whose groups tell patients.

    Raises:
        PlanError: there is no such training or fold, it is not finished, a cascade, of another question, or it was trained on a case that judges
            the student, or on its patient, or that cannot be told.
        StorageError: a file is missing or damaged.
    """
    named = chain.from_iterable(_folds_of(path, student) for path in paths)
    found = [_read(folder) for folder in dict.fromkeys(folder.resolve() for folder in named)]
    if not found:
        raise PlanError(f"{', '.join(map(str, paths))}: no fold is trained to its end, so that none can teach")
    for teacher in found:
        _check_question(teacher, student)
        check_unseen(teacher, student, {case.case_id: case.group for case in cases})
    # Weights that lie in two places, as an ensemble's do, count once.
    by_weights: dict[str, FoundTeacher] = {}
    for teacher in found:
        by_weights.setdefault(teacher.weights, teacher)
    return list(by_weights.values())


def _folds_of(path: Path, student: Student) -> Iterator[Path]:
    """Yield the folders of the folds that a path names."""
    if EnsembleFolder(path).is_there():
        for member in read_ensemble(path).members:
            yield from _folds_of(path / member.folder, student)
    elif is_nnunet_model(path):
        yield from nnunet_folds(path, student.fold)
    elif is_fold_folder(path):
        yield path
    else:
        yield from _same_fold(path, student.fold)


def _same_fold(model: Path, fold: str) -> Iterator[Path]:
    """Yield the fold of a model folder that may teach a fold; where nothing is held out, each may that is finished."""
    by_name = {folder.root.name.removeprefix("fold_"): folder for folder in model_folds(model)}
    if fold in by_name:
        yield by_name[fold].root
    elif fold == ALL_CASES:
        yield from (folder.root for folder in by_name.values() if is_finished(folder))
    else:
        raise PlanError(
            f"has no fold {fold}, the only one that may teach fold {fold}: others have seen cases that it holds out; it has "
            f"{', '.join(sorted(by_name))}; train fold {fold} of it",
            file=model,
        )


def _read(folder: Path) -> FoundTeacher:
    if is_nnunet_model(folder):
        return _read_nnunet(folder)
    fold = FoldFolder(folder)
    plan, run = fold_plan(fold), read_run(fold)
    if not is_finished(fold):
        raise PlanError("is not trained to its end, so that it cannot teach; let its training end", file=folder)
    held_out = frozenset() if run.fold == ALL_CASES else plan.not_trained_on(int(run.fold))
    weights = hash_files([str(fold.latest)])[str(fold.latest)].digest
    return FoundTeacher(folder, plan, run.plan_hash, run.configuration, run.fold, weights, held_out, run)


def _read_nnunet(folder: Path) -> FoundTeacher:
    parts, held_out = held_out_by_nnunet(folder)
    (name,) = parts.plan.configurations
    checkpoint = str(parts.checkpoints[0])
    weights = hash_files([checkpoint])[checkpoint].digest
    fold = folder.name.removeprefix("fold_")
    return FoundTeacher(folder, parts.plan, weights, name, fold, weights, held_out)


def _check_question(teacher: FoundTeacher, student: Student) -> None:
    """Refuse a teacher whose answers are to another question."""
    if teacher.configuration.previous_configuration is not None:
        raise PlanError(
            f"{teacher.name} is a cascade, whose previous models have seen cases that fold {student.fold} holds out; {ADVICE}"
        )
    theirs, ours = targets_of(teacher.plan.dataset), targets_of(student.plan.dataset)
    # In one dataset a name has one value; nnU-Net's datasets have values of their own.
    has_same_values = teacher.origin is None or theirs.values_by_name == ours.values_by_name
    if not has_same_values or parts_of(theirs, ours) is None:
        raise PlanError(
            f"{teacher.name} finds {_outputs(teacher.plan)}, which do not tell the student's {_outputs(student.plan)}; give models of the same "
            "labels and regions"
        )
    # Of nnU-Net's datasets names and contents are their own; cases are told by their names alone.
    if teacher.origin is None:
        return
    one, other = teacher.plan.dataset, student.plan.dataset
    if one.name != other.name or not may_be_same(one, other):
        raise PlanError(
            f"{teacher.name} was trained on {one.name} ({one.content_hash}), the student's plan is for {other.name} ({other.content_hash}), so "
            f"that it cannot be told what it has seen; {ADVICE}"
        )


def may_be_same(one: PlannedDataset, other: PlannedDataset) -> bool:
    """Return whether nothing tells that the cases of two plans' datasets are not the same; what has no hash cannot be told."""
    hashes = {one.content_hash, other.content_hash}
    names = [[channel.name for channel in dataset.channels] for dataset in (one, other)]
    # Of other channels the files are others, and each plan's content is looked at by itself.
    return None not in hashes and (len(hashes) == 1 or names[0] != names[1])


def _outputs(plan: Plan) -> str:
    targets = targets_of(plan.dataset)
    values = zip(targets.label_names[1:], targets.label_values[1:], strict=True)
    labels = ", ".join(f"{name}={value}" for name, value in values)
    regions = ", ".join(targets.region_names)
    return f"labels {labels}" + (f" in regions {regions}" if regions else "")


def check_unseen(teacher: FoundTeacher, student: Student, groups: Mapping[str, str | None]) -> None:
    """Refuse a teacher that was trained on a case that judges the student, or on another of the same patient, or on one that is kept back.

    Args:
        teacher: that was found.
        student: that is to learn from it.
        groups: of all cases that the student's plan uses, None for one that is its own patient.

    Raises:
        PlanError: it was, or that cannot be told.
    """
    judges = student.judges
    _check_kept_back(teacher, student)
    if seen := sorted(filter(teacher.has_seen, judges)):
        raise PlanError(f"{teacher.name} {_seen_text(teacher, seen)}, which fold {student.fold} holds out; {ADVICE}")
    if seen := sorted(filter(teacher.has_seen, student.apart(groups))):
        raise PlanError(
            f"{teacher.name} {_seen_text(teacher, seen)}, of patients of whom fold {student.fold} holds out other cases; {ADVICE}, with folds "
            "that do not part a patient's cases"
        )
    # Further cases of these patients, of which only the teacher's plan knew.
    if student.patients(groups) and teacher.plan.dataset.selection() != student.plan.dataset.selection():
        raise PlanError(
            f"{teacher.name} was trained on other cases of {student.plan.dataset.name} than the student's plan uses, so that it cannot be told whether "
            f"they are of patients whom fold {student.fold} holds out; plan both with the same --exclude and --splits"
        )
    if judges or student.plan.dataset.listed is not None:
        _check_origin(teacher, student, student.apart(groups))


def _check_kept_back(teacher: FoundTeacher, student: Student) -> None:
    """Refuse a teacher that was trained on what the student's plan keeps back, or of which only its own plan tells."""
    if teacher.origin is None:
        # nnU-Net's folders name what a fold has validated on, and no test set.
        if unknown := sorted(student.kept_back - teacher.held_out):
            logger.warning(
                "%s does not tell whether it was trained on %s, which the student's plan keeps back; scores on them are too good if it was",
                teacher.name,
                cases_text(unknown),
            )
        return
    theirs, ours = teacher.plan.dataset.selection(), student.plan.dataset.selection()
    if seen := sorted(case for case in student.kept_back - teacher.held_out if theirs.uses(case)):
        raise PlanError(
            f"{teacher.name} was trained on {cases_text(seen)}, which the student's plan keeps back from training ({student.plan.name}); plan both "
            "with the same --splits"
        )
    # What lies in no list is kept back, too, of which planning need not have known.
    if ours.listed is not None and theirs != ours:
        raise PlanError(
            f"{teacher.name} was planned for other cases of {student.plan.dataset.name} than the student's plan lists, so that it cannot be told "
            "whether it was trained on some that this one keeps back; plan both with the same --exclude and --splits"
        )


def _seen_text(teacher: FoundTeacher, seen: Sequence[str]) -> str:
    what = "was trained on" if teacher.tells_all else "does not tell that it never saw"
    return f"{what} {cases_text(seen)}"


def _check_origin(teacher: FoundTeacher, student: Student, apart: frozenset[str]) -> None:
    """Refuse a teacher that was begun with weights of which it cannot be told that they have not seen what is kept apart."""
    if teacher.origin is None or teacher.origin.init is None:
        return
    source = source_of(FoldFolder(teacher.folder), teacher.origin.init)
    if source is None or not _knows_cases(source, teacher.plan.dataset.content_hash):
        raise PlanError(
            f"{teacher.name} was begun with given weights (--init), and it cannot be told whether these have seen what fold {student.fold} "
            "holds out; give models whose weights are their own, or were given by a fold of this dataset that is still there"
        )
    plan, run = fold_plan(source), read_run(source)
    held_out = frozenset() if run.fold == ALL_CASES else plan.not_trained_on(int(run.fold))
    if seen := sorted(apart - held_out):
        raise PlanError(
            f"{teacher.name} was begun with the weights of {source.root}, which was not kept from {cases_text(seen)}, which fold {student.fold} "
            f"holds out, they or others of their patients; {ADVICE}"
        )


def _knows_cases(source: FoldFolder, content: str | None) -> bool:
    """Return whether a fold's plan tells all that has shaped its weights, of a dataset of the same content."""
    own = fold_plan(source).dataset.content_hash
    run = read_run(source)
    # The previous models of a cascade have seen what its own fold holds out.
    return own is not None and own == content and run.init is None and run.previous is None


def source_of(folder: FoldFolder, init: str) -> FoldFolder | None:
    """Return the fold that gave another its first weights, if it is there as it was.

    Args:
        folder: of the fold that was begun with them.
        init: the hash of their file.

    Raises:
        StorageError: a file is damaged.
    """
    notes = folder.init
    if not notes.is_file():
        return None
    path = Path(read_record(InitialWeights, notes, error=PlanError).source)
    source = FoldFolder(path.parent)
    if not path.is_file() or not is_fold_folder(source.root):
        return None
    return source if hash_files([str(path)])[str(path)].digest == init else None


def check_weights(teacher: FoundTeacher, weights: str) -> None:
    """Refuse weights that another training put where a teacher's were.

    Raises:
        PlanError: they are others.
    """
    if weights != teacher.weights:
        raise PlanError(
            "was trained meanwhile; give the command again when no training of it runs", file=teacher.folder
        )
