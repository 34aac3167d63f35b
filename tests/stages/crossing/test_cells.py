import csv
import json
import shutil

import pytest

from tests.stages.crossing.conftest import copy_model, pair, write_dataset
from tests.stages.inference.test_nnunet_model import write_model
from tumorseg.errors import InputError
from tumorseg.ops.absent_channels import AbsentChannels
from tumorseg.schema.crossing import Cell
from tumorseg.schema.mapping import parse_mapping
from tumorseg.schema.score_rules import ScoreRules
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.crossing.cells import CellRules, plan_cell, subsets_to_drop
from tumorseg.stages.crossing.fold_choices import Pairing
from tumorseg.stages.crossing.hashed_datasets import hashed
from tumorseg.stages.crossing.known_cases import known_cases
from tumorseg.stages.crossing.models import load_folds, open_models, unique_names
from tumorseg.stages.crossing.run_cell import origin


@pytest.fixture
def lacking(crossing, models, tmp_path):
    place = write_dataset(tmp_path / "OnlyT1", {"T1w": 0}, {"shell": 1, "core": 2})
    return pair(crossing, models["other"], place)


def test_a_channel_that_is_missing_refuses_the_cell_and_says_what_to_do(lacking):
    cell = plan_cell(lacking, CellRules())
    assert isinstance(cell, Cell)
    assert cell.state == "refused"
    assert "OnlyT1 lacks: T2: no channel there is called so" in cell.refused
    assert "--missing-channels zero or mean" in cell.refused


@pytest.mark.parametrize("filling", ["zero", "mean"])
def test_what_stands_in_for_a_missing_channel_is_part_of_the_identity(lacking, filling):
    task = plan_cell(lacking, CellRules(missing_channels=filling))
    assert task.options.absent == AbsentChannels((1,), filling)
    assert (task.draft.missing_channels, task.draft.filling) == (("T2",), filling)
    assert all(len(case.images) == 1 for cases in task.cases.values() for case in cases)
    other = plan_cell(lacking, CellRules(missing_channels="mean" if filling == "zero" else "zero"))
    assert task.draft.identity != other.draft.identity


def test_images_come_in_the_order_of_the_model(crossing, models):
    task = plan_cell(pair(crossing, models["other"], crossing.other), CellRules())
    ((_, (case, _)),) = task.cases.items()
    # The file of T1-weighted is the second of the dataset.
    assert [image.path.rsplit("/", 1)[-1] for image in case.images] == ["1.nii.gz", "0.nii.gz"]


def test_labels_of_other_names_refuse_the_cell_unless_they_are_stated(crossing, models, tmp_path):
    place = write_dataset(tmp_path / "Foreign", {"T1": 0, "T2": 1}, {"liver": 1})
    foreign = pair(crossing, models["other"], place)
    cell = plan_cell(foreign, CellRules())
    assert cell.state == "refused"
    assert "liver" in cell.refused
    stated = parse_mapping({"all": {"prediction": ["shell", "core"], "reference": "liver"}}, source="labels.json")
    task = plan_cell(foreign, CellRules(labels=stated))
    assert task.draft.scored == ("all",)
    assert task.targets.prediction.scored_classes == ((1, 2),)
    assert task.targets.reference.scored_classes == ((1,),)


def test_a_model_of_every_case_has_none_that_is_unseen(crossing, models, toy, trained, tmp_path):
    folder = shutil.copytree(trained.folder.root, tmp_path / "fold_all")
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"fold": "all"}))
    (model,) = open_models([folder])
    found = hashed(open_dataset(str(toy.data), crossing.roots.data_root), crossing.roots)
    cell = plan_cell(Pairing(model, "Toy", found, known_cases(model, found, None)), CellRules())
    assert "every fold of the model was trained on each of the 6 labelled cases" in cell.refused


def test_weights_cases_and_rules_are_part_of_the_identity(crossing, models):
    found = pair(crossing, models["other"], crossing.other)
    identities = {
        plan_cell(found, CellRules()).draft.identity,
        plan_cell(found, CellRules(scoring=ScoreRules(tolerance_mm=2.0))).draft.identity,
        plan_cell(found._replace(model=models["other"]._replace(weights={"0": "x"})), CellRules()).draft.identity,
        plan_cell(found, CellRules(), ("T1",)).draft.identity,
    }
    assert len(identities) == 4
    assert plan_cell(found, CellRules()).draft.identity in identities


def test_patients_and_sites_are_part_of_the_identity(crossing, models, tmp_path):
    place = write_dataset(tmp_path / "Patients", {"T1": 0, "T2": 1}, {"shell": 1, "core": 2})
    before = plan_cell(pair(crossing, models["other"], place), CellRules())
    rows = list(csv.reader((place / "manifest.csv").read_text().splitlines()))
    rows = [[*row, value] for row, value in zip(rows, ["group", "p1", "p1"], strict=True)]
    with (place / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    after = plan_cell(pair(crossing, models["other"], place), CellRules())
    assert before.draft.identity != after.draft.identity


def test_every_choice_of_channels_that_leaves_one_is_dropped(crossing, models):
    task = plan_cell(pair(crossing, models["other"], crossing.other), CellRules())
    assert list(subsets_to_drop(task)) == [("T1",), ("T2",)]
    many = task._replace(draft=task.draft.changed(channels={name: name for name in "ABCDE"}))
    dropped = list(subsets_to_drop(many))
    assert dropped[:5] == [("A",), ("B",), ("C",), ("D",), ("E",)]
    assert dropped[5] == ("B", "C", "D", "E")
    few = task._replace(draft=task.draft.changed(channels={name: name for name in "ABC"}))
    assert len(list(subsets_to_drop(few))) == 6


def test_models_of_one_plans_name_are_told_apart_by_their_paths(crossing, tmp_path):
    first = tmp_path / "old" / "models" / "toy" / "fold_0"
    named = [("toy", first), ("toy", tmp_path / "new" / "models" / "toy" / "fold_0"), ("net", tmp_path)]
    assert unique_names(named, option="-m") == ["toy-old", "toy-new", "net"]
    with pytest.raises(InputError, match="is given twice"):
        unique_names([*named, ("toy", first)], option="-m")
    assert copy_model(crossing.models[0], first, "toy") == first


def test_a_model_of_nnunet_is_scored_as_if_it_had_seen_none_and_the_report_says_so(crossing, tmp_path):
    (model,) = open_models([write_model(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", folds=("0", "1"))])
    stated = parse_mapping({"ball": {"prediction": "kidney_left", "reference": "shell"}}, source="labels.json")
    task = plan_cell(pair(crossing, model, crossing.other), CellRules(labels=stated))
    assert [(choice.folds, choice.is_held_out) for choice in task.cases] == [((), False)]
    assert "does not say which cases it was trained on" in task.draft.remarks[-1]
    assert origin(task.draft) == "It is not known whether the model was trained on these cases"
    assert len(load_folds(model, (), "cpu", held_out=False).networks) == 2
