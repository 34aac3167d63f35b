"""Cases of the training, however they are called, compressed or written elsewhere."""

import csv
import gzip
import re
import shutil

import nibabel
import numpy as np
import pytest

from tests.stages.crossing.conftest import pair, write_dataset
from tests.toys import save
from tumorseg.schema.crossing import Cell
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.crossing.cells import CellRules, plan_cell
from tumorseg.stages.crossing.fold_choices import Pairing
from tumorseg.stages.crossing.hashed_datasets import PlannedFiles, hashed, planned_dataset
from tumorseg.stages.crossing.known_cases import known_cases
from tumorseg.stages.crossing.models import open_models
from tumorseg.stages.crossing.run_cell import origin
from tumorseg.stages.crossing.voxel_digests import VoxelDigests
from tumorseg.stages.opening.loaded import Roots

RENAMED = {f"renamed_{number}": frozenset({f"case_{number}"}) for number in range(6)}


def renamed(toy, folder):
    """Return a copy of the toy dataset whose cases are called otherwise."""
    copy = shutil.copytree(toy.data, folder)
    manifest = copy / "manifest.csv"
    manifest.write_text(re.sub(r"^case_(?=\d)", "renamed_", manifest.read_text(), flags=re.MULTILINE))
    return copy


def add_column(place, name, values):
    """Add a column to a manifest."""
    manifest = place / "manifest.csv"
    header, *rows = csv.reader(manifest.read_text().splitlines())
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([[*header, name], *([*row, value] for row, value in zip(rows, values, strict=True))])


def with_every_fold(model, toy):
    """Return a model as if all folds of its plan were trained."""
    return model._replace(folds={str(number): model.folds["0"] for number in range(len(toy.plan.folds))})


def own(crossing, model, place):
    """Return a model on a dataset as if it were the one that it was planned for."""
    found = hashed(open_dataset(str(place), crossing.roots.data_root), crossing.roots)
    return Pairing(model, "Own", found, known_cases(model, found, PlannedFiles(found, is_confirmed=True)))


@pytest.fixture
def moved(models, toy, tmp_path):
    """Return the toy model outside of any work folder, the planned dataset, and where both are looked for."""
    fold = shutil.copytree(models["toy"].folds["0"].root, tmp_path / "elsewhere" / "fold_0")
    data = shutil.copytree(toy.data, tmp_path / "data" / "Toy")
    return open_models([fold])[0], data, Roots(data_root=tmp_path / "data", work=tmp_path / "runs")


def test_a_copy_under_other_names_is_known_by_its_files(crossing, models, toy, tmp_path):
    found = pair(crossing, models["toy"], renamed(toy, tmp_path / "Copy"))
    assert found.known.planned == RENAMED
    task = plan_cell(found, CellRules())
    held_out = {case_id.replace("case", "renamed") for case_id in toy.plan.folds[0]}
    assert set(task.draft.held_out) == held_out
    assert len(task.draft.left_out) == 6 - len(held_out)


def test_a_copy_that_was_only_compressed_anew_is_known_by_its_voxels(crossing, models, toy, tmp_path):
    copy = renamed(toy, tmp_path / "Copy")
    for file in copy.glob("*/*.nii.gz"):
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), 1))
    assert pair(crossing, models["toy"], copy).known.planned == RENAMED


def test_a_copy_in_another_type_and_order_of_axes_is_known_by_its_voxels(crossing, models, toy, tmp_path):
    copy = renamed(toy, tmp_path / "Copy")
    for file in copy.glob("*/*.nii.gz"):
        image = nibabel.as_closest_canonical(nibabel.load(file))
        save(np.asanyarray(image.dataobj).astype(np.float64), image.affine, file, "SPL")
    found = pair(crossing, models["toy"], copy)
    assert found.known.planned == RENAMED
    assert found.known.is_own


