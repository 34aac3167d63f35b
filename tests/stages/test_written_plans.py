from pathlib import Path

import pytest

from tumorseg.errors import PlanError
from tumorseg.stages.planned import read_plan
from tumorseg.stages.written_plans import write_plan
from tumorseg.storage.layout import work_folder

PLANS = Path(__file__).parents[2] / "plans"


@pytest.fixture
def plan():
    return read_plan(PLANS / "CineHeart__optimized.json")


def test_a_plan_is_written_again_unless_it_was_edited(tmp_path, plan):
    output, work = tmp_path / "plans" / "p.json", work_folder(tmp_path / "runs", "CineHeart")
    longer = plan.model_copy(update={"training": plan.training.model_copy(update={"epochs": 7})})
    write_plan(plan, output, work)
    write_plan(longer, output, work)
    assert read_plan(output).training.epochs == 7
    edited = output.read_text().replace('"epochs": 7', '"epochs": 8')
    output.write_text(edited)
    with pytest.raises(PlanError, match="--force to replace it"):
        write_plan(longer, output, work)
    assert output.read_text() == edited
    write_plan(longer, output, work, force=True)
    assert read_plan(output).training.epochs == 7


def test_a_plan_of_another_dataset_stays(tmp_path, plan):
    output = tmp_path / "p.json"
    write_plan(plan, output, work_folder(tmp_path / "runs", "CineHeart"))
    other = plan.model_copy(update={"dataset": plan.dataset.model_copy(update={"name": "Other"})})
    with pytest.raises(PlanError, match="not a plan that was written for Other here"):
        write_plan(other, output, work_folder(tmp_path / "runs", "Other"))


def test_the_same_bytes_are_no_conflict_wherever_they_come_from(tmp_path, plan):
    output = tmp_path / "p.json"
    write_plan(plan, output, work_folder(tmp_path / "here", "CineHeart"))
    before = output.stat().st_mtime_ns
    write_plan(plan, output, work_folder(tmp_path / "elsewhere", "CineHeart"))
    assert output.stat().st_mtime_ns == before
