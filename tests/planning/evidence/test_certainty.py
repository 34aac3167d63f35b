import pytest

from tests.planning.measured import case, fingerprint, made, planned
from tumorseg.errors import PlanError
from tumorseg.planning.evidence.certainty import many_labels
from tumorseg.planning.options import PlanOptions
from tumorseg.planning.reading.explanation import explain
from tumorseg.planning.reading.soundness import Parsed, check_plan
from tumorseg.schema.dataset import DatasetDescription, LabelDoubt

LABELS = {"background": 0, "liver": 1, "tumour": 2, "unknown": 3}
DOUBTS = (
    LabelDoubt(message="1 in 2 cases, 255 in 1 case", case_ids=("a", "b", "c")),
    LabelDoubt(message="masks are smoothed"),
)


def measured(*voxels, **dataset):
    """Return a fingerprint of cases with these voxels of each label; None where they are not known."""
    cases = [case(f"case_{number}", label_voxels=held) for number, held in enumerate(voxels)]
    return fingerprint(cases, labels=LABELS, **dataset)


def test_doubtful_labels_are_not_planned_for_unless_they_are_confirmed():
    doubtful = fingerprint().model_copy(update={"doubts": DOUBTS})
    with pytest.raises(PlanError) as caught:
        planned(doubtful)
    (line,) = str(caught.value).splitlines()
    assert "1 in 2 cases, 255 in 1 case; masks are smoothed" in line
    assert "label:NAME=VALUE" in line
    assert "--confirm-labels" in line
    reason = planned(doubtful, confirm_labels=True).reasons["dataset.labels"]
    assert reason.rule.startswith("--confirm-labels")
    assert reason.inputs == {"doubts": [doubt.message for doubt in DOUBTS], "absent": []}


def test_a_label_that_no_case_has_is_not_planned_for_unless_it_is_confirmed():
    absent = measured({"liver": 90, "tumour": 0, "unknown": 7}, {"liver": 80, "tumour": 0, "unknown": 0})
    with pytest.raises(PlanError, match=r"Toy: no case has a voxel of tumour, .* or give --confirm-labels"):
        planned(absent)
    assert planned(absent, confirm_labels=True).reasons["dataset.labels"].inputs == {"doubts": [], "absent": ["tumour"]}


def test_background_and_ignored_voxels_need_not_occur():
    plan = planned(measured({"liver": 90, "tumour": 1}, ignore_label=3))
    assert "dataset.labels" not in plan.reasons


def test_a_label_that_a_layout_only_allows_for_need_not_occur():
    optional = measured({"liver": 90, "tumour": 0, "unknown": 7}, optional_labels=("tumour",))
    assert "dataset.labels" not in planned(optional).reasons


def test_a_label_of_one_case_is_not_absent():
    assert "dataset.labels" not in planned(measured({"liver": 9, "tumour": 5}, {"unknown": 3})).reasons


def test_labels_count_as_absent_only_where_every_case_was_counted():
    assert "dataset.labels" not in planned(measured({"liver": 90}, None)).reasons


def test_labels_that_are_certain_need_no_confirming_and_have_no_reason():
    assert "dataset.labels" not in planned(confirm_labels=True).reasons


def test_the_reason_is_explained_and_taken_for_one_of_a_field_of_the_plan():
    plan = planned(fingerprint().model_copy(update={"doubts": DOUBTS}), confirm_labels=True)
    assert "--confirm-labels" in str(explain(plan))
    assert not [found for found in check_plan(Parsed.of(plan), {}) if found.kind == "stale_reason"]


def numbered(count):
    return {"background": 0} | {f"label_{number}": number for number in range(11, 11 + count)}


def test_many_labels_that_were_found_in_files_are_warned_of_and_planned():
    (warning,) = made(fingerprint(labels=numbered(24)), PlanOptions()).warnings[:1]
    assert warning.startswith("found 24 labels in the label files, with values from 11 to 34;")


@pytest.mark.parametrize("labels", [numbered(23), {f"rib {number}": number for number in range(1, 31)}])
def test_few_labels_and_labels_with_names_are_not_warned_of(labels):
    assert many_labels(DatasetDescription(name="Toy", channels=("CT",), labels=labels)) == []