def test_each_image_is_compared_once(crossing, models, toy, tmp_path):
    copy = renamed(toy, tmp_path / "Copy")
    for file in copy.glob("*/*.nii.gz"):
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), 1))
    found = hashed(open_dataset(str(copy), crossing.roots.data_root), crossing.roots)
    planned = planned_dataset(models["toy"], crossing.roots)
    known_cases(models["toy"], found, planned, VoxelDigests(tmp_path / "voxels.json"))
    # What is kept is enough, even if no image can be read any more.
    for file in copy.glob("*/T*.nii.gz"):
        header = nibabel.load(file).header.binaryblock
        file.write_bytes(gzip.compress(header + b"\0" * 9))
    again = known_cases(models["toy"], found, planned, VoxelDigests(tmp_path / "voxels.json"))
    assert again.planned == RENAMED


def test_where_too_many_images_would_be_read_none_is_and_that_is_told(crossing, models, toy, tmp_path):
    copy = renamed(toy, tmp_path / "Copy")
    for file in (copy / "case_3").glob("T*.nii.gz"):
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), 1))
    found = hashed(open_dataset(str(copy), crossing.roots.data_root), crossing.roots)
    planned = planned_dataset(models["toy"], crossing.roots)
    known = known_cases(models["toy"], found, planned, VoxelDigests(most_read=1))
    assert "renamed_3" not in known.planned
    assert "the voxels of 1 cases of Copy were not compared" in known.remarks[0]
    assert known.by == "case_id"
    # Of all cases that one alone is read, and those of the plan on its grid.
    assert known_cases(models["toy"], found, planned, VoxelDigests(most_read=7)).planned == RENAMED


def test_a_case_that_shares_an_image_with_another_is_segmented_by_folds_that_saw_neither(
    crossing, models, toy, tmp_path
):
    model, place = with_every_fold(models["toy"], toy), shutil.copytree(toy.data, tmp_path / "Twins")
    first, second = toy.plan.folds[0][0], toy.plan.folds[1][0]
    shutil.copy(place / first / "T2.nii.gz", place / second / "T2.nii.gz")
    found = own(crossing, model, place)
    assert found.known.planned[first] == found.known.planned[second] == {first, second}
    draft = plan_cell(found, CellRules()).draft
    assert set(draft.left_out) == {first, second}
    assert len(draft.held_out) == 4


def test_an_image_of_one_value_tells_no_cases_apart(crossing, models, toy, tmp_path):
    place = shutil.copytree(toy.data, tmp_path / "Blank")
    # An image that was not acquired is often a file of zeros.
    for number in (0, 3, 5):
        blank = np.zeros((19, 22, 17), np.float32)
        save(blank, np.eye(4), place / f"case_{number}" / "T2.nii.gz")
    found = own(crossing, with_every_fold(models["toy"], toy), place)
    assert found.known.planned == {f"case_{number}": frozenset({f"case_{number}"}) for number in range(6)}


def test_equal_ids_on_another_grid_are_other_cases_and_that_is_told(crossing, models, tmp_path):
    place = write_dataset(tmp_path / "Alike", {"T1": 0, "T2": 1}, {"shell": 2, "core": 7}, first=0, case="case")
    found = pair(crossing, models["toy"], place)
    assert [case.case_id for case in found.found.dataset.cases] == ["case_0", "case_1"]
    assert found.known.planned == {}
    (remark,) = found.known.remarks
    assert "on other grids, and taken for other cases: case_0, case_1" in remark
    assert origin(plan_cell(found, CellRules()).draft) == "Cases that the model was not trained on"


def test_without_the_planned_files_equal_ids_are_taken_for_the_same(crossing, models, toy):
    model = models["toy"]
    found = hashed(open_dataset(str(toy.data), crossing.roots.data_root), crossing.roots)
    known = known_cases(model, found, None)
    assert known.planned == {f"case_{number}": frozenset({f"case_{number}"}) for number in range(6)}
    assert "known by their case_id alone" in known.remarks[0]


def test_without_the_planned_files_unseen_cases_are_not_said_to_be_certain(crossing, models, toy, tmp_path):
    found = hashed(open_dataset(str(renamed(toy, tmp_path / "Copy")), crossing.roots.data_root), crossing.roots)
    known = known_cases(models["toy"], found, None)
    draft = plan_cell(Pairing(models["toy"], "Copy", found, known), CellRules()).draft
    assert "a copy under another one counts as unseen" in draft.remarks[-1]
    assert "copies of these under other names may be among them" in origin(draft)


