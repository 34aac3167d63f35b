from pathlib import Path

import pytest

from tumorseg.errors import PlanError, StorageError
from tumorseg.stages.opening.loaded import read_plan
from tumorseg.stages.planning.written_plans import Place, check_writable, write_plan
from tumorseg.storage.layout import work_folder

PLANS = Path(__file__).parents[3] / "plans"


@pytest.fixture
def plan():
    return read_plan(PLANS / "CineHeart__optimized.json")


def place(tmp_path, name="CineHeart", *, runs="runs", data="data"):
    return Place(tmp_path / "p.json", work_folder(tmp_path / runs, name), tmp_path / data / name)


def test_a_plan_is_written_again_unless_it_was_edited(tmp_path, plan):
    there = place(tmp_path)
    output = there.output
    longer = plan.model_copy(update={"training": plan.training.model_copy(update={"epochs": 7})})
    write_plan(plan, there)
    write_plan(longer, there)
    assert read_plan(output).training.epochs == 7
    edited = output.read_text().replace('"epochs": 7', '"epochs": 8')
    output.write_text(edited)
    with pytest.raises(PlanError, match="--force to replace it"):
        write_plan(longer, there)
    assert output.read_text() == edited
    write_plan(longer, there, force=True)
    assert read_plan(output).training.epochs == 7


@pytest.mark.parametrize("other", [{"name": "Other"}, {"data": "elsewhere"}, {"runs": "elsewhere"}])
def test_a_plan_of_another_dataset_stays_though_it_may_have_the_same_name(tmp_path, plan, other):
    write_plan(plan, place(tmp_path))
    longer = plan.model_copy(update={"training": plan.training.model_copy(update={"epochs": 7})})
    with pytest.raises(PlanError, match=r"was not planned from .* here"):
        write_plan(longer, place(tmp_path, **other))


def test_the_same_bytes_are_no_conflict_wherever_they_come_from(tmp_path, plan):
    write_plan(plan, place(tmp_path))
    before = (tmp_path / "p.json").stat().st_mtime_ns
    write_plan(plan, place(tmp_path, runs="elsewhere"))
    assert (tmp_path / "p.json").stat().st_mtime_ns == before


def test_a_folder_is_no_place_for_a_plan(tmp_path):
    with pytest.raises(StorageError, match="is a folder, expected a file"):
        check_writable(tmp_path)
    check_writable(tmp_path / "new.json")
