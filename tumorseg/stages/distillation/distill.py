"""Train a fold that learns from models as well as from the reference."""

from pathlib import Path

from pydantic import Field

from tumorseg.errors import PlanError
from tumorseg.schema.base import Record
from tumorseg.stages.distillation.first_weights import check_first_weights
from tumorseg.stages.distillation.lessons import FoundTeachers, Source
from tumorseg.stages.distillation.opening import Student, find_teachers
from tumorseg.stages.distillation.student import LessonOptions, keep_student, student_path, student_plan
from tumorseg.stages.distillation.unlabelled import find_further
from tumorseg.stages.opening.fold_folders import begin_run
from tumorseg.stages.opening.loaded import check_content, choose_configuration, open_planned_dataset
from tumorseg.stages.training.request import Trained, TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.storage.layout import fold_folder, work_folder


class DistillRequest(Record):
    """Options of `distill`."""

    training: TrainRequest
    """As for `train`, with the plan that was given."""
    teachers: tuple[Path, ...] = Field(min_length=1)
    """Model folders, folds' folders, folders of nnU-Net, or saved ensembles."""
    plan_path: Path
    """File of the plan."""
    lessons: LessonOptions = LessonOptions()
    """How to learn from them."""
    cache_gb: float = Field(default=20.0, ge=0)
    """Most that is kept of what teachers find in whole cases."""
    unlabelled: tuple[Path, ...] = ()
    """Images without a reference to learn from too, as `predict -i` takes them."""
    output: Path | None = None
    """Where the student's own plan is written; beside the other one if None."""


def distill(request: DistillRequest) -> Trained:
    """Train a fold of a student to its planned end, going on from a checkpoint if there is one.

    The student's plan is a plan of its own, so that the same plan trained alone lies beside it.

    Raises:
        PlanError: a teacher knows what judges the student, or that cannot be told, given weights (`--init`) are known to have seen it, or the
            plan says otherwise; and as for `train`.
        TumorsegError: as for `train`.
    """
    given = request.training
    path = request.output or student_path(request.plan_path)
    plan = student_plan(given.plan, request.lessons, name=path.stem)
    name, _ = choose_configuration(plan, given.configuration)
    begin_run(plan, name, given.fold, given.options)  # whether there is such a fold
    student = Student(plan, name, given.fold)
    dataset = open_planned_dataset(plan, given.roots, given.dataset)
    source = Source(given.roots, given.dataset, request.cache_gb)
    found = find_teachers(request.teachers, student, dataset.cases)
    if given.init is not None:
        model = work_folder(given.roots.work, plan.dataset.name).model(plan.name, name)
        check_first_weights(given.init, student, dataset.cases, own=fold_folder(model, given.fold).root)
    further = None
    if request.unlabelled:
        check_content(plan, dataset, given.roots)  # so that what judges the student is known by its content
        further = find_further(request.unlabelled, student, dataset, given.roots, place=given.dataset)
    teachers = FoundTeachers(student, found, source, further)
    if plan is not given.plan:
        keep_student(plan, path)
    elif request.output is not None:
        raise PlanError(
            f"-o {request.output}: plan {plan.name} is a student's already, and nothing is written; leave out -o"
        )
    return train(given.changed(plan=plan), teachers)
