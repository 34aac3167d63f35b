"""A plan against the dataset on disk."""

import csv
import json
import shutil

import pytest

from tests.stages.conftest import Toy, plan_toy
from tests.toys import write_toy
from tumorseg.errors import PlanError
from tumorseg.schema.base import to_json
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.planning.validate_plan import ValidatePlanRequest, validate_plan


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Toy:
    root = tmp_path_factory.mktemp("sound")
    return plan_toy(root, write_toy(root / "data" / "Toy"))


@pytest.fixture
def copied(sound, tmp_path) -> Toy:
    """A dataset, its work folder and its plan, to be spoilt."""
    shutil.copytree(sound.data, tmp_path / "data" / "Toy")
    shutil.copytree(sound.roots.work, tmp_path / "runs", ignore=shutil.ignore_patterns("source.json"))
    shutil.copy(sound.plan_path, tmp_path / "toy.json")
    return Toy(
        tmp_path / "data" / "Toy",
        Roots(data_root=tmp_path / "data", work=tmp_path / "runs"),
        sound.plan,
        tmp_path / "toy.json",
    )


def report_of(toy, **options):
    options = {"dataset": str(toy.data)} | options
    return validate_plan(ValidatePlanRequest(roots=toy.roots, plan=toy.plan_path, **options))


def found_in(toy, **options):
    return {found.kind: found for found in report_of(toy, **options).findings}


