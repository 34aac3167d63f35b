"""What differs between two plans."""

import pytest

from tests.planning.measured import equal_cases, fingerprint, planned
from tumorseg.planning.reading.difference import diff_plans
from tumorseg.schema.transforms.intensity import Contrast, GaussianNoise
from tumorseg.schema.transforms.spatial import MirrorTransform


def changed(plan, **updates):
    """Return a plan whose `2d` has other fields."""
    plane = plan.configurations["2d"].model_copy(update=updates)
    return plan.model_copy(update={"configurations": plan.configurations | {"2d": plane}})


def transforms_of(plan):
    return plan.configurations["2d"].augmentation.transforms


def with_transforms(plan, *transforms):
    spec = plan.configurations["2d"].augmentation.model_copy(update={"transforms": transforms})
    return changed(plan, augmentation=spec)


def fields(before, after):
    return [entry.field for entry in diff_plans(before, after).differences]


@pytest.fixture(scope="module")
def plan():
    return planned(fingerprint())


def test_plans_that_differ_in_their_name_only_are_the_same(plan):
    found = diff_plans(plan, plan.model_copy(update={"name": "other"}))
    assert found.is_same
    assert (found.before, found.after, found.differences, found.notes) == ("Toy__plan", "other", (), ())


def test_a_size_is_one_value_and_both_rules_are_told_where_they_differ(plan):
    other = planned(fingerprint(), "configurations.2d.patch_size=[32, 32]")
    (entry,) = [e for e in diff_plans(plan, other).differences if not e.field.startswith("budget.")]
    assert entry.field == "configurations.2d.patch_size"
    assert (entry.before, entry.after) == (list(plan.configurations["2d"].patch_size), [32, 32])
    assert entry.rule_before == plan.reasons[entry.field].rule
    assert entry.rule_after == "set by the user"


def test_rules_that_are_the_same_are_not_repeated(plan):
    (entry,) = diff_plans(plan, changed(plan, batch_size=99)).differences
    assert (entry.after, entry.rule_before, entry.rule_after) == (99, None, None)


def test_transforms_are_told_by_name_wherever_they_stand(plan):
    spatial, noise, *others = transforms_of(plan)
    louder = noise.model_copy(update={"probability": 0.9})
    assert fields(plan, with_transforms(plan, spatial, louder, *others)) == [
        "configurations.2d.augmentation.transforms.gaussian_noise.probability"
    ]
    found = diff_plans(plan, with_transforms(plan, spatial, *others)).differences
    assert [(entry.field, entry.only_in, entry.after) for entry in found] == [
        ("configurations.2d.augmentation.transforms.gaussian_noise", "before", None)
    ]
    found = diff_plans(with_transforms(plan, spatial, *others), plan).differences
    assert [(entry.only_in, entry.after) for entry in found] == [("after", noise.model_dump(mode="json"))]


def test_another_order_of_transforms_is_a_difference(plan):
    first, second, *others = transforms_of(plan)
    (entry,) = diff_plans(plan, with_transforms(plan, second, first, *others)).differences
    assert entry.field == "configurations.2d.augmentation.transforms"
    assert entry.before[:2] == ["spatial", "gaussian_noise"]
    assert entry.after[:2] == ["gaussian_noise", "spatial"]


def test_transforms_of_one_name_are_numbered(plan):
    noise, mirror = GaussianNoise(), MirrorTransform(axes=(0,))
    before = with_transforms(plan, noise, mirror, noise)
    after = with_transforms(plan, noise, mirror, noise.model_copy(update={"probability": 0.7}), Contrast())
    assert fields(before, after) == [
        "configurations.2d.augmentation.transforms.gaussian_noise 2.probability",
        "configurations.2d.augmentation.transforms.contrast",
    ]


def test_a_rule_that_is_given_by_place_is_found_for_a_transform_told_by_name(plan):
    other = planned(fingerprint(), "configurations.2d.augmentation.transforms.1.probability=0.5")
    preset, entry = diff_plans(plan, other).differences
    assert (preset.field, preset.before, preset.after) == ("configurations.2d.augmentation.preset", "nnunet", "custom")
    assert entry.field.endswith("transforms.gaussian_noise.probability")
    assert entry.rule_after == "set by the user"


def test_a_configuration_that_only_one_has_is_one_difference(plan):
    alone = plan.model_copy(update={"configurations": {"3d_fullres": plan.configurations["3d_fullres"]}})
    (entry,) = diff_plans(alone, plan).differences
    assert (entry.field, entry.only_in, entry.before) == ("configurations.2d", "after", None)


def test_normalization_is_told_by_channel_and_folds_one_by_one(plan):
    none = planned(fingerprint(channels=("noNorm",)))
    assert "configurations.2d.normalization.0.name" in fields(plan, none)
    swapped = plan.model_copy(update={"folds": (plan.folds[1], plan.folds[0], *plan.folds[2:])})
    assert fields(plan, swapped) == ["folds.0", "folds.1"]


def test_other_data_are_told_before_the_fields(plan):
    moved = planned(fingerprint(equal_cases(11)))
    (note,) = diff_plans(plan, moved).notes
    assert note.startswith("they are made from different fingerprints")
    assert "of 10 cases" in note
    assert "fingerprint.hash" not in fields(plan, moved)
    assert "fingerprint.num_cases" in fields(plan, moved)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"name": "A"}, {"name": "B"}, "they are for different datasets: A and B"),
        ({"content_hash": "x"}, {"content_hash": "y"}, "files of Toy changed between them: its content was x and is y"),
        ({"content_hash": "x"}, {}, "the content hash of Toy is known to the first plan only"),
        ({}, {"content_hash": "y"}, "the content hash of Toy is known to the second plan only"),
    ],
)
def test_data_that_differ_are_no_same_plan(plan, first, second, expected):
    sides = [plan.model_copy(update={"dataset": plan.dataset.model_copy(update=update)}) for update in (first, second)]
    found = diff_plans(*sides)
    assert not found.is_same
    assert found.notes[0].startswith(expected)
    assert found.differences == ()


def test_reasons_alone_make_no_difference_but_are_counted(plan):
    worded = plan.reasons["folds"].model_copy(update={"rule": "otherwise"})
    found = diff_plans(plan, plan.model_copy(update={"reasons": plan.reasons | {"folds": worded}}))
    assert (found.is_same, found.num_reasons) == (True, 1)
