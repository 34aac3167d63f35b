"""Loss, sampling and augmentation from the size of targets and the number of cases."""

import pytest

from tests.planning.measured import case, fingerprint, planned
from tumorseg.planning.choices.adaptation import adapt
from tumorseg.planning.evidence.independence import FEW_CASES, MANY_CASES
from tumorseg.planning.evidence.kinds import decide_kinds
from tumorseg.planning.evidence.spacing import target_grid
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.losses import CrossEntropyLoss, FocalLoss, TverskyLoss

SHAPE = (150, 160, 170)
THICK, THIN = (9.0, 8.0, 12.0), (9.0, 2.9, 12.0)
COMMON, SMALL = 40_000, 1_900
"""Voxels: a fiftieth and a little less than a thousandth of a patch of 128 cubed."""
ADAPTING = [name for name, preset in PRESETS.items() if preset.adapts]


def measured(lengths=THICK, voxels=COMMON, count=30, **options):
    sizes = {} if lengths is None else {"run_lengths_mm": {"tumour": lengths}}
    sizes |= {} if voxels is None else {"label_voxels": {"tumour": voxels}}
    cases = [case(f"case_{number:04}", shape=SHAPE, **sizes) for number in range(count)]
    return fingerprint(cases, **options)


def adapted(found, preset="optimized"):
    kinds = [decided.kind for decided in decide_kinds(found)]
    return adapt(found, target_grid(found).value, preset=PRESETS[preset], kinds=kinds)


def test_the_default_presets_adapt_and_the_published_and_the_fast_do_not():
    assert ADAPTING == ["optimized", "large_gpu", "mednext", "transformer"]


@pytest.mark.parametrize("preset", ADAPTING)
def test_an_ordinary_dataset_gets_nnunets_choices(preset):
    plan = planned(measured(), preset=preset)
    assert plan.training == PRESETS[preset].training
    assert plan.training.epochs == 1000
    published = planned(measured(), preset="nnunet")
    for name, configuration in plan.configurations.items():
        assert configuration.loss.preset == "dice_ce"
        assert [component.name for component in configuration.loss.components] == ["dice", "cross_entropy"]
        assert configuration.sampling == published.configurations[name].sampling
        assert configuration.sampling.foreground_fraction == 0.33
        assert configuration.augmentation.transforms[0].rotation_probability == 0.2


def test_thin_targets_get_focal_tversky():
    found = adapted(measured(THIN))
    assert found.loss == "focal_tversky"
    assert "1 of 1 targets is under 3 voxels across" in found.reasons["loss"].rule
    assert found.reasons["loss"].inputs["thickness_voxels"] == 2.9
    assert found.reasons["loss"].alternative.startswith("dice_ce: ")
    assert adapted(measured((9.0, 3.0, 12.0))).loss == "dice_ce"


def test_targets_that_fill_little_of_a_patch_get_dice_focal():
    found = adapted(measured(voxels=SMALL))
    assert found.loss == "dice_focal"
    assert "1 of 1 targets is under 0.1 % of a patch" in found.reasons["loss"].rule
    assert found.reasons["loss"].alternative.startswith("dice_ce: ")
    assert adapted(measured(voxels=SMALL + 300)).loss == "dice_ce"


def test_thin_comes_before_small():
    assert adapted(measured(THIN, SMALL)).loss == "focal_tversky"


def test_targets_that_fill_little_of_a_case_are_sampled_more():
    found = adapted(measured(voxels=4_000))  # of 4,080,000 voxels
    assert (found.loss, found.foreground_fraction) == ("dice_ce", 0.5)
    assert "under 0.1 % of a case" in found.reasons["sampling"].rule
    assert found.reasons["sampling"].inputs == {"smallest": "tumour", "share_of_case": 0.0009804, "num_smallest": 1}
    assert adapted(measured(voxels=4_100)).foreground_fraction == 0.33


def test_a_small_target_among_many_does_not_decide():
    labels = {"background": 0} | {f"organ {value}": value for value in range(1, 5)}
    cases = [
        case(str(number), shape=SHAPE, label_voxels={name: COMMON for name in labels if name != "background"} | tiny)
        for number, tiny in enumerate([{"organ 1": 300}] * 30)
    ]
    found = adapted(fingerprint(cases, labels=labels))
    assert (found.loss, found.foreground_fraction) == ("dice_ce", 0.33)
    assert "1 of 4 targets is under 0.1 % of a patch, fewer than one in 3" in found.reasons["loss"].rule


def test_a_label_that_hardly_any_case_holds_decides_nothing():
    labels = {"background": 0, "organ": 1, "lesion": 2}

    def with_lesions(count):
        cases = [
            case(str(number), shape=SHAPE, label_voxels={"organ": COMMON, "lesion": 200 * (number < count)})
            for number in range(40)
        ]
        return adapted(fingerprint(cases, labels=labels)).loss

    assert with_lesions(3) == "dice_ce"
    assert with_lesions(4) == "dice_focal"


