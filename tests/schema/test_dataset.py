"""Datasets, their labels and regions, and the targets that follow."""

import pytest
from pydantic import ValidationError

from tumorseg.schema.base import to_json
from tumorseg.schema.dataset import Case, Channel, Dataset, DatasetDescription, ImageFile, repeated_values
from tumorseg.schema.targets import Targets, targets_of

BRATS = {
    "name": "BraTS2021",
    "channels": ["T1", {"name": "FLAIR", "kind": "mr"}],
    "labels": {"ET": 4, "background": 0, "NCR": 1, "ED": 2},
    "regions": [
        {"name": "WT", "labels": [4, 2, 1], "value": 2},
        {"name": "TC", "labels": [1, 4], "value": 1},
        {"name": "ET", "labels": [4], "value": 4},
    ],
}


def described(**changes):
    return DatasetDescription.model_validate(BRATS | changes)


def test_channels_are_names_or_records():
    assert described().channels == (Channel(name="T1"), Channel(name="FLAIR", kind="mr"))


def test_labels_are_sorted_by_value_so_that_equal_datasets_are_equal_bytes():
    turned = described(labels=dict(reversed(BRATS["labels"].items())))
    assert list(turned.labels) == ["background", "NCR", "ED", "ET"]
    assert to_json(turned) == to_json(described())
    assert DatasetDescription.model_validate_json(to_json(turned)) == described()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": []}, "at least 1 item"),
        ({"channels": ["T1", "T1"]}, r"channel given twice: \['T1'\]"),
        ({"channels": [{"name": "T1", "kind": "xray"}]}, "'ct', 'mr', 'pet', 'rgb' or 'other'"),
        ({"labels": {"a": 1, "b": 1}, "regions": []}, r"label value given twice: \[1\]"),
        ({"labels": {"a": 1.5}}, "valid integer"),
        ({"regions": [{"name": "WT", "labels": [3], "value": 2}]}, r"WT names label values \[3\]; .* are 1, 2, 4"),
        ({"regions": [{"name": "WT", "labels": [1], "value": 3}]}, r"WT names label values \[3\]"),
        ({"regions": [{"name": "WT", "labels": [0, 1], "value": 1}]}, r"WT names label values \[0\]"),
        ({"regions": [{"name": "WT", "labels": [], "value": 1}]}, "at least 1 item"),
        ({"regions": [{"name": "WT", "labels": [1], "value": 0}]}, "greater than 0"),
        ({"regions": BRATS["regions"] + BRATS["regions"][:1]}, r"region given twice: \['WT'\]"),
        ({"ignore_label": 4}, r"names label values \[4\]; foreground labels are 1, 2"),
        ({"name": "a/b"}, "a name that a file can bear"),
        ({"name": ""}, "a name that a file can bear"),
        ({"name": "a\nb"}, "a name that a file can bear"),
        ({"name": "x" * 201}, "at most 200"),
    ],
)
def test_an_unsound_description_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        described(**changes)


def test_the_background_is_not_ignored():
    with pytest.raises(ValidationError, match="ignore_label"):
        described(ignore_label=0)


def cases_named(*names):
    return [{"case_id": name, "images": [{"path": f"{name}.nii.gz", "index": 0}]} for name in names]


def test_a_dataset_is_its_description_and_its_cases():
    dataset = Dataset.model_validate(BRATS | {"cases": cases_named("b", "a")})
    assert dataset.description() == described()
    assert type(dataset.description()) is DatasetDescription
    assert dataset.cases[0] == Case(case_id="b", images=(ImageFile(path="b.nii.gz", index=0),))
    assert (dataset.cases[0].label, dataset.cases[0].group, dataset.cases[0].site) == (None, None, None)
    assert Dataset.model_validate_json(to_json(dataset)) == dataset


def test_a_case_given_twice_is_refused():
    with pytest.raises(ValidationError, match=r"case_id given twice: \['a'\]"):
        Dataset.model_validate(BRATS | {"cases": cases_named("a", "b", "a")})


@pytest.mark.parametrize("case_id", ["a/b", "a\\b", "", "a\x00b"])
def test_a_case_id_can_be_a_file_name(case_id):
    with pytest.raises(ValidationError, match="a name that a file can bear"):
        Dataset.model_validate(BRATS | {"cases": cases_named(case_id)})


def test_repeated_values_are_sorted():
    assert repeated_values([3, 1, 2, 3, 1, 3]) == [1, 3]
    assert repeated_values([]) == []


def test_labels_become_class_indices_in_the_order_of_their_values():
    targets = targets_of(described(regions=[]))
    assert targets == Targets(
        label_values=(0, 1, 2, 4), label_names=("background", "NCR", "ED", "ET"), ignore_value=None
    )
    assert not targets.has_regions
    assert (targets.num_classes, targets.num_outputs) == (4, 4)
    assert targets.scored_names == ("NCR", "ED", "ET")
    assert targets.scored_classes == ((1,), (2,), (3,))


def test_regions_hold_class_indices_and_keep_their_order():
    targets = targets_of(described())
    assert targets.has_regions
    assert targets.region_names == targets.scored_names == ("WT", "TC", "ET")
    assert targets.regions == targets.scored_classes == ((1, 2, 3), (1, 3), (3,))
    assert targets.region_values == (2, 1, 4)
    assert (targets.num_classes, targets.num_outputs) == (4, 3)


def test_the_ignore_label_is_no_class():
    targets = targets_of(described(labels={"background": 0, "a": 1, "unsure": 2, "b": 3}, regions=[], ignore_label=2))
    assert targets.label_values == (0, 1, 3)
    assert targets.label_names == ("background", "a", "b")
    assert targets.ignore_value == 2
    assert targets.scored_classes == ((1,), (2,))


def test_label_values_may_have_gaps_and_be_negative():
    labels = {f"parcel_{value}": value for value in (2035, 1001, 17, -5)}
    targets = targets_of(described(labels=labels, regions=[]))
    assert targets.label_values == (0, -5, 17, 1001, 2035)
    assert targets.label_names == ("background", "parcel_-5", "parcel_17", "parcel_1001", "parcel_2035")
