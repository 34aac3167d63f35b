import json

import pytest

from tests.stages.evaluation.cohort_files import request
from tumorseg.cli.main import run
from tumorseg.errors import InputError, TumorsegError
from tumorseg.stages.evaluation.comparing import CompareRequest, compare_scores
from tumorseg.stages.evaluation.evaluate import evaluate

SCORES = "case_id,label,dsc\n" + "".join(f"c{number},label_{label},0.5\n" for number in range(4) for label in (1, 2))


@pytest.fixture
def unreadable(cohort):
    """A cohort of which no case can be scored, so that any message about scores comes late."""
    for path in (cohort / "predictions").iterdir():
        path.write_bytes(path.read_bytes()[:60])
    return cohort


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cluster": "patient"}, "no case has a value of 'patient', the column of clusters"),
        ({"subgroups": ("scanner",)}, "no case has a value of 'scanner'; expected one of .*site.*, size$"),
        ({"subgroups": ("site=4",)}, "column 'site' is no column of numbers"),
        ({"subgroups": ("size=4,3",)}, "found 'size=4,3'; expected edges that rise"),
    ],
)
def test_columns_that_do_not_fit_are_refused_before_anything_is_scored(unreadable, options, told):
    with pytest.raises(InputError, match=told):
        evaluate(request(unreadable, **options))


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ("case_id,label,dsc\n,WT,1\n", "the cell of case_id is empty"),
        (SCORES.replace("label_", "WT"), "no label of a case is scored in all"),
        (SCORES.replace("c", "d").replace("dase_id", "case_id").replace("dsd", "dsc"), "no label of a case is scored"),
        (SCORES.replace("dsc", "iou"), "no metric is measured in all"),
    ],
)
def test_scores_that_cannot_be_compared_with_are_refused_before_anything_is_scored(unreadable, scores, told):
    table = unreadable / "others.csv"
    table.write_text(scores)
    with pytest.raises(InputError, match=told):
        evaluate(request(unreadable, output=unreadable / "out", against=table))
    table.write_text(SCORES)
    with pytest.raises(TumorsegError, match="4 of 4 cases failed"):
        evaluate(request(unreadable, output=unreadable / "out", against=table))


def test_scores_are_written_though_the_cases_to_compare_have_failed(cohort):
    table = cohort / "others.csv"
    # Of plain files no image is known, so that no picture is drawn.
    options = {"references": (cohort / "set/label",), "output": cohort / "out", "against": table}
    table.write_text("\n".join(line for line in SCORES.splitlines() if not line.startswith(("c0", "c1", "c2"))) + "\n")
    (cohort / "predictions/c3.nii.gz").write_bytes(b"none")
    with pytest.raises(TumorsegError, match="1 of 4 cases failed"):
        evaluate(request(cohort, **options))
    assert len(json.loads((cohort / "out/metrics.json").read_text())["cases"]) == 6
    assert not (cohort / "out/comparison.json").exists()
    # The prediction is missing, and that is asked to be left out: only the comparison fails.
    (cohort / "predictions/c3.nii.gz").unlink()
    with pytest.raises(InputError, match=r"no label of a case is scored in all: .*; the scores are written to"):
        evaluate(request(cohort, **options, missing="skip"))
    assert len(json.loads((cohort / "out/metrics.json").read_text())["cases"]) == 6


def test_a_column_that_failed_cases_alone_have_costs_the_subgroups_and_not_the_scores(cohort):
    (cohort / "known.csv").write_text("case_id,scanner\nc3,X\n")
    (cohort / "predictions/c3.nii.gz").write_bytes(b"none")
    with pytest.raises(TumorsegError, match="1 of 4 cases failed"):
        evaluate(request(cohort, table=cohort / "known.csv", subgroups=("scanner",)))
    found = json.loads((cohort / "out.json").read_text())
    assert len(found["cases"]) == 6
    assert "without clusters and subgroups: no case has a value of 'scanner'" in found["warnings"]


def test_the_size_is_called_as_the_user_calls_it(cohort, capsys):
    table = cohort / "others.csv"
    table.write_text(SCORES)
    with pytest.raises(InputError, match=r"no case has a value of 'site'; expected one of size$"):
        compare_scores(CompareRequest(tables=(table,), subgroups=("site",)))
    with pytest.raises(InputError, match="no case has a value of 'size': the table does not say"):
        compare_scores(CompareRequest(tables=(table,), subgroups=("size",)))
    assert run(["evaluate", "--from", str(table), "--against", str(table), "--subgroups", "x"]) == 1
    assert "reference_volume_ml" not in capsys.readouterr().err


def test_what_a_dataset_knows_of_cases_is_not_lost_where_references_are_a_layout_too(cohort):
    rows = ["case_id,t1,label,site,scanner"]
    rows += [f"c{number},t1/c{number}.nii.gz,label/c{number}.nii.gz,Graz,S{number}" for number in range(4)]
    (cohort / "set/other").mkdir()
    (cohort / "set/other/manifest.csv").write_text(
        "\n".join(rows).replace("t1/c", "../t1/c").replace("label/c", "../label/c") + "\n"
    )
    report = evaluate(request(cohort, dataset=str(cohort / "set"), references=(cohort / "set/other",)))
    assert report.attributes["c3"] == {"group": "p1", "site": "Bern", "age": "43", "scanner": "S3"}
    assert report.intervals.cluster == "group"


def test_advice_names_no_option_that_was_given(cohort):
    (cohort / "predictions/c0.nii.gz").unlink()
    (cohort / "predictions/c1.nii.gz").write_bytes(b"none")
    with pytest.raises(TumorsegError, match="or give --missing worst") as refused:
        evaluate(request(cohort))
    assert "--missing skip" in str(refused.value)
    with pytest.raises(TumorsegError, match="1 of 4 cases failed") as refused:
        evaluate(request(cohort, missing="skip"))
    assert "--missing" not in str(refused.value)