@pytest.mark.parametrize("fields", [{}, {"voxels": None}, {"lengths": None}, {"lengths": None, "voxels": None}])
def test_what_was_not_measured_is_said_and_decides_nothing(fields):
    found = adapted(measured(**fields))
    assert (found.loss, found.foreground_fraction) == ("dice_ce", 0.33)
    assert ("target thickness was not measured" in found.reasons["loss"].rule) == ("lengths" in fields)
    assert ("target size was not measured" in found.reasons["loss"].rule) == ("voxels" in fields)
    assert ("target size was not measured" in found.reasons["sampling"].rule) == ("voxels" in fields)


@pytest.mark.parametrize(
    ("count", "strength"),
    [(1, 1.5), (FEW_CASES - 1, 1.5), (FEW_CASES, 1.0), (MANY_CASES, 1.0), (MANY_CASES + 1, 0.67)],
)
def test_the_number_of_cases_decides_augmentation(count, strength):
    found = adapted(measured(count=count))
    assert found.augmentation_strength == strength
    assert found.reasons["augmentation.strength"].inputs["independent_cases"] == count
    assert found.reasons["augmentation.strength"].alternative


def test_every_choice_reaches_the_plan_with_its_reason():
    plan = planned(measured(THIN, 1_000, count=5))
    assert plan.training.epochs == 500
    for name, configuration in plan.configurations.items():
        assert configuration.loss.components[0] == TverskyLoss(
            alpha=0.3, beta=0.7, gamma=0.75, batch=configuration.loss.components[0].batch
        )
        assert configuration.loss.components[1] == CrossEntropyLoss()
        assert configuration.sampling.foreground_fraction == 0.5
        assert configuration.augmentation.transforms[0].rotation_probability == 0.3
        reasons = {field: plan.reasons[f"configurations.{name}.{field}"] for field in ("loss", "sampling")}
        assert reasons["loss"].inputs["thinnest"] == "tumour"
        assert reasons["sampling"].rule.startswith("half of each batch")
        assert "1.5 times as likely" in plan.reasons[f"configurations.{name}.augmentation.strength"].rule


def test_small_targets_in_the_plan_have_focal_loss_of_classes_and_of_regions():
    regions = [{"name": "tumour", "labels": [1], "value": 1}]
    for found in (measured(voxels=SMALL), measured(voxels=SMALL, regions=regions)):
        assert planned(found).configurations["3d_fullres"].loss.components[1] == FocalLoss(gamma=2.0)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in ADAPTING])
def test_other_presets_do_as_they_say_whatever_the_targets(preset):
    extreme, ordinary = (planned(found, preset=preset) for found in (measured(THIN, 5, 30), measured()))
    assert extreme.configurations == ordinary.configurations
    assert extreme.training == ordinary.training == PRESETS[preset].training
    loss = PRESETS[preset].loss
    rule = extreme.reasons["configurations.2d.loss"].rule
    assert rule == f"loss preset {loss} of preset {preset}"


@pytest.mark.parametrize("preset", ["optimized", "nnunet"])
@pytest.mark.parametrize(
    ("members", "words"),
    [([[1, 2], [2]], "regions overlap: each is a sigmoid"), ([[1], [2]], "regions share no label")],
)
def test_the_reason_says_why_outputs_are_sigmoids(preset, members, words):
    regions = [{"name": f"r{value}", "labels": labels, "value": value} for value, labels in enumerate(members, 1)]
    found = measured(labels={"background": 0, "tumour": 1, "core": 2}, regions=regions)
    assert words in adapted(found, preset).reasons["loss"].rule
    assert "regions" not in adapted(measured(), preset).reasons["loss"].rule


def test_anisotropy_is_told_with_its_figures():
    found = fingerprint([case(str(number), (10.0, 1.5, 1.5), (9, 256, 216)) for number in range(25)])
    reasons = planned(found).reasons
    spacing = reasons["configurations.3d_fullres.spacing_mm"]
    assert spacing.inputs["spacing_ratio"] == pytest.approx(6.667, abs=1e-3)
    assert spacing.alternative == "the finest spacing on every axis: 6.7 times the voxels, most of them interpolated"
    network = reasons["configurations.3d_fullres.network"]
    assert "at 6.7 times the finest: not before stage 3" in network.rule
    rotation = "augmentation.transforms.0.rotation_deg"
    assert "over 3 times longer than thick" in reasons[f"configurations.3d_fullres.{rotation}"].rule
    even = planned(measured()).reasons
    assert "twice as coarse" in even["configurations.3d_fullres.spacing_mm"].alternative
    assert "times the finest" not in even["configurations.3d_fullres.network"].rule
    assert even[f"configurations.3d_fullres.{rotation}"].rule.startswith("about all axes")
    assert even[f"configurations.2d.{rotation}"].rule.startswith("in-plane rotation")
