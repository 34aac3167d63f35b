"""Fields of a document by dotted names."""

import pytest

from tumorseg.errors import PlanError
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.extensions import External
from tumorseg.schema.fields import is_field, places, replaced
from tumorseg.schema.losses import LossSpec
from tumorseg.schema.training import FineTuning, Training
from tumorseg.schema.transforms.intensity import Brightness
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform

LOSS = {"preset": "own", "components": [{"name": "dice", "smooth": 0.5}, {"name": "cross_entropy"}]}
AUGMENTATION = AugmentationSpec(
    transforms=(
        SpatialTransform(rotation_deg=(10.0,)),
        Brightness(),
        MirrorTransform(axes=(0,)),
        Brightness(),
        External(name="elastic", distribution="pkg", version="1", parameters={"grid": {"steps": [4, 4]}}),
    )
).model_dump(mode="json")


def found(record, document, field):
    return places(record, document, field, source="--set", error=PlanError)


def changed(record, document, field, value):
    return record.model_validate(replaced(found(record, document, field), value))


def loss(field, value):
    return changed(LossSpec, LOSS, field, value)


def transforms(field, value):
    return changed(AugmentationSpec, AUGMENTATION, f"transforms.{field}", value).transforms


def test_a_field_that_the_document_does_not_say_has_its_default():
    assert found(LossSpec, LOSS, "components.1.weight")[-1].value == 1.0
    assert transforms("spatial.scaling.low", 0.5)[0].scaling.high == 1.4
    assert changed(LossSpec, LOSS, "weighting.name", "adaptive").weighting.least == 0.2


def test_setting_a_field_of_what_is_switched_off_switches_it_on():
    training = {"epochs": 1, "iterations_per_epoch": 1, "validation_iterations": 1, "fine_tuning": None}
    assert changed(Training, training, "fine_tuning.layer_decay", 0.5).fine_tuning == FineTuning(layer_decay=0.5)
    assert found(Training, training, "fine_tuning.freeze")[-1].value == []
    with pytest.raises(PlanError, match="known here: freeze, freeze_fraction, warmup_fraction, layer_decay"):
        found(Training, training, "fine_tuning.depth")


def test_the_document_stays_as_it_is():
    before = AugmentationSpec.model_validate(AUGMENTATION)
    transforms("0.scaling.low", 0.5)
    assert AugmentationSpec.model_validate(AUGMENTATION) == before


@pytest.mark.parametrize(("key", "number"), [("0", 0), ("spatial", 0), ("mirror", 2), ("elastic", 4)])
def test_an_entry_of_a_list_is_found_by_number_or_by_name(key, number):
    place = found(AugmentationSpec, AUGMENTATION, f"transforms.{key}")[-1]
    assert place.field == f"transforms.{number}"
    assert place.value == AUGMENTATION["transforms"][number]


def test_an_entry_is_added_after_the_last():
    added = loss("components.2", {"name": "topk", "k": 0.2}).components
    assert [one.name for one in added] == ["dice", "cross_entropy", "topk"]


def test_another_record_takes_over_what_it_inherits_from_the_same_one():
    document = replaced(found(LossSpec, LOSS, "components.0.weight"), 3)
    tversky = changed(LossSpec, document, "components.0.name", "tversky").components[0]
    assert (tversky.weight, tversky.smooth, tversky.alpha) == (3.0, 0.5, 0.3)
    # By itself, a boundary's neighbourhood weighs less than other terms.
    assert changed(LossSpec, document, "components.0.name", "nacl").components[0].weight == 0.1


def test_what_is_null_or_a_number_becomes_a_record_by_its_name():
    weights = replaced(found(LossSpec, LOSS, "components.1.class_weights.name"), "inverse_frequency")
    assert changed(LossSpec, weights, "components.1.class_weights.power", 0.5).components[1].class_weights.power == 0.5
    schedule = replaced(found(LossSpec, LOSS, "components.0.weight.name"), "warm_up")
    assert changed(LossSpec, schedule, "components.0.weight.value", 2).components[0].weight.until == 0.1


def test_parameters_of_another_package_are_free():
    other = transforms("elastic.parameters.width", 3)[-1]
    assert other.parameters == {"grid": {"steps": [4, 4]}, "width": 3}
    assert transforms("4.parameters.grid.steps.1", 8)[-1].parameters["grid"] == {"steps": [4, 8]}


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            "transform",
            "--set transform: there is no such field; known here: preset, strength, transforms; did you mean transforms?",
        ),
        ("transforms.6", "--set transforms.6: there is no such field; known here: 0, 1, 2, 3, 4, 5, spatial, mirror, "),
        ("transforms.5.name", "known here: 0, 1, 2, 3, 4, spatial, mirror, elastic"),
        ("transforms.brightness.factor", "known here: 0, 1, 2, 3, 4, spatial, mirror, elastic"),
        ("transforms.miror.axes", "--set transforms.miror: .*; did you mean mirror?"),
        (
            "transforms.0.scale",
            "--set transforms.0.scale: .*known here: name, rotation_probability, .*did you mean scaling?",
        ),
        ("transforms.mirror.axes.0.x", "--set transforms.2.axes.0.x: there is no such field; known here: nothing"),
        ("transforms..0", "--set transforms.: "),
        ("", "--set : "),
    ],
)
def test_where_a_path_leaves_the_schema_what_exists_is_listed(field, message):
    with pytest.raises(PlanError, match=message.replace("?", r"\?")):
        found(AugmentationSpec, AUGMENTATION, field)


def test_keys_may_hold_dots():
    document = {"a.b": [{"c": 1}], "d": 2}
    assert is_field(document, ["a", "b", "0", "c"])
    assert not is_field(document, ["a", "b", "1"])
    assert not is_field(document, ["d", "e"])
