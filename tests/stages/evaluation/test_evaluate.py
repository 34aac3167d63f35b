import csv
import json
import os

import nibabel
import numpy as np
import pytest

from tumorseg.cli.main import run
from tumorseg.errors import InputError, StorageError, TumorsegError
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.metrics import MetricsReport
from tumorseg.schema.targets import targets_of
from tumorseg.stages.evaluation.case_scoring import Scoring
from tumorseg.stages.evaluation.evaluate import EvaluateRequest, evaluate
from tumorseg.stages.evaluation.scoring import check_outcome, score_all
from tumorseg.storage.locks import hold_folder

SHAPE = (7, 6, 5)
AFFINE = np.diag([0.8, 1.2, 3.0, 1.0])


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def drawn(number):
    labels = np.zeros(SHAPE, np.uint8)
    labels[1 : 3 + number, 1:4, 1:3] = 2
    return labels


@pytest.fixture
def folders(tmp_path):
    """Four references, and as many predictions that are one voxel off."""
    for number in range(4):
        save(tmp_path / f"references/c{number}.nii.gz", drawn(number))
        save(tmp_path / f"predictions/c{number}.nii.gz", np.roll(drawn(number), 1, axis=0))
    (tmp_path / "set").mkdir()
    (tmp_path / "set/manifest.csv").write_text("case_id,image,label,label:tumour=2\nc0,c0.nii.gz,c0_seg.nii.gz,\n")
    return tmp_path


def request(folder, **options):
    places = {name: (folder / name,) for name in ("predictions", "references")}
    return EvaluateRequest(**{**places, "output": folder / "scores", "jobs": 1, **options})


def written(folder):
    return json.loads((folder / "scores/metrics.json").read_text())


def damage(path):
    path.write_bytes(path.read_bytes()[:60])


def not_whole_numbers(path):
    save(path, drawn(1) * np.float32(0.3))


def on_another_grid(path):
    save(path, drawn(1)[1:])


def an_image(path):
    save(path, np.arange(8 * 9 * 20, dtype=np.int16).reshape(8, 9, 20))


def of_unknown_values(path):
    save(path, drawn(1) * 100)


def twice(path):
    save(path.with_suffix(""), drawn(1))


@pytest.mark.parametrize("dataset", [None, "set"])
@pytest.mark.parametrize("harm", [damage, not_whole_numbers, on_another_grid, an_image, twice])
def test_a_damaged_prediction_costs_its_own_case_alone(folders, dataset, harm):
    harm(folders / "predictions/c1.nii.gz")
    given = {"dataset": None if dataset is None else str(folders / dataset)}
    for missing in ("refuse", "skip"):
        with pytest.raises(TumorsegError, match=r"1 of 4 cases failed(.|\n)*c1 (.|\n)*marked as incomplete"):
            evaluate(request(folders, missing=missing, **given))
        found = written(folders)
        assert {case["case_id"] for case in found["cases"]} == {"c0", "c2", "c3"}
        assert (found["failed"], found["missing"], found["is_complete"]) == (["c1"], [], False)
    with pytest.raises(TumorsegError, match=r"c1 ") as failed:
        evaluate(request(folders, missing="worst", **given))
    assert "incomplete" not in str(failed.value)
    found = written(folders)
    (scored,) = [case for case in found["cases"] if case["case_id"] == "c1"]
    assert (scored["dsc"], scored["nsd"], scored["hd95_mm"], scored["prediction_volume_ml"]) == (0, 0, None, 0)
    assert (found["failed"], found["is_complete"]) == (["c1"], True)


def test_with_a_dataset_a_prediction_of_unknown_values_is_damaged(folders):
    of_unknown_values(folders / "predictions/c1.nii.gz")
    with pytest.raises(TumorsegError, match=r"predictions/c1.nii.gz: label values 200 \(.* voxels\) are not in the"):
        evaluate(request(folders, missing="worst", dataset=str(folders / "set")))
    assert {case["dsc"] for case in written(folders)["cases"] if case["case_id"] == "c1"} == {0}


@pytest.mark.parametrize("dataset", [None, "set"])
@pytest.mark.parametrize("missing", ["refuse", "worst", "skip"])
def test_a_damaged_reference_cannot_be_scored_whatever_is_asked_for(folders, dataset, missing):
    damage(folders / "references/c2.nii.gz")
    given = {"dataset": None if dataset is None else str(folders / dataset)}
    with pytest.raises(TumorsegError, match=r"1 of 4 cases failed(.|\n)*references/c2\.nii\.gz"):
        evaluate(request(folders, missing=missing, **given))
    found = written(folders)
    assert (found["failed"], found["is_complete"]) == (["c2"], False)
    assert {case["case_id"] for case in found["cases"]} == {"c0", "c1", "c3"}


@pytest.mark.parametrize("dataset", [None, "set"])
def test_missing_predictions_are_refused_scored_at_their_worst_or_skipped(folders, dataset, capsys):
    (folders / "predictions/c3.nii.gz").unlink()
    places = ["-i", folders / "predictions", "-r", folders / "references", "-o", folders / "scores", "--jobs", 1]
    command = ["evaluate", *map(str, places)] + ([] if dataset is None else ["-d", str(folders / dataset)])
    assert run(command) == 1
    told = capsys.readouterr().err
    assert "c3  found no prediction" in told
    assert "marked as incomplete; predict what is missing too, or give --missing worst" in told
    expected = {
        "refuse": (3, False, None),
        "skip": (3, False, "predictions missing: 1, left out (c3)"),
        "worst": (4, True, "predictions missing: 1, scored as empty masks (c3)"),
    }
    for missing, (count, is_complete, line) in expected.items():
        assert run([*command, "--missing", missing]) == int(missing == "refuse")
        assert line is None or line in capsys.readouterr().out.splitlines()
        found = written(folders)
        assert (found["missing"], found["failed"], found["is_complete"]) == (["c3"], [], is_complete)
        assert len(found["cases"]) == count
        rows = list(csv.DictReader((folders / "scores/metrics.csv").read_text().splitlines()))
        assert [row["case_id"] for row in rows] == ["c0", "c1", "c2", "c3"]
        assert [row["remark"] for row in rows] == ["", "", "", "prediction missing"]
        assert rows[3]["dsc"] == ("0.0" if missing == "worst" else "")
    (summary,) = found["summary"].values()
    assert summary["num_missed"] == 1
    assert summary["dsc"]["mean"] == pytest.approx(np.mean([case["dsc"] for case in found["cases"]]))


