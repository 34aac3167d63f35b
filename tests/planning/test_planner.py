"""From fingerprint to plan."""

import pytest
from pydantic import ValidationError

from tests.planning.measured import CT, MR, case, equal_cases, fingerprint, made, planned
from tumorseg.errors import PlanError
from tumorseg.planning.folds.split_lists import SplitLists
from tumorseg.planning.folds.splits import split_folds
from tumorseg.planning.options import PlanOptions
from tumorseg.planning.overrides import parse_override
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.base import record_hash
from tumorseg.schema.losses import BinaryCrossEntropyLoss, CrossEntropyLoss
from tumorseg.schema.optimizers import AdamW
from tumorseg.schema.plan import Configuration
from tumorseg.schema.preprocessing import CtNormalization, ZScoreNormalization

SIDES = {"background": 0, "kidney_left": 1, "kidney_right": 2}
AXIAL, CORONAL, SAGITTAL = (5.0, 1.0, 1.0), (1.0, 5.0, 1.0), (1.0, 1.0, 5.0)


def mirrored(configuration):
    axes = [transform.axes for transform in configuration.augmentation.transforms if transform.name == "mirror"]
    return axes[0] if axes else ()


def test_the_default_is_the_optimized_preset_in_three_dimensions():
    plan = planned()
    assert plan.default_configuration == "3d_fullres"
    assert plan.configurations["3d_fullres"].network.name == "residual_unet"
    assert (plan.name, plan.parent, plan.orientation) == ("Toy__plan", None, "RAS")


def test_the_dataset_is_carried_over_with_the_kinds_decided():
    document = fingerprint(channels=("T1", {"name": "x", "kind": "pet"}, "0"), ignore_label=9)
    dataset = planned(document.model_copy(update={"content_hash": "c0ffee"})).dataset
    assert [(channel.name, channel.kind) for channel in dataset.channels] == [
        ("T1", "mr"),
        ("x", "pet"),
        ("0", "other"),
    ]
    assert (dataset.name, dataset.ignore_label, dataset.content_hash) == ("Toy", 9, "c0ffee")


def test_the_fingerprint_is_summarised():
    shapes = [(10, 20, 30), (12, 22, 32), (20, 40, 60)]
    document = fingerprint([case(str(number), (1.0, 1.0, 1.5), shape) for number, shape in enumerate(shapes)])
    summary = planned(document).fingerprint
    assert summary.hash == record_hash(document)
    assert (summary.num_cases, summary.median_shape_after_crop) == (3, (12, 22, 32))
    assert summary.median_spacing_mm == (1.0, 1.0, 1.5)
    assert summary.intensities == {"MRI": MR}


def test_each_channel_has_its_normalisation():
    plan = planned(fingerprint(channels=("CT", "PET"), intensities=MR, relative_size=0.5))
    for configuration in plan.configurations.values():
        assert isinstance(configuration.normalization[0], CtNormalization)
        assert configuration.normalization[1] == ZScoreNormalization(masked=True)


def test_a_disagreement_becomes_a_warning_and_stands_in_the_reasons():
    found = made(fingerprint(channels=("T1", "T2"), intensities=CT))
    assert len(found.warnings) == 2
    assert found.warnings[0].startswith("channel T1 is taken for mr")
    assert found.plan.reasons["configurations.2d.normalization.0"].inputs["disagreement"] == found.warnings[0]


def test_agreement_gives_no_warnings():
    assert made().warnings == ()


def test_options_are_carried_out():
    plan = planned(
        None,
        "optimizer.name=adamw",
        network="plain_unet",
        max_hours=4.5,
        vram_gb=4,
        splits=SplitLists(held_out=(("case_0001",), ("case_0003", "case_0002"))),
    )
    assert plan.configurations["2d"].network.name == "plain_unet"
    assert plan.configurations["2d"].optimizer == AdamW()
    assert plan.training.max_hours == 4.5
    assert plan.budget.vram_bytes == 4 * 2**30
    assert plan.folds == (("case_0001",), ("case_0002", "case_0003"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "best"}, "preset 'best' is unknown"),
        ({"vram_gb": 0.0}, "--vram 0 is not a budget"),
        ({"vram_gb": -2.0}, "--vram -2 is not a budget"),
        ({"vram_gb": 1e-12}, "--vram 1e-12 is not a budget"),
        ({"max_hours": 0.0}, "--max-hours 0 is no time"),
        ({"network": "unext"}, "network 'unext' is unknown to the planner"),
        ({"splits": SplitLists(held_out=(("nobody",),))}, "cases that the dataset does not have: nobody"),
    ],
)
def test_options_that_admit_no_plan_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        planned(**options)


