"""Every value of a plan is explained."""

import json

import pytest

from tests.planning.measured import CT, fingerprint, planned
from tumorseg.planning.reading.explanation import explain
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.dataset import Region
from tumorseg.schema.extensions import External

REGIONS = [{"name": "whole", "labels": [1, 2], "value": 1}]
LABELS = {"background": 0, "edema": 1, "core": 2}


def by_field(plan):
    return {item.field: (item, reason) for item, reason in explain(plan).leaves()}


def value_at(document, field):
    for key in field.split("."):
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def leaves_of(value, path=()):
    """Yield the path of every scalar of a JSON document."""
    if isinstance(value, dict | list) and value:
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in entries:
            yield from leaves_of(entry, (*path, str(key)))
    else:
        yield path


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, ()),
        ({"preset": "fast_prototyping", "network": "residual_unet", "vram_gb": 6}, ("optimizer.name=adamw",)),
        ({"max_hours": 2.5}, ("augmentation.transforms.0.scaling.low=0.8", "configurations.2d.patch_size.0=64")),
    ],
)
def test_no_value_of_a_plan_is_left_out_and_each_has_a_meaning(options, settings):
    plan = planned(fingerprint(channels=("T1", "T2"), labels=LABELS, regions=REGIONS), *settings, **options)
    document = plan.model_dump(mode="json", exclude={"reasons"})
    told = by_field(plan)
    for field, (item, _) in told.items():
        assert value_at(document, field) == item.value, field
        assert item.meaning, field
        assert "\n" not in item.meaning
    for path in leaves_of(document):
        heads = [".".join(path[:count]) for count in range(1, len(path) + 1)]
        assert any(head in told for head in heads), path


def test_a_value_has_its_own_reason_or_that_of_the_nearest_part():
    plan = planned(fingerprint())
    told = by_field(plan)
    prefix = "configurations.3d_fullres"
    for field, holder in [
        (f"{prefix}.patch_size", f"{prefix}.patch_size"),
        (f"{prefix}.network.strides", f"{prefix}.network"),
        (f"{prefix}.augmentation.transforms.0.scaling", f"{prefix}.augmentation"),
        (f"{prefix}.normalization.0.masked", f"{prefix}.normalization.0"),
        (f"{prefix}.inference.mirroring_axes", f"{prefix}.inference.mirroring_axes"),
        (f"{prefix}.inference.overlap", f"{prefix}.inference"),
        ("training.epochs", "training"),
    ]:
        assert told[field][1] == plan.reasons[holder], field
    assert told["fingerprint.num_cases"][1] is None


def test_groups_stand_in_reading_order_with_the_default_configuration_first():
    explanation = explain(planned(fingerprint()))
    titles = [section.title for section in explanation.sections]
    assert titles == ["Plan", "Dataset", "Fingerprint", "Budget", "3d_fullres (default)", "2d", "Training"]
    assert [section.anatomy is not None for section in explanation.sections] == [False] * 4 + [True, True, False]


def test_what_the_user_set_stands_out_with_what_was_planned():
    settings = ("training.epochs=7", "optimizer.lr=0.5", "configurations.2d.patch_size.0=64", "loss.preset=nnunet")
    choices = {item.field: item for item in explain(planned(fingerprint(), *settings, vram_gb=9)).choices()}
    assert set(choices) == {
        "budget.vram_bytes",
        "training.epochs",
        "configurations.2d.patch_size.0",
        *(
            f"configurations.{name}.{field}"
            for name in ("2d", "3d_fullres")
            for field in ("optimizer.lr", "loss.preset")
        ),
    }
    epochs = choices["training.epochs"]
    assert (epochs.value, epochs.reason.inputs["planned"]) == (7, planned(fingerprint()).training.epochs)


def test_a_configuration_set_as_a_whole_says_so():
    plan = planned(fingerprint())
    plane = json.dumps(plan.configurations["2d"].model_dump(mode="json"))
    explanation = explain(planned(fingerprint(), f"configurations.2d={plane}"))
    reasons = {section.configuration: section.reason for section in explanation.sections}
    assert reasons["2d"].rule == "set by the user"
    assert reasons["3d_fullres"] is None


def test_names_of_channels_and_transforms_stand_beside_their_numbers():
    explanation = explain(planned(fingerprint(channels=("CT", "PET"), intensities=CT)))
    names = {part.name for section in explanation.sections for value in section.values for part in value.parts}
    assert {"0 (ct)", "1 (zscore)"} <= names


def test_what_other_packages_provide_is_told_with_its_parameters():
    plan = planned(fingerprint())
    other = External(name="elastic", distribution="pkg", version="2", parameters={"width": 3})
    plane = plan.configurations["2d"].model_copy(
        update={"network": other, "augmentation": AugmentationSpec(transforms=(other,))}
    )
    plan = plan.model_copy(update={"configurations": {"2d": plane}, "default_configuration": "2d"})
    told = by_field(plan)
    assert told["configurations.2d.network.parameters"][0].value == {"width": 3}
    assert told["configurations.2d.augmentation.transforms.0.distribution"][0].value == "pkg"
    assert next(s for s in explain(plan).sections if s.configuration).anatomy is None


def test_regions_are_told_as_one_value_each():
    plan = planned(fingerprint(labels=LABELS, regions=REGIONS))
    item, _ = by_field(plan)["dataset.regions.0"]
    assert (item.name, item.value) == ("0 (whole)", Region(**REGIONS[0]).model_dump(mode="json"))
