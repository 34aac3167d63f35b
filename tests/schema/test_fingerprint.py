"""The fingerprint document."""

import pytest
from pydantic import ValidationError

from tests.planning.measured import MR, case, fingerprint
from tumorseg.schema.base import to_json
from tumorseg.schema.fingerprint import Fingerprint

DOCUMENT = fingerprint().model_dump(mode="json")


def test_a_fingerprint_survives_json():
    sizes = {"label_voxels": {"tumour": 3}, "run_lengths_mm": {"tumour": (1.5, 3.0, 2.0)}}
    made = fingerprint([case("a", **sizes, group="p1", site="x", content_hash="c0")])
    assert Fingerprint.model_validate_json(to_json(made)) == made


def test_the_contract_of_the_design_is_enough():
    measured = {"case_id": "a", "spacing_mm": [1, 1, 1], "shape": [9, 9, 9], "shape_after_crop": [8, 9, 9]}
    dataset = {"name": "x", "channels": ["CT"], "labels": {"bg": 0, "a": 1}, "regions": [], "ignore_label": None}
    made = Fingerprint.model_validate(
        {
            "schema_version": 1,
            "dataset": dataset,
            "cases": [measured],
            "intensities": {"CT": MR.model_dump()},
            "median_relative_size_after_cropping": 0.5,
        }
    )
    assert made.content_hash is None
    assert made.cases[0].label_voxels is None
    assert made.cases[0].run_lengths_mm is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "Input should be 1"),
        ({"cases": []}, "at least 1 item"),
        ({"intensities": {}}, r"intensities are of \[\], channels are \['MRI'\]"),
        ({"intensities": {"CT": MR.model_dump()}}, r"intensities are of \['CT'\], channels are \['MRI'\]"),
        ({"median_relative_size_after_cropping": 0.0}, "greater than 0"),
        ({"median_relative_size_after_cropping": 1.1}, "less than or equal to 1"),
    ],
)
def test_an_unsound_fingerprint_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        Fingerprint.model_validate(DOCUMENT | changes)


@pytest.mark.parametrize("key", ["schema_version", "dataset", "cases", "intensities"])
def test_a_missing_key_is_refused(key):
    with pytest.raises(ValidationError, match="Field required"):
        Fingerprint.model_validate({name: value for name, value in DOCUMENT.items() if name != key})


@pytest.mark.parametrize(
    "fields", [{"spacing_mm": (0.0, 1.0, 1.0)}, {"spacing_mm": (1.0, 1.0)}, {"shape": (9, 9)}, {"case_id": "a/b"}]
)
def test_an_impossible_case_is_refused(fields):
    with pytest.raises(ValidationError):
        case(**fields)


@pytest.mark.parametrize("shape", [(0, 9, 9), (-4, 9, 9)])
def test_a_shape_without_voxels_is_refused(shape):
    with pytest.raises(ValidationError):
        case(shape=shape)
