import json

import numpy as np
import pytest

from tests.stages.evaluation.cohort_files import NUM_CASES, drawn, request, save
from tumorseg.errors import InputError, TumorsegError
from tumorseg.stages.evaluation.evaluate import evaluate

WHOLE = {"core": {"prediction": 1, "reference": 1}, "edema": {"prediction": 2, "reference": 2}}


def mapped(folder, structures, **options):
    (folder / "same.json").write_text(json.dumps(structures))
    return request(folder, labels=folder / "same.json", **options)


@pytest.mark.parametrize("side", ["prediction", "reference"])
def test_a_stated_value_that_no_file_holds_is_refused(cohort, side):
    wrong = {"core": WHOLE["core"] | {side: [1, 9]}}
    told = rf"same\.json: names 9 of {side}s, which no {side} holds; expected values that are there \(1, 2\); correct the file"
    with pytest.raises(InputError, match=told):
        evaluate(mapped(cohort, wrong))


def test_with_a_dataset_values_of_references_are_its_own_and_those_of_predictions_may_be_found_in_files(cohort):
    options = {"dataset": str(cohort / "set")}
    wrong = {"core": {"prediction": 1, "reference": 9}}
    with pytest.raises(InputError, match=r"names 9 of references, which \S+ does not have; .*\(1, 2\)"):
        evaluate(mapped(cohort, wrong, **options))
    wrong = {"core": {"prediction": 9, "reference": 1}}
    with pytest.raises(InputError, match=r"names 9 of predictions, which no prediction holds and \S+ does not have"):
        evaluate(mapped(cohort, wrong, **options))
    for number in range(NUM_CASES):
        save(cohort / f"predictions/c{number}.nii.gz", np.array([0, 9, 2], np.uint8)[drawn(number)])
    report = evaluate(mapped(cohort, wrong, **options))
    assert {case.scores["dsc"] for case in report.cases} == {1.0}
    # The dataset has it, though no model found it.
    report = evaluate(mapped(cohort, {"core": WHOLE["core"], "other": {"prediction": 9}}, **options))
    assert {case.scores["dsc"] for case in report.cases} == {0.0}


def test_what_an_unreadable_file_may_hold_is_told_rather_than_refused(cohort):
    (cohort / "predictions/c1.nii.gz").write_bytes(b"none")
    wrong = {"core": WHOLE["core"] | {"prediction": [1, 9]}}
    with pytest.raises(TumorsegError, match="1 of 4 cases failed"):
        evaluate(mapped(cohort, wrong))
    told = "same.json: names 9 of predictions, which no prediction holds, as far as they can be looked at"
    assert told in json.loads((cohort / "out.json").read_text())["warnings"]


def test_values_that_the_file_does_not_name_are_told(cohort):
    stray = drawn(1)
    stray[12, 10, 5] = 77
    save(cohort / "predictions/c1.nii.gz", stray)
    report = evaluate(mapped(cohort, WHOLE))
    file = cohort / "predictions/c1.nii.gz"
    told = (
        f"same.json: names nothing for the label values 77 (first in {file}) of predictions, which count as background"
    )
    assert report.warnings[0] == told
    named = evaluate(mapped(cohort, WHOLE | {"stray": {"prediction": 77}}))
    assert not [line for line in named.warnings if "same.json" in line]
    assert named.cases == report.cases


def test_a_label_of_the_dataset_that_is_forgotten_is_told_on_both_sides(cohort):
    report = evaluate(mapped(cohort, {"core": WHOLE["core"]}, dataset=str(cohort / "set")))
    lines = [line for line in report.warnings if "same.json" in line]
    assert len(lines) == 2
    assert "2 (first in" in lines[0]
    assert "2 (edema) of references" in lines[1]


def test_with_a_dataset_a_stray_value_that_neither_it_nor_the_file_has_costs_its_case(cohort):
    stray = drawn(1)
    stray[12, 10, 5] = 77
    save(cohort / "predictions/c1.nii.gz", stray)
    options = {"dataset": str(cohort / "set")}
    with pytest.raises(TumorsegError, match=r"1 of 4 cases failed(.|\n)*label values 77 \(1 voxels\)(.|\n)*--labels"):
        evaluate(mapped(cohort, WHOLE, **options))
    assert evaluate(mapped(cohort, WHOLE | {"stray": {"prediction": 77}}, **options)).is_complete
