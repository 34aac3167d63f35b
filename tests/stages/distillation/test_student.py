import pytest

from tests.stages.selection.conftest import small_plan
from tumorseg.errors import PlanError
from tumorseg.stages.distillation.student import LessonOptions, keep_student, student_plan


def test_what_is_said_explicitly_is_what_goes_without_saying(toy, tmp_path):
    plan, path = small_plan(toy.plan, "alone"), tmp_path / "student.json"
    keep_student(student_plan(plan, LessonOptions(), name="student"), path)
    before = path.read_bytes()
    keep_student(student_plan(plan, LessonOptions(weight=0.5, hints=False), name="student"), path)
    assert path.read_bytes() == before
    with pytest.raises(PlanError, match=r"holds a student's plan with weight 0\.5"):
        keep_student(student_plan(plan, LessonOptions(weight=0.4), name="student"), path)
