import json
import os

import pytest

from tests.stages.evaluation.cohort_files import request
from tumorseg.cli.main import run
from tumorseg.errors import InputError, StorageError
from tumorseg.stages.evaluation.comparing import CompareRequest, compare_scores
from tumorseg.stages.evaluation.evaluate import evaluate
from tumorseg.stages.evaluation.results import check_replaceable


def scores(path, dsc):
    path.write_text("case_id,label,dsc,iou\n" + "".join(f"c{number},WT,0.{dsc + number},0.5\n" for number in range(6)))
    return path


@pytest.fixture
def models(tmp_path):
    """Folders of the scores of two models, and what they hold."""
    for name, dsc in (("a", 4), ("b", 3)):
        compare_scores(CompareRequest(tables=(scores(tmp_path / f"{name}.csv", dsc),), output=tmp_path / name))
    return tmp_path


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "words",
    [
        "--from a --from b -o a",
        "--from a/metrics.csv --from b -o a",
        "--from a --metrics dsc -o a",
        "--from b --against a -o a",
        "--from a.csv -o a.csv",
        "--from linked -o a",
        "--from a -o linked",
        "--from c/against --from b -o c",
    ],
)
def test_what_is_read_is_not_written_over(models, monkeypatch, capsys, words):
    monkeypatch.chdir(models)
    (models / "linked").symlink_to("a")
    compare_scores(CompareRequest(tables=(models / "b.csv",), output=models / "c/against"))
    # A table of ours could be replaced if it were not read.
    (models / "a.csv").write_bytes((models / "a/metrics.csv").read_bytes())
    before = content(models)
    assert run(["evaluate", *words.split()]) == 1
    assert "is read, and would be replaced by the results; give another -o" in capsys.readouterr().err
    assert content(models) == before


def test_scores_to_compare_predictions_with_are_not_written_over(cohort):
    rival = cohort / "rival"
    plain = {"references": (cohort / "set/label",), "output": rival}
    evaluate(request(cohort, **plain))
    before = content(rival)
    with pytest.raises(InputError, match="is read, and would be replaced"):
        evaluate(request(cohort, **plain, against=rival))
    assert content(rival) == before


def test_a_ranking_leaves_the_scores_that_are_there(models):
    kept = {name: found for name, found in content(models / "a").items() if name.startswith("metrics")}
    compare_scores(CompareRequest(tables=(models / "a.csv", models / "b.csv"), output=models / "a"))
    found = content(models / "a")
    assert kept.items() <= found.items()
    assert json.loads(found["ranking.json"])["names"] == ["a", "b"]


@pytest.mark.parametrize("header", ["case_id,label,t1", "case_id,label,dsc"])
def test_manifests_and_tables_of_others_are_no_results_to_replace(models, header):
    table = models / "mine.csv"
    table.write_text(f"{header}\nc0,l.nii.gz,0.5\n")
    with pytest.raises(InputError, match="is there already and holds no scores"):
        compare_scores(CompareRequest(tables=(models / "a",), output=table))


@pytest.mark.parametrize("name", ["report.html", "metrics.json"])
def test_a_pipe_in_the_place_of_a_result_is_refused_and_not_opened(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(StorageError, match="is a pipe"):
        check_replaceable(tmp_path)