@pytest.mark.parametrize("field", ["vram_gb", "max_hours"])
def test_an_endless_budget_is_no_option(field):
    with pytest.raises(ValidationError, match="finite number"):
        PlanOptions(**{field: float("inf")})


@pytest.mark.parametrize(("preset", "network", "like"), [("nnunet_resenc_m", "plain_unet", "nnunet")])
def test_another_network_is_measured_against_its_own_reference(preset, network, like):
    document = fingerprint(equal_cases(20, (1.0, 0.77, 0.77), (432, 512, 512)))
    changed = planned(document, preset=preset, network=network).configurations["3d_fullres"]
    own = planned(document, preset=like).configurations["3d_fullres"]
    assert (changed.patch_size, changed.batch_size) == (own.patch_size, own.batch_size)


def test_a_dataset_of_background_only_is_refused():
    empty = [case(str(number), label_voxels={"tumour": 0}) for number in range(3)]
    with pytest.raises(PlanError, match="Toy: every case is all background; there is nothing to learn"):
        planned(fingerprint(empty))


@pytest.mark.parametrize("voxels", [None, {"tumour": 1}])
def test_one_case_with_foreground_or_not_counted_is_enough(voxels):
    cases = [case("a", label_voxels={"tumour": 0}), case("b", label_voxels=voxels)]
    assert planned(fingerprint(cases)).folds == split_folds(dict.fromkeys(["a", "b"]))


@pytest.mark.parametrize(
    ("labels", "ignore_label"), [({"background": 0}, None), ({}, None), ({"background": 0, "unsure": 5}, 5)]
)
def test_a_dataset_without_labels_is_refused(labels, ignore_label):
    with pytest.raises(PlanError, match="Toy: the dataset has no label besides the background"):
        planned(fingerprint(labels=labels, ignore_label=ignore_label))


def test_a_case_measured_twice_is_refused_by_the_fingerprint():
    with pytest.raises(ValidationError, match="case_id given twice"):
        fingerprint([case("a"), case("b"), case("b")])


def test_labels_take_the_cross_entropy():
    components = planned().configurations["2d"].loss.components
    assert [type(component) for component in components][1:] == [CrossEntropyLoss]


def test_regions_take_the_binary_cross_entropy():
    regions = [{"name": "WT", "labels": [1, 2], "value": 1}, {"name": "TC", "labels": [2], "value": 2}]
    labels = {"background": 0, "edema": 1, "core": 2}
    plan = planned(fingerprint(labels=labels, regions=regions))
    for configuration in plan.configurations.values():
        assert [type(component) for component in configuration.loss.components][1:] == [BinaryCrossEntropyLoss]
    assert [region.name for region in plan.dataset.regions] == ["WT", "TC"]


@pytest.mark.parametrize(
    ("spacing_mm", "shape", "transpose", "axes_3d", "axes_2d"),
    [
        (AXIAL, (40, 90, 100), (0, 1, 2), (0, 1), (0,)),
        (CORONAL, (90, 40, 100), (1, 0, 2), (0, 1), (0,)),
        (SAGITTAL, (90, 100, 40), (2, 0, 1), (1, 2), (0, 1)),
    ],
    ids=["axial", "coronal", "sagittal"],
)
def test_left_and_right_are_never_mirrored_onto_each_other(spacing_mm, shape, transpose, axes_3d, axes_2d):
    plan = planned(fingerprint(equal_cases(5, spacing_mm, shape), labels=SIDES))
    assert plan.transpose == transpose
    for name, axes in (("3d_fullres", axes_3d), ("2d", axes_2d)):
        assert plan.configurations[name].inference.mirroring_axes == axes
        assert mirrored(plan.configurations[name]) == axes
        lateral = transpose.index(2) - (name == "2d")
        assert lateral not in axes
    assert plan.reasons["configurations.3d_fullres.inference.mirroring_axes"].inputs == {
        "pairs": [["kidney_left", "kidney_right"]]
    }


@pytest.mark.parametrize("name", ["2d", "3d_fullres"])
def test_left_and_right_are_not_turned_onto_each_other_either(name):
    plan = planned(fingerprint(equal_cases(5, AXIAL, (20, 200, 200)), labels=SIDES))
    configuration = plan.configurations[name]
    assert mirrored(configuration)
    assert configuration.augmentation.transforms[0].rotation_deg[0] < 90


