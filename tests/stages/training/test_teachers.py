from types import SimpleNamespace

import pytest

from tests.stages.training.test_fitting import Second
from tumorseg.engine.ranks import ALONE
from tumorseg.errors import PlanError, TrainingError
from tumorseg.schema.distillation import Distillation
from tumorseg.stages.training.teachers import check_same_teachers, check_teachers_given

TEACHERS = SimpleNamespace(notes=(SimpleNamespace(weights="a"),), unlabelled=None)


def test_plan_and_teachers_go_together(toy):
    check_teachers_given(toy.plan, None)
    with pytest.raises(PlanError, match=r"has no training.distillation, which says how"):
        check_teachers_given(toy.plan, TEACHERS)
    plan = toy.plan.changed(training=toy.plan.training.changed(distillation=Distillation()))
    check_teachers_given(plan, TEACHERS)
    with pytest.raises(PlanError, match=r"run `tumorseg distill -m TEACHER -p toy.json"):
        check_teachers_given(plan, None)


def test_processes_that_read_other_teachers_do_not_train_together():
    check_same_teachers(TEACHERS, ALONE)
    with pytest.raises(TrainingError, match="not all processes read the same teachers"):
        check_same_teachers(TEACHERS, Second(1.0))
