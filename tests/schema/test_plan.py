"""The plan document."""

import copy

import pytest
from pydantic import ValidationError

from tests.planning.measured import fingerprint, planned
from tumorseg.errors import PlanError
from tumorseg.schema.base import parse_record, to_json
from tumorseg.schema.plan import Plan

DOCUMENT = planned(fingerprint(channels=("T1", "T2"))).model_dump(mode="json")


def changed(path, value):
    """Return the document with one dotted field set."""
    document = copy.deepcopy(DOCUMENT)
    *parents, last = path.split("/")
    inner = document
    for key in parents:
        inner = inner[int(key) if key.isdecimal() else key]
    inner[last] = value
    return document


def refusal(document):
    with pytest.raises(PlanError) as refused:
        parse_record(Plan, document, source="plan.json", error=PlanError)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_plan_survives_json_byte_by_byte():
    plan = Plan.model_validate(DOCUMENT)
    assert to_json(Plan.model_validate_json(to_json(plan))) == to_json(plan)
    assert Plan.model_validate_json(to_json(plan)) == plan


@pytest.mark.parametrize("key", [key for key in DOCUMENT if key not in ("schema_version", "parent", "orientation")])
def test_a_missing_key_is_named(key):
    assert refusal({name: value for name, value in DOCUMENT.items() if name != key}) == f"plan.json: {key}: missing"


@pytest.mark.parametrize(
    "path",
    [
        "colour",
        "dataset/colour",
        "configurations/2d/colour",
        "configurations/2d/network/colour",
        "configurations/2d/loss/components/0/colour",
        "configurations/2d/optimizer/colour",
        "configurations/2d/augmentation/transforms/0/colour",
        "training/colour",
        "budget/colour",
        "reasons/folds/colour",
    ],
)
def test_an_unknown_key_is_named_wherever_it_stands(path):
    message = refusal(changed(path, 1))
    assert "colour: unknown key (misspelt, or from another version of tumorseg)" in message
    assert message.count(";") == 0


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema_version", 99, "schema_version: expected 8, found 99"),
        (
            "schema_version",
            2,
            "schema_version: the plan is of version 2, this is version 8 of its form; plan the dataset",
        ),
        ("cropping", "no", "cropping: expected true or false, found 'no'"),
        (
            "dataset/labels",
            {"background": 0, "tumour": True},
            "dataset.labels.tumour: expected a whole number, found true",
        ),
        ("default_configuration", "3d", "default_configuration '3d' is not in configurations ['2d', '3d_fullres']"),
        ("transpose", [0, 1, 1], "transpose [0, 1, 1] is no permutation of 0, 1, 2"),
        ("folds", [["a", "b"], ["c", "a"]], "folds hold out a case twice: ['a']"),
        ("kept_from_training", [["a"]], "kept_from_training has 1 lists for 5 folds"),
        (
            "kept_from_training",
            [[], ["case_0003", "case_0000"], [], [], []],
            "kept_from_training.1 names cases that the fold holds out: ['case_0003']",
        ),
        ("dataset/excluded", ["case_0003"], "folds name cases that the plan does not use"),
        ("dataset/listed", ["case_0003"], "folds name cases that the plan does not use"),
        ("configurations", {}, "configurations: expected at least 1 entry, found 0"),
        ("orientation", "LPS", "orientation: expected 'RAS' or 'as_stored', found 'LPS'"),
        ("name", "plans/x", "name: expected a name that a file can bear"),
        (
            "configurations/2d/normalization",
            [{"name": "none"}],
            "configurations.2d.normalization has 1 entries for 2 channels",
        ),
        (
            "configurations/2d/patch_size",
            [57, 40],
            "patch_size [57, 40] must be multiples of [8, 8], the product of the strides",
        ),
        ("configurations/2d/patch_size", [56, 40, 40], "need 2 entries each, or 3 each"),
        ("configurations/2d/patch_size", [56], "need 2 entries each, or 3 each"),
        ("configurations/2d/spacing_mm", [1, 1, 1], "need 2 entries each, or 3 each"),
        ("configurations/2d/spacing_mm", [1, 0], "spacing_mm.1: expected more than 0, found 0"),
        ("configurations/2d/batch_size", 0, "batch_size: expected 1 or more, found 0"),
        (
            "configurations/2d/loss/deep_supervision_weights",
            [1.0],
            "loss.deep_supervision_weights has 1 entries, the network 3 outputs",
        ),
        (
            "configurations/2d/network/deep_supervision",
            False,
            "loss.deep_supervision_weights has 3 entries, the network 1 outputs",
        ),
        ("configurations/2d/inference/mirroring_axes", [0, 2], "mirroring_axes (0, 2) has an axis not in 0 to 1"),
        ("configurations/2d/inference/overlap", 1, "overlap: expected less than 1, found 1"),
        ("configurations/2d/resampling/image_order", 2, "image_order: expected 0, 1 or 3, found 2"),
        ("configurations/2d/network", DOCUMENT["configurations"]["3d_fullres"]["network"], "the network has 3 axes"),
        (
            "configurations/2d/network/name",
            "unext",
            "network has an unknown name; known are plain_unet, residual_unet",
        ),
    ],
)
def test_an_unsound_value_is_refused_with_its_reason(path, value, message):
    assert message in refusal(changed(path, value))


def test_a_plan_without_folds_is_sound():
    assert Plan.model_validate(changed("folds", [])).folds == ()


def test_an_external_network_is_not_held_to_a_u_nets_divisors():
    network = {"name": "tiny", "parameters": {"k": 3}, "distribution": "tiny-nets", "version": "1.2"}
    document = changed("configurations/2d/network", network)
    document["configurations"]["2d"]["patch_size"] = [57, 41]
    assert Plan.model_validate(document).configurations["2d"].network.distribution == "tiny-nets"


def test_without_deep_supervision_there_is_one_weight():
    document = changed("configurations/2d/network/deep_supervision", False)
    document["configurations"]["2d"]["loss"]["deep_supervision_weights"] = [1.0]
    assert not Plan.model_validate(document).configurations["2d"].network.deep_supervision


def test_a_configuration_knows_its_axes():
    configurations = Plan.model_validate(DOCUMENT).configurations
    assert [configurations[name].num_axes for name in ("2d", "3d_fullres")] == [2, 3]


@pytest.mark.parametrize(
    "transform",
    [
        {"name": "mirror", "axes": [2]},
        {"name": "spatial", "rotation_deg": [10, 10, 10]},
    ],
)
def test_transforms_have_the_configurations_axes(transform):
    with pytest.raises(ValidationError):
        Plan.model_validate(changed("configurations/2d/augmentation", {"transforms": [transform]}))