def test_without_sides_every_axis_is_mirrored():
    plan = planned()
    assert plan.configurations["3d_fullres"].inference.mirroring_axes == (0, 1, 2)
    assert plan.configurations["2d"].inference.mirroring_axes == mirrored(plan.configurations["2d"]) == (0, 1)


@pytest.mark.parametrize("shape", [(1, 64, 48), (64, 1, 48), (64, 48, 1)])
def test_flat_images_are_planned_in_two_dimensions_only(shape):
    plan = planned(fingerprint(equal_cases(5, (1.0, 1.0, 1.0), shape)))
    assert (plan.default_configuration, sorted(plan.configurations)) == ("2d", ["2d"])
    assert plan.configurations["2d"].median_shape == (64, 48)


def test_mostly_flat_images_are_planned_in_their_plane():
    cases = [*equal_cases(9, (1.0, 1.0, 2.0), (1, 100, 100)), case("volume", (1.0, 1.0, 2.0), (3, 100, 100))]
    assert planned(fingerprint(cases)).configurations["2d"].median_shape == (100, 100)


def test_a_single_case_has_no_folds():
    assert planned(fingerprint(equal_cases(1))).folds == ()


def test_folds_do_not_depend_on_the_order_of_the_cases():
    cases = equal_cases(7)
    assert planned(fingerprint(cases)).folds == planned(fingerprint(cases[::-1])).folds


@pytest.mark.parametrize("network", ["plain_unet", "residual_unet"])
def test_every_decision_has_a_reason_under_the_field_that_it_explains(network):
    plan = planned(fingerprint(channels=("T1", "CT")), network=network)
    document = plan.model_dump(mode="json")
    for field, reason in plan.reasons.items():
        value = document
        for key in field.split("."):
            value = value[int(key)] if isinstance(value, list) else value[key]
        assert reason.rule
    explained = {".".join(field.split(".")[:3]) for field in plan.reasons}
    for name in plan.configurations:
        assert {f"configurations.{name}.{field}" for field in Configuration.model_fields} <= explained
    assert {"orientation", "transpose", "training", "folds", "default_configuration"} <= explained
    assert {"configurations.2d.normalization.0", "configurations.2d.normalization.1"} <= plan.reasons.keys()


def test_the_reason_for_the_spacing_tells_which_rule_applied():
    coarse = planned(fingerprint(equal_cases(5, (10.0, 1.0, 1.0), (9, 100, 100))))
    assert "10th percentile" in coarse.reasons["configurations.3d_fullres.spacing_mm"].rule
    assert "median spacing" in planned().reasons["configurations.3d_fullres.spacing_mm"].rule


@pytest.mark.parametrize(
    ("options", "settings", "field", "told"),
    [
        ({}, (), "configurations.2d.network.name", "residual_unet of preset optimized"),
        ({"network": "plain_unet"}, (), "configurations.2d.network.name", "plain_unet, as --network says"),
        ({}, (), "budget.vram_bytes", "preset optimized"),
        ({"vram_gb": 6.0}, (), "budget.vram_bytes", "--vram"),
        ({"max_hours": 2.0}, (), "training", "--max-hours decides the length"),
        ({}, (), "configurations.2d.augmentation.transforms.0.rotation_deg", "in-plane rotation"),
        ({}, ("loss.preset=nnunet",), "configurations.2d.loss", "follows from its preset, which was set by the user"),
        ({}, ("training.epochs=3",), "training.epochs", "set by the user"),
    ],
)
def test_reasons_tell_what_applied(options, settings, field, told):
    assert told in planned(None, *settings, **options).reasons[field].rule


def test_a_channel_called_as_nnunets_scheme_says_so():
    plan = planned(fingerprint(channels=("noNorm",)))
    assert "nnU-Net reads" in plan.reasons["configurations.2d.normalization.0"].rule


def test_a_plan_over_its_budget_is_warned_about():
    found = made(None, PlanOptions(overrides=(parse_override("batch_size=20000"),)))
    assert any("over its 8.00 GB" in warning for warning in found.warnings)


def test_a_preset_with_fewer_patches_than_gpus_is_refused():
    with pytest.raises(PlanError, match="batches of 2 patches at most"):
        planned(preset="fast_prototyping", num_gpus=3)
    assert planned(preset="fast_prototyping", num_gpus=2).configurations["2d"].batch_size == 2


