"""A fold's folder whose parts do not belong together."""

import pytest

from tests.planning.measured import planned
from tumorseg.errors import PlanError
from tumorseg.stages.opening.fold_folders import TrainOptions, begin_run, fold_plan, read_run, write_run
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import FoldFolder


@pytest.fixture(scope="module")
def plan():
    return planned()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan_name": "another"}, "found plan another, expected"),
        ({"configuration": "4d"}, "found configuration 4d, expected one of 2d"),
        ({"fold": "17"}, "found fold 17, expected one below 5"),
    ],
)
def test_a_training_that_does_not_fit_its_plan_is_one_line_where_the_plan_is_read(plan, tmp_path, changes, message):
    folder = FoldFolder(tmp_path)
    run = begin_run(plan, plan.default_configuration, "0", TrainOptions())
    write_run(folder, plan, run)
    assert fold_plan(folder) == plan
    write_record(folder.run, run.changed(**changes))
    with pytest.raises(PlanError, match=message) as refused:
        fold_plan(folder)
    assert str(refused.value).startswith(f"{folder.run}: does not fit plan.json beside it: ")
    assert str(refused.value).isprintable()


def test_the_name_of_a_plan_speaks_to_no_terminal(plan, tmp_path):
    folder = FoldFolder(tmp_path)
    write_run(folder, plan, begin_run(plan, plan.default_configuration, "0", TrainOptions()))
    folder.run.write_text(folder.run.read_text().replace(f'"plan_name": "{plan.name}"', '"plan_name": "a\\u001b[2J"'))
    with pytest.raises(PlanError, match=r"plan_name: .*control or format character") as refused:
        read_run(folder)
    assert str(refused.value).isprintable()


def test_a_fold_is_a_number_or_all(plan, tmp_path):
    folder = FoldFolder(tmp_path)
    write_run(folder, plan, begin_run(plan, plan.default_configuration, "all", TrainOptions()))
    assert read_run(folder).fold == "all"
    folder.run.write_text(folder.run.read_text().replace('"all"', '"first"'))
    with pytest.raises(PlanError, match="fold: is not of the form that is asked for"):
        read_run(folder)