def edit_manifest(toy, edit):
    with (toy.data / "manifest.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    with (toy.data / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(edit(rows))


def rewrite(toy, **parts):
    document = json.loads(toy.plan_path.read_text()) | parts
    toy.plan_path.write_text(json.dumps(document))


def test_a_plan_fits_the_dataset_that_it_was_made_for(sound, capsys):
    report = report_of(sound, dataset=None)
    assert (report.findings, report.dataset, report.num_cases) == ((), "Toy", 6)
    assert not report.has_errors
    again = Roots(data_root=sound.roots.data_root, work=sound.roots.work / "elsewhere")
    assert validate_plan(ValidatePlanRequest(roots=again, plan=sound.plan_path)).findings == ()
    assert "hash: 6/6" in capsys.readouterr().err


def test_a_changed_file_is_told_with_its_case(copied):
    shutil.copy(copied.data / "case_2" / "T1.nii.gz", copied.data / "case_3" / "T1.nii.gz")
    found = found_in(copied)
    assert set(found) == {"changed_content"}
    assert found["changed_content"].case_ids == ("case_3",)
    assert "1 case changed; plan it anew" in found["changed_content"].message
    assert report_of(copied).has_errors


def test_without_the_fingerprint_the_change_is_still_told(copied):
    shutil.copy(copied.data / "case_2" / "T1.nii.gz", copied.data / "case_3" / "T1.nii.gz")
    path = copied.roots.work / "Toy" / "fingerprint.json"
    for content in (path.read_text().replace('"median": ', '"median": 1'), "{", None):
        path.unlink() if content is None else path.write_text(content)
        found = found_in(copied)["changed_content"]
        assert (found.case_ids, "files were changed, added or removed" in found.message) == ((), True)


def test_cases_that_came_and_went_are_told(copied):
    edit_manifest(copied, lambda rows: [*rows[:-1], ["case_9", *rows[-1][1:]]])
    found = found_in(copied)
    assert set(found) == {"changed_content", "unknown_case"}
    assert found["unknown_case"].case_ids == ("case_5",)
    assert found["changed_content"].case_ids == ("case_9", "case_5")
    assert "1 case added, 1 case removed" in found["changed_content"].message


def test_missing_files_are_all_listed_with_their_cases(copied):
    for case_id, name in (("case_0", "T1"), ("case_4", "T2"), ("case_4", "seg")):
        (copied.data / case_id / f"{name}.nii.gz").unlink()
    told = [(found.kind, *found.case_ids) for found in report_of(copied).findings]
    assert sorted(told) == [("missing_file", "case_0"), ("missing_file", "case_4"), ("missing_file", "case_4")]


def test_another_dataset_is_told_by_channels_and_labels(copied):
    edit_manifest(
        copied, lambda rows: [["case_id", "PET", "T2", "label", "label:shell=3"], *[row[:5] for row in rows[1:]]]
    )
    messages = [found.message for found in report_of(copied).findings if found.kind == "other_dataset"]
    assert [message.split(" is for ")[1].split()[0] for message in messages] == ["channels", "label"]


def test_groups_on_both_sides_of_a_fold_are_warned_of(copied):
    edit_manifest(
        copied, lambda rows: [[*rows[0], "group"], *[[*row, f"p{number % 2}"] for number, row in enumerate(rows[1:])]]
    )
    report = report_of(copied)
    warned = [found for found in report.findings if found.kind == "group_on_both_sides"]
    assert len(warned) == len(copied.plan.folds)
    assert not report.has_errors
    fold = set(copied.plan.folds[0])
    told = next(found for found in warned if found.message.startswith("folds.0"))
    assert fold.isdisjoint(told.case_ids)
    assert told.case_ids


def test_a_dataset_that_is_not_there_is_an_error_unless_it_is_not_asked_for(copied):
    shutil.rmtree(copied.data)
    report = report_of(copied, dataset=None)
    assert [found.kind for found in report.findings] == ["dataset_not_found"]
    assert (report.dataset, report.num_cases) == (None, 0)
    assert report_of(copied, with_data=False).findings == ()


def test_faults_of_the_plan_and_of_the_data_are_told_together(copied):
    (copied.data / "case_0" / "T1.nii.gz").write_bytes(b"")
    budget = json.loads(copied.plan_path.read_text())["budget"] | {"predicted_bytes": 2**40}
    rewrite(copied, budget=budget, training={}, folds=[["case_0"], ["ghost"]])
    assert set(found_in(copied)) == {
        "changed_content",
        "over_budget",
        "plan_document",
        "unknown_case",
        "never_held_out",
    }


def test_memory_is_counted_anew_for_a_plan_that_was_edited(copied):
    configurations = json.loads(copied.plan_path.read_text())["configurations"]
    configurations["2d"]["batch_size"] = 60_000
    rewrite(copied, configurations=configurations)
    found = found_in(copied, with_data=False)
    assert set(found) == {"over_budget", "stale_prediction"}
    assert found["over_budget"].message.startswith("configurations.2d: counted to need ")


def test_a_loss_that_is_not_installed_is_told_and_nothing_counted(copied):
    configurations = json.loads(copied.plan_path.read_text())["configurations"]
    other = {"name": "mine", "distribution": "not-installed", "version": "1", "parameters": {}, "weight": 1.0}
    configurations["2d"]["loss"]["components"][0] = other
    rewrite(copied, configurations=configurations)
    # The component that gave way had a reason for its `batch`, which the new one lacks.
    assert set(found_in(copied, with_data=False)) == {"missing_extension", "stale_reason"}


def test_a_plan_without_content_hash_says_what_it_cannot_tell(copied):
    dataset = json.loads(copied.plan_path.read_text())["dataset"] | {"content_hash": None}
    rewrite(copied, dataset=dataset)
    report = report_of(copied)
    assert [(found.kind, found.severity) for found in report.findings] == [("unknown_content", "warning")]


def test_a_work_folder_inside_the_dataset_is_told(copied):
    toy = copied._replace(roots=Roots(data_root=copied.roots.data_root, work=copied.data.parent))
    assert set(found_in(toy)) == {"work_in_dataset"}


def test_what_is_no_plan_is_a_finding_and_no_file_an_error(copied, tmp_path):
    copied.plan_path.write_text("{")
    assert set(found_in(copied)) == {"plan_document"}
    with pytest.raises(PlanError, match="no such file; expected a plan"):
        report_of(copied._replace(plan_path=tmp_path / "none.json"))


def test_a_file_that_no_plan_can_be_called_after_is_a_finding(copied):
    unsound = copied.plan_path.rename(copied.plan_path.with_name(".x.json"))
    found = report_of(copied._replace(plan_path=unsound)).findings
    assert [(one.kind, one.message) for one in found] == [
        ("plan_document", "the name begins with a dot; rename the file")
    ]


def test_the_name_of_a_plan_is_its_files(copied, sound):
    copied.plan_path.write_text(to_json(sound.plan.model_copy(update={"name": "older"})))
    assert report_of(copied).findings == ()