def test_a_cascade_that_cannot_be_trained_is_warned_of():
    override = parse_override("configurations.2d.previous_configuration=3d_fullres")
    alone = made(fingerprint(equal_cases(1, (1.0, 1.0, 1.0), (60, 128, 128))), PlanOptions(overrides=(override,)))
    assert any("so that it cannot be trained" in warning for warning in alone.warnings)


@pytest.mark.parametrize("shape", [(60, 128, 128), (64, 128, 128), (32, 224, 224), (36, 50, 35), (128, 256, 256)])
@pytest.mark.parametrize("preset", ["optimized", "large_gpu", "fast_prototyping"])
def test_no_plan_is_predicted_to_need_more_than_its_budget(shape, preset):
    budget = planned(fingerprint(equal_cases(300, (1.0, 0.8, 0.8), shape)), preset=preset).budget
    assert budget.predicted_bytes <= budget.vram_bytes


@pytest.mark.parametrize("shape", [(2, 512, 512), (2, 640, 640)])
def test_volumes_of_two_slices_are_planned(shape):
    assert "3d_fullres" in planned(fingerprint(equal_cases(300, (1.0, 1.5, 1.5), shape))).configurations


def test_a_case_too_narrow_for_planes_is_planned_in_3d_alone():
    assert list(planned(fingerprint(equal_cases(5, (1.0, 1.0, 1.0), (40, 6, 6)))).configurations) == ["3d_fullres"]


def test_hours_and_epochs_contradict():
    with pytest.raises(PlanError, match="contradict"):
        planned(None, "training.epochs=4", max_hours=1.0)


def test_sides_of_regions_count_too():
    regions = [
        {"name": f"{side} kidney", "labels": [value], "value": value} for value, side in ((1, "left"), (2, "right"))
    ]
    plan = planned(fingerprint(labels={"background": 0, "a": 1, "b": 2}, regions=regions))
    assert plan.configurations["3d_fullres"].inference.mirroring_axes == (0, 1)


def test_the_reason_for_mirroring_tells_what_was_decided():
    sided = {"background": 0, "kidney_left": 1, "kidney_right": 2}
    field = "configurations.3d_fullres.inference.mirroring_axes"
    assert "all axes" in planned().reasons[field].rule
    assert "left and right" in planned(fingerprint(labels=sided)).reasons[field].rule
    assert "none" in planned(preset="fast_prototyping").reasons[field].rule


def test_the_reason_for_the_batch_lists_its_limits():
    limits = planned(preset="fast_prototyping").reasons["configurations.2d.batch_size"].inputs
    assert limits["batch_by_memory"] >= limits["batch_by_preset"] == 2
    assert limits["batch_by_dataset"] > 2


@pytest.mark.parametrize("preset", PRESETS)
def test_every_choice_names_what_else_could_be(preset):
    measured = fingerprint(equal_cases(30, (1.0, 1.0, 1.0), (400, 400, 400)))
    reasons = planned(measured, preset=preset).reasons
    found = {field.rpartition(".")[2] for field, reason in reasons.items() if reason.alternative is None}
    assert found == {"predicted_bytes", "median_shape"}  # counted and measured, not chosen


def test_no_cascade_is_planned_where_folds_do_not_hold_out_every_case():
    measured = fingerprint(equal_cases(30, (1.0, 1.0, 1.0), (400, 400, 400)))
    split = (tuple(case.case_id for case in measured.cases[:5]), tuple(case.case_id for case in measured.cases[5:9]))
    found = made(measured, PlanOptions(splits=SplitLists(held_out=split)))
    assert "3d_cascade_fullres" in planned(measured).configurations
    assert "3d_cascade_fullres" not in found.plan.configurations
    assert found.warnings == ()


def test_patients_on_both_sides_of_a_fold_are_told_and_kept_together_on_request():
    ids = [f"patient{number:03}_frame{frame}" for number in range(8) for frame in ("01", "12")]
    measured = fingerprint([case(one) for one in ids])
    (warning,) = made(measured).warnings
    assert "patients with several cases, such as patient000 with patient000_frame01 and patient000_frame12" in warning
    assert warning.endswith("plan with --splits group, which keeps them together")
    grouped = made(measured, PlanOptions(splits="group"))
    assert grouped.warnings == ()
    assert "case ids tell: 8 patients" in grouped.plan.reasons["folds"].rule
    stated = [case(one, group=one[:10]) for one in ids]
    assert made(fingerprint(stated)).warnings == ()


def test_more_gpus_than_the_preset_has_patches_are_fine_with_a_batch_of_ones_own():
    assert planned(None, "batch_size=8", preset="fast_prototyping", num_gpus=4).configurations["2d"].batch_size == 8
