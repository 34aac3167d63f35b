"""`plan import` and `plan export` on files."""

import json

import pytest
from click.testing import CliRunner

from tests.nnunet.documents import plans
from tests.planning.measured import equal_cases, fingerprint, planned
from tumorseg.cli.main import Settings
from tumorseg.cli.plan_export import command as export_command
from tumorseg.cli.plan_import import command as import_command
from tumorseg.errors import InputError, PlanError
from tumorseg.planning.folds.split_lists import SplitLists
from tumorseg.schema.base import to_json
from tumorseg.stages.opening.loaded import read_plan
from tumorseg.stages.planning.export_plan import PlanExportRequest, export_nnunet_plan
from tumorseg.stages.planning.import_plan import PlanImportRequest, import_nnunet_plan

DATASET = {
    "channel_names": {"0": "CT", "1": "T1"},
    "labels": {"background": 0, "organ": 1, "tumour": 2},
    "numTraining": "12",
    "file_ending": ".nii.gz",
}


@pytest.fixture
def preprocessed(tmp_path):
    """A folder of nnU-Net's with plans, dataset and folds."""
    folder = tmp_path / "nnUNet_preprocessed" / "Dataset900_Toy"
    folder.mkdir(parents=True)
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans()))
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    (folder / "splits_final.json").write_text(
        json.dumps([{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}])
    )
    return folder


def settings(tmp_path):
    return Settings(tmp_path, tmp_path / "runs", is_json=True)


def test_import_writes_a_plan_with_the_folds_beside_it(preprocessed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        import_command, [str(preprocessed / "nnUNetPlans.json")], obj=settings(tmp_path), catch_exceptions=False
    )
    path = tmp_path / "plans" / "Dataset900_Toy__nnUNetPlans.json"
    plan = read_plan(path)
    assert json.loads(result.stdout)["plan"]["name"] == plan.name == "Dataset900_Toy__nnUNetPlans"
    assert plan.folds == (("a",), ("b",))
    assert plan.fingerprint.num_cases == 12


def test_import_takes_files_that_lie_elsewhere(preprocessed, tmp_path):
    for name in ("dataset.json", "splits_final.json"):
        (preprocessed / name).rename(tmp_path / name)
    request = PlanImportRequest(plans=preprocessed / "nnUNetPlans.json", output=tmp_path / "p.json")
    with pytest.raises(InputError, match=r"dataset\.json: no such file"):
        import_nnunet_plan(request)
    given = {"dataset_json": tmp_path / "dataset.json", "configurations": ("2d",)}
    without_folds = import_nnunet_plan(request.model_copy(update=given)).plan
    assert (without_folds.folds, set(without_folds.configurations)) == ((), {"2d"})
    given["splits"] = tmp_path / "splits_final.json"
    assert len(import_nnunet_plan(request.model_copy(update=given)).plan.folds) == 2


def test_regions_of_dataset_json_are_imported_in_its_order(preprocessed, tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    (preprocessed / "dataset.json").write_text(json.dumps(DATASET | {"labels": labels, "regions_class_order": [1, 2]}))
    plan = import_nnunet_plan(
        PlanImportRequest(plans=preprocessed / "nnUNetPlans.json", output=tmp_path / "p.json")
    ).plan
    assert [(region.name, region.labels, region.value) for region in plan.dataset.regions] == [
        ("whole", (1, 2), 1),
        ("core", (2,), 2),
    ]


def test_lists_of_one_label_each_are_no_regions_to_nnunet(preprocessed, tmp_path):
    labels = {"background": 0, "organ": [1], "tumour": [2]}
    (preprocessed / "dataset.json").write_text(json.dumps(DATASET | {"labels": labels}))
    plan = import_nnunet_plan(
        PlanImportRequest(plans=preprocessed / "nnUNetPlans.json", output=tmp_path / "p.json")
    ).plan
    assert plan.dataset.regions == ()
    assert plan.dataset.labels == {"background": 0, "organ": 1, "tumour": 2}


def test_export_writes_what_import_reads(tmp_path):
    plan_path, folder = tmp_path / "Toy__plan.json", tmp_path / "Dataset901_Toy"
    plan_path.write_text(to_json(planned(fingerprint(channels=("MR", "CT")))))
    arguments = [str(plan_path), "-o", str(folder)]
    for _ in range(2):  # the second time, the same files are there
        CliRunner().invoke(export_command, arguments, obj=settings(tmp_path), catch_exceptions=False)
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["overwrite_image_reader_writer"] == "NibabelIOWithReorient"
    request = PlanImportRequest(plans=folder / "nnUNetPlans.json", output=tmp_path / "again.json")
    again, plan = import_nnunet_plan(request).plan, read_plan(plan_path)
    assert again.dataset.labels == plan.dataset.labels
    assert again.configurations["3d_fullres"].network == plan.configurations["3d_fullres"].network
    assert again.configurations["3d_fullres"].normalization == plan.configurations["3d_fullres"].normalization
    assert (again.folds, again.kept_from_training) == (plan.folds, ())


def test_export_writes_what_each_fold_trains_on_and_warns_of_cases_that_are_not_used(tmp_path, caplog):
    splits = SplitLists(
        held_out=(("case_0001",), ("case_0000",)), training=(("case_0000",), ("case_0001", "case_0002"))
    )
    measured = fingerprint(equal_cases(3))
    options = {"splits": splits, "kept_back": ("test_1",), "excluded": ("bad",)}
    plan_path, folder = tmp_path / "p.json", tmp_path / "Dataset902_Toy"
    plan_path.write_text(to_json(planned(measured, preset="fast_prototyping", **options)))
    request = PlanExportRequest(plan=plan_path, output=folder)
    written = json.loads(export_nnunet_plan(request).splits.read_text())
    assert written == [
        {"train": ["case_0000"], "val": ["case_0001"]},
        {"train": ["case_0001", "case_0002"], "val": ["case_0000"]},
    ]
    assert "does not use 2 cases (bad, test_1)" in caplog.text
    (folder / "splits_final.json").write_text("[]")
    with pytest.raises(PlanError, match="other folds are there already"):
        export_nnunet_plan(request)


def test_export_never_replaces_other_plans_or_another_dataset(preprocessed, tmp_path):
    plan_path = tmp_path / "Toy__plan.json"
    plan_path.write_text(to_json(planned()))
    with pytest.raises(PlanError, match="other plans are there already"):
        export_nnunet_plan(PlanExportRequest(plan=plan_path, output=preprocessed))
    (preprocessed / "nnUNetPlans.json").unlink()
    with pytest.raises(PlanError, match="channel_names, labels is not what the plan's dataset has"):
        export_nnunet_plan(PlanExportRequest(plan=plan_path, output=preprocessed))
    assert not (preprocessed / "nnUNetPlans.json").exists()


def test_a_folder_that_nnunet_will_not_find_is_warned_about(tmp_path, caplog):
    plan_path = tmp_path / "Toy__plan.json"
    plan_path.write_text(to_json(planned()))
    export_nnunet_plan(PlanExportRequest(plan=plan_path, output=tmp_path / "out"))
    assert "DatasetNNN_Name, found out" in caplog.text