def test_where_all_predictions_are_missing_the_same_rules_hold_but_not_where_names_differ(folders):
    (folders / "predictions").rename(folders / "elsewhere")
    (folders / "predictions").mkdir()
    with pytest.raises(TumorsegError, match="4 of 4 cases failed"):
        evaluate(request(folders))
    assert not written(folders)["is_complete"]
    left_out = evaluate(request(folders, missing="skip"))
    assert (left_out.cases, left_out.missing) == ((), ("c0", "c1", "c2", "c3"))
    report = evaluate(request(folders, missing="worst"))
    assert [case.scores["dsc"] for case in report.cases] == [0, 0, 0, 0]
    for path in (folders / "elsewhere").iterdir():
        path.rename(folders / "predictions" / f"other_{path.name}")
    with pytest.raises(InputError, match="no prediction has the case_id of a reference"):
        evaluate(request(folders, missing="worst"))


def test_a_bad_name_on_either_side_is_that_cases_failure_alone(folders):
    (folders / "predictions/c1.nii.gz").rename(folders / "predictions/c1 .nii.gz")
    (folders / "references/c2.nii.gz").rename(folders / "references/c2 .nii.gz")
    with pytest.raises(TumorsegError) as failed:
        evaluate(request(folders))
    assert str(failed.value).count("the name ends with a blank; rename the file") == 2
    assert {case["case_id"] for case in written(folders)["cases"]} == {"c0", "c3"}
    assert written(folders)["missing"] == ["c1"]


def test_a_prediction_that_is_named_and_not_there_is_missing(folders):
    named = tuple(folders / f"predictions/c{number}.nii.gz" for number in (0, 7))
    report = evaluate(request(folders, predictions=named, missing="skip"))
    assert report.missing == ("c1", "c2", "c3")


def test_a_bad_prediction_that_nobody_asked_for_costs_nothing(folders):
    for ending in (".nii", ".nii.gz"):
        save(folders / f"predictions/extra{ending}", drawn(1))
    assert evaluate(request(folders)).is_complete


def test_references_that_are_all_refused_are_listed(folders):
    for path in list((folders / "references").iterdir()):
        path.with_suffix("").write_bytes(b"another")
    with pytest.raises(TumorsegError, match="4 of 4 cases failed"):
        evaluate(request(folders))


def test_only_a_reference_of_dicom_cannot_be_scored_against_nothing(folders):
    files = {"c0": ((), (str(folders / "rt.dcm"),))}
    targets = targets_of(DatasetDescription(name="x", channels=("a",), labels={"background": 0, "tumour": 2}))
    with pytest.raises(TumorsegError, match="the reference is DICOM, and there is no prediction whose grid"):
        check_outcome(score_all(files, Scoring(targets, missing="worst"), jobs=1), folders)


def test_where_nothing_can_be_read_one_line_says_so(folders):
    for part in ("predictions", "references"):
        for path in (folders / part).iterdir():
            damage(path)
    with pytest.raises(InputError, match=r"found no label in any file, and 8 cannot be read; the first is .*c0"):
        evaluate(request(folders))


@pytest.mark.parametrize("name", ["all.csv", "all.JSON"])
def test_one_file_is_written_and_nothing_beside_it(folders, name):
    before = sorted(os.listdir(folders))
    report = evaluate(request(folders, output=folders / "new" / name))
    assert os.listdir(folders / "new") == [name]
    assert sorted(os.listdir(folders)) == sorted([*before, "new"])
    text = (folders / "new" / name).read_text()
    assert text.count("\n") == 5 if name == "all.csv" else MetricsReport.model_validate_json(text) == report
    evaluate(request(folders, output=folders / "new" / name))  # scores may be replaced


def test_another_ending_or_a_folder_that_is_there_is_a_folder(folders):
    (folders / "there.csv").mkdir()
    for name in ("scores.v2", "there.csv"):
        evaluate(request(folders, output=folders / name))
        assert sorted(os.listdir(folders / name)) == ["metrics.csv", "metrics.json", "report.html"]


@pytest.mark.parametrize("name", ["set/manifest.csv", "other.json", "scores/metrics.json", "scores/report.html"])
def test_what_is_no_scores_is_not_written_over(folders, name):
    (folders / "scores").mkdir()
    (folders / "other.json").write_text("{}")
    if name.startswith("scores"):
        (folders / name).write_text('{"cases": 7}')
    before = (folders / name).read_bytes()
    output = folders / "scores" if name.startswith("scores") else folders / name
    with pytest.raises(InputError, match="is there already and holds no scores"):
        evaluate(request(folders, output=output))
    assert (folders / name).read_bytes() == before


def test_one_run_at_a_time_writes_into_a_folder(folders):
    with (
        hold_folder(folders / "scores", doing="written to", error=StorageError),
        pytest.raises(StorageError, match="is being written to by another process"),
    ):
        evaluate(request(folders))