def test_one_planned_file_that_changed_leaves_the_others_to_go_by(moved, crossing, toy, tmp_path):
    model, data, roots = moved
    assert planned_dataset(model, roots).is_confirmed
    seg = data / "case_4" / "seg.nii.gz"
    seg.write_bytes(gzip.compress(gzip.decompress(seg.read_bytes()), 1))
    (data / "case_2" / "T1.nii.gz").unlink()
    planned = planned_dataset(model, roots)
    assert not planned.is_confirmed
    found = hashed(open_dataset(str(renamed(toy, tmp_path / "Copy")), crossing.roots.data_root), crossing.roots)
    known = known_cases(model, found, planned)
    assert known.planned == {case_id: names for case_id, names in RENAMED.items() if case_id != "renamed_2"}
    assert known.by == "case_id"
    assert "cannot be confirmed to be what was planned" in known.remarks[0]


def test_labels_known_by_number_alone_are_the_same_in_the_planned_dataset_alone(crossing, models, toy, tmp_path):
    numbered = {"background": 0, "label_1": 2, "label_2": 7}
    dataset = models["toy"].plan.dataset.changed(labels=numbered)
    model = models["toy"]._replace(plan=models["toy"].plan.changed(dataset=dataset))

    def named_by_number(place):
        manifest = place / "manifest.csv"
        text = manifest.read_text().replace("label:shell", "label:label_1").replace("label:core", "label:label_2")
        manifest.write_text(text)
        return place

    whole = pair(crossing, model, named_by_number(shutil.copytree(toy.data, tmp_path / "Toy2")))
    assert whole.known.is_own
    assert plan_cell(whole, CellRules()).draft.scored == ("label_1", "label_2")
    other = write_dataset(tmp_path / "Unrelated", {"T1": 0, "T2": 1}, {"shell": 2, "core": 7}, first=5, case="case")
    found = hashed(open_dataset(str(named_by_number(other)), crossing.roots.data_root), crossing.roots)
    known = known_cases(model, found, None)
    assert set(known.planned) == {"case_5"}
    cell = plan_cell(Pairing(model, "Unrelated", found, known), CellRules())
    assert isinstance(cell, Cell)
    assert "do not say what they are" in cell.refused


def test_a_patient_is_segmented_by_folds_that_saw_none_of_its_cases(crossing, models, toy, tmp_path):
    model, place = with_every_fold(models["toy"], toy), shutil.copytree(toy.data, tmp_path / "Patients")
    first, second = toy.plan.folds[0][0], toy.plan.folds[1][0]
    ids = [f"case_{number}" for number in range(6)]
    add_column(place, "group", ["same" if case_id in (first, second) else case_id for case_id in ids])
    draft = plan_cell(own(crossing, model, place), CellRules()).draft
    assert set(draft.relatives) == {first, second}
    assert draft.left_out == ()
    assert set(draft.held_out) == set(ids) - {first, second}


def test_a_new_case_of_a_patient_of_the_training_is_not_scored_as_unseen(crossing, models, toy, tmp_path):
    place = shutil.copytree(toy.data, tmp_path / "Later")
    new = write_dataset(tmp_path / "new", {"T1": 0, "T2": 1}, {"shell": 2, "core": 7}, count=2, case="later")
    for case_id in ("later_20", "later_21"):
        shutil.copytree(new / case_id, place / case_id)
    rows = (new / "manifest.csv").read_text().splitlines()[1:]
    with (place / "manifest.csv").open("a") as file:
        file.write("\n".join(rows) + "\n")
    held_out, trained_on = toy.plan.folds[0][0], toy.plan.folds[1][0]
    patients = {held_out: "a", "later_20": "a", trained_on: "b", "later_21": "b"}
    ids = [*(f"case_{number}" for number in range(6)), "later_20", "later_21"]
    add_column(place, "group", [patients.get(case_id, case_id) for case_id in ids])
    draft = plan_cell(pair(crossing, models["toy"], place), CellRules()).draft
    assert "later_20" in draft.held_out
    assert draft.relatives == ("later_21",)
