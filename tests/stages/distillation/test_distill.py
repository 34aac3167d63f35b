import json

import pytest
import torch

from tests.stages.selection.conftest import CONFIGURATION, small_plan, write_fold
from tumorseg.errors import PlanError
from tumorseg.schema.base import record_hash
from tumorseg.stages.distillation.distill import DistillRequest, distill
from tumorseg.stages.distillation.student import LessonOptions, student_path
from tumorseg.stages.opening.fold_folders import TrainOptions, read_run
from tumorseg.stages.opening.loaded import Roots, read_plan
from tumorseg.stages.selection.candidates import find_candidates
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.stages.tuning.request import TuneRequest
from tumorseg.stages.tuning.tune import tune
from tumorseg.storage.checkpoints import load_checkpoint
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import fold_folder, work_folder

pytestmark = pytest.mark.slow


class School:
    """A plan to be a student's, and trained folds of others below one work folder."""

    def __init__(self, toy, root):
        self.roots = Roots(data_root=toy.roots.data_root, work=root / "runs")
        work = self.roots.work / "Toy"
        work.mkdir(parents=True)
        (work / "source.json").write_bytes((toy.roots.work / "Toy" / "source.json").read_bytes())
        self.plan, self.path = small_plan(toy.plan, "student"), root / "student.json"
        write_record(self.path, self.plan)
        self.teachers = {}
        for seed, (name, changes) in enumerate({"near": {}, "far": {"transpose": (2, 0, 1)}}.items()):
            plan = small_plan(toy.plan, name, **changes)
            folder = fold_folder(self.model(name), 0)
            write_fold(folder, plan, seed=seed)
            self.teachers[name] = folder.root

    def model(self, name):
        return work_folder(self.roots.work, "Toy").model(name, CONFIGURATION)

    def asked(self, plan=None, **fields):
        plan = plan or self.plan
        common = {"roots": self.roots, "plan": plan, "fold": "0", "device": "cpu", "jobs": 1, "num_workers": 0}
        return TrainRequest(**common | fields)

    def distilled(self, *names, lessons=None, output=None, path=None, **fields):
        return distill(
            DistillRequest(
                training=self.asked(**fields),
                teachers=tuple(self.teachers[name] for name in names or ("near", "far")),
                plan_path=path or self.path,
                lessons=LessonOptions(**lessons or {}),
                output=output,
            )
        )


@pytest.fixture(scope="module")
def school(toy, tmp_path_factory):
    return School(toy, tmp_path_factory.mktemp("school"))


@pytest.fixture(scope="module")
def student(school):
    """A student of a teacher that looks at its patches, and of one that looks at whole cases."""
    return school.distilled()


def test_a_student_is_a_model_like_any_other_and_says_who_taught_it(school, student):
    plan = read_plan(student_path(school.path))
    assert student.is_finished
    assert student.folder.root == school.model("student__distilled") / "fold_0"
    assert {case.case_id for case in student.metrics.cases} == set(school.plan.folds[0])
    assert plan.parent == record_hash(school.plan)
    assert plan.reasons["training.distillation"].source == "user"
    run = read_run(student.folder)
    assert run.plan_hash == record_hash(plan)
    assert [(one.plan_name, one.way, one.fold, one.num_held_out) for one in run.teachers] == [
        ("near", "patches", "0", 2),
        ("far", "cases", "0", 2),
    ]
    log = [json.loads(line) for line in student.folder.log.read_text().splitlines()]
    assert all(epoch["train_losses"]["distillation"] > 0 for epoch in log)
    (candidate,) = find_candidates([plan], school.roots.work)
    assert list(candidate.folds) == [0]


def test_the_plan_trained_alone_lies_beside_it_and_learns_otherwise(school, student):
    alone = train(school.asked(has_validation=False))
    assert alone.folder.root == school.model("student") / "fold_0"
    weights = [load_checkpoint(one.folder.latest)["network"] for one in (alone, student)]
    assert any(not torch.equal(one, weights[1][name]) for name, one in weights[0].items())


def test_the_same_command_has_nothing_left_to_do(school, student):
    before = student.folder.latest.stat().st_mtime_ns
    again = school.distilled()
    assert again.is_finished
    assert student.folder.latest.stat().st_mtime_ns == before
    # The student's own plan means the same.
    school.distilled(plan=read_plan(student_path(school.path)), path=student_path(school.path))
    assert student.folder.latest.stat().st_mtime_ns == before


def test_other_teachers_do_not_go_on_with_it(school, student):
    with pytest.raises(
        PlanError, match=r"was begun with the teachers near/.*by patches\), far/.*, now the teachers near"
    ):
        school.distilled("near")


def test_a_plan_with_teachers_is_not_trained_without_them(school, student, tmp_path):
    plan = read_plan(student_path(school.path))
    with pytest.raises(
        PlanError, match=r"learns from teachers; run `tumorseg distill -m TEACHER -p student__distilled"
    ):
        train(school.asked(plan))
    with pytest.raises(PlanError, match="trials have no teachers; tune the plan that it was made from"):
        tune(TuneRequest(roots=school.roots, plan=plan, output=tmp_path / "tuned.json", trials=1, device="cpu"))


def test_how_to_learn_is_part_of_the_plan(school, student, tmp_path):
    with pytest.raises(
        PlanError, match=r"holds a student's plan with weight 0.5, temperature 2, hints 0, which was edited or is not"
    ):
        school.distilled(lessons={"temperature": 4.0})
    with pytest.raises(PlanError, match="holds a plan that was made from another one"):
        school.distilled(plan=school.plan.changed(budget=school.plan.budget.changed(num_gpus=2)))
    plan, path = read_plan(student_path(school.path)), student_path(school.path)
    with pytest.raises(PlanError, match="says already how it learns from teachers"):
        school.distilled(plan=plan, path=path, lessons={"weight": 0.3})
    with pytest.raises(PlanError, match="is a student's already, and nothing is written; leave out -o"):
        school.distilled(plan=plan, path=path, output=tmp_path / "other.json")
    other = school.distilled("near", lessons={"temperature": 4.0}, output=tmp_path / "warm.json", has_validation=False)
    assert other.folder.root == school.model("warm") / "fold_0"
    assert read_plan(tmp_path / "warm.json").training.distillation.temperature == 4


@pytest.mark.long
def test_a_training_of_some_hours_counts_its_teachers(school, tmp_path):
    timed = school.distilled(
        "near", output=tmp_path / "timed.json", options=TrainOptions(max_hours=1e-4), has_validation=False
    )
    assert timed.is_finished


def test_hints_are_asked_for_of_a_teacher_that_looks_at_patches(school, student, tmp_path):
    output = tmp_path / "hinted.json"
    hinted = school.distilled(lessons={"hints": True}, output=output, has_validation=False)
    log = [json.loads(line) for line in hinted.folder.log.read_text().splitlines()]
    assert all(0 < epoch["train_losses"]["hints"] < 4 for epoch in log)
    network = load_checkpoint(hinted.folder.latest)["network"]
    assert network.keys() == load_checkpoint(student.folder.latest)["network"].keys()
    with pytest.raises(PlanError, match="--hints: no teacher looks at the student's patches"):
        school.distilled("far", lessons={"hints": True}, output=tmp_path / "distant.json")


def test_what_teachers_found_is_not_true_of_pasted_tumours(toy, school, tmp_path):
    full = school.plan.configurations[CONFIGURATION]
    pasting = {"name": "copy_paste", "labels": (1, 2), "onto": (0,)}
    augmentation = full.augmentation.changed(transforms=(*full.augmentation.transforms, pasting))
    plan = school.plan.changed(configurations={CONFIGURATION: full.changed(augmentation=augmentation)})
    with pytest.raises(PlanError, match=r"has to see whole cases, .* copy_paste would make patches of which it knows"):
        school.distilled(plan=plan, path=tmp_path / "plan.json")
    assert not (tmp_path / "plan__distilled.json").exists()
