"""What families offer follows from the plan."""

import json
from typing import get_args

import pytest

from tests.tuning.reference_plans import EACH, REGIONS, families_of, reference_plan
from tumorseg.errors import PlanError
from tumorseg.planning.overrides import apply_overrides, parse_override
from tumorseg.schema.extensions import External
from tumorseg.schema.losses import FocalLoss, TopKLoss, TverskyLoss
from tumorseg.schema.optimizers import OptimizerSpec, ScheduleSpec
from tumorseg.tuning.loss_space import FOCAL_ALPHAS, loss_parameters
from tumorseg.tuning.space_presets import FAMILIES
from tumorseg.tuning.spaces import own_values, read_space, resolved
from tumorseg.tuning.trial_plans import with_values

FAST, BRAIN, LIVER = "BrainTumour__fast_prototyping", "BrainTumour__optimized", "LiverCT__optimized"
FULL = "3d_fullres"


def family(name, plan, configuration=FULL):
    found = reference_plan(plan) if isinstance(plan, str) else plan
    return {parameter.field: parameter for parameter in FAMILIES[name](found, found.configurations[configuration])}


def with_set(plan, *settings):
    return apply_overrides(reference_plan(plan), [parse_override(text) for text in settings])


def test_the_losses_are_the_presets_that_suit_the_targets_none_twice():
    several = family("loss", BRAIN)["loss.preset"].options
    assert several[0] == "dice_ce"
    assert {"dice_focal", "dice_topk", "focal_tversky", "generalized_dice_focal", "dice_ce_boundary"} <= set(several)
    # The same terms under another name.
    assert "nnunet" not in several
    assert family("loss", "BrainTumour__nnunet")["loss.preset"].options[0] == "nnunet"
    assert "dice_ce" not in family("loss", "BrainTumour__nnunet")["loss.preset"].options


def test_one_foreground_class_is_not_weighed_by_its_size():
    plan = reference_plan("Slices2D__optimized")
    names = [name for name in plan.dataset.labels if name != "background"]
    is_offered = "generalized_dice_focal" in family("loss", "Slices2D__optimized", "2d")["loss.preset"].options
    assert is_offered == (len(names) > 1)


def test_each_term_brings_its_parameters_while_its_preset_is_chosen():
    loss = family("loss", "CineHeart__optimized")
    assert loss["loss.components.focal.gamma"].when.values == (
        "dice_focal",
        "generalized_dice_focal",
        "adaptive_combined",
    )
    assert loss["loss.components.topk.k"].scale == "log"
    assert loss["loss.components.tversky.alpha"].center == 0.3
    assert loss["loss.components.focal.alpha"].options[0] is None
    assert loss["loss.components.cross_entropy.weight"].center == 1.0
    # A weight that changes is tuned where it ends; a first one that does not is the measure of the others.
    assert "loss.components.dice.weight" not in loss
    assert loss["loss.components.dice.weight.end"].when.values == ("dice_ce_boundary",)
    assert loss["loss.components.boundary.weight.end"].center == 0.5


def test_regions_have_binary_terms():
    assert "loss.components.binary_cross_entropy.weight" in family("loss", REGIONS)
    assert "loss.components.cross_entropy.weight" not in family("loss", REGIONS)


def test_a_users_own_loss_is_the_first_option_with_its_own_terms():
    components = [
        TverskyLoss(alpha=0.95, beta=0.05).model_dump(),
        FocalLoss(weight=0.0, alpha=0.6).model_dump(),
        TopKLoss().model_dump(),
    ]
    components[2]["weight"] = {"name": "warm_up", "value": 2.0}
    components.append(TopKLoss(k=0.3).model_dump())
    components[3]["k"] = {"name": "step", "steps": [0.5, 0.1], "milestones": [0.5]}
    components.append({"name": "unified_focal", "gamma": {"name": "linear", "start": 0.2, "end": 0.6}})
    preset = {"name": "mine", "components": components}
    plan = with_set(FAST, f"loss.preset={json.dumps(preset)}")
    loss = family("loss", plan)
    assert loss["loss.preset"].options[0] == "mine"
    assert (loss["loss.components.tversky.alpha"].high, loss["loss.components.tversky.beta"].low) == (0.95, 0.05)
    # A term that is switched off stays so; steps have no end; a schedule is tuned at its end.
    alpha = loss["loss.components.focal.alpha"]
    assert (alpha.center, alpha.options) == (0.6, (0.6, None, 0.25, 0.75, 0.9))
    assert "mine" not in loss["loss.components.focal.weight"].when.values
    assert "loss.components.3.k" not in loss
    assert loss["loss.components.2.weight.value"].center == 2.0
    assert loss["loss.components.unified_focal.gamma.end"].center == 0.6
    assert_own_values_change_nothing(plan)


@pytest.mark.parametrize(
    ("alpha", "options"),
    [([1.0, 2.0, 3.0, 4.0], ([1.0, 2.0, 3.0, 4.0], *FOCAL_ALPHAS)), (0.75, FOCAL_ALPHAS), (None, FOCAL_ALPHAS)],
)
def test_the_alpha_of_a_focal_loss_is_around_the_presets_own(alpha, options):
    plan = reference_plan(FAST)
    configuration = plan.configurations[FULL]
    loss = configuration.loss.changed(preset="mine", components=(FocalLoss(alpha=alpha),))
    found = {one.field: one for one in loss_parameters(plan, configuration.changed(loss=loss))}
    parameter = found["loss.components.focal.alpha"]
    assert (parameter.center, parameter.options) == (alpha, options)


def assert_own_values_change_nothing(plan, families="loss,optimizer,augmentation,network,sampling"):
    space = resolved(read_space(families, plan, FULL), plan, FULL)
    assert with_values(plan, FULL, own_values(space, plan, FULL)).configurations == plan.configurations


def test_a_preset_that_was_edited_is_not_expanded_again_by_the_plans_own_values():
    plan = with_set(FAST, "loss.components.dice.smooth=0.5", "loss.components.binary_cross_entropy.weight=3")
    assert plan.configurations[FULL].loss.preset == "dice_ce"
    assert_own_values_change_nothing(plan)


def test_an_optimizer_brings_its_own_decays():
    found = family("optimizer", BRAIN)
    assert found["optimizer.momentum"].when.values == ("sgd",)
    assert found["optimizer.momentum"].center == 0.99
    assert found["optimizer.betas.1"].when.values == ("adamw", "radam")
    assert found["schedule.patience"].when.values == ("plateau",)


def names_of(spec):
    return {get_args(one.model_fields["name"].annotation)[0] for one in get_args(get_args(spec)[0])}


def test_whatever_optimizer_and_schedule_a_plan_can_have_is_offered():
    found = family("optimizer", BRAIN)
    assert set(found["optimizer.name"].options) == names_of(OptimizerSpec)
    assert set(found["schedule.name"].options) == names_of(ScheduleSpec)


def test_a_schedules_own_shape_is_the_centre_of_its_range():
    found = family("optimizer", with_set(FAST, 'schedule={"name":"cosine","warmup_fraction":0.3}'))
    warmup, peak = found["schedule.warmup_fraction"], found["schedule.peak_at"]
    assert (warmup.when.values, warmup.center, warmup.high) == (("cosine",), 0.3, 0.3)
    assert (peak.when.values, peak.center) == (("one_cycle",), 0.3)


def test_a_plan_without_weight_decay_is_tuned_from_0_on_a_linear_scale():
    decay = family("optimizer", with_set(FAST, "optimizer.weight_decay=0"))["optimizer.weight_decay"]
    assert (decay.low, decay.scale) == (0.0, "linear")


def test_the_augmentations_suit_the_kinds_of_the_channels():
    mr, ct = family("augmentation", FAST)["augmentation.preset"], family("augmentation", LIVER)["augmentation.preset"]
    assert mr.options == ("basic", "light", "nnunet", "mri", "strong")
    assert ct.options == ("ct", "light", "basic", "strong")


def test_a_strength_or_each_probability_decides_about_how_likely_transforms_are():
    found = family("augmentation", FAST)
    strength, noise = found["augmentation.strength"], found["augmentation.transforms.gaussian_noise.probability"]
    assert strength.options == (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    assert strength.when.values == ("basic",)
    assert (noise.when.field, noise.when.values) == ("augmentation.strength", (1.0,))
    assert (noise.low, noise.center, noise.high) == (0.0, 0.1, 0.3)
    # Ranges are what no strength multiplies.
    assert found["augmentation.transforms.contrast.factor.low"].when.values == ("basic",)


def test_strength_and_ranges_work_together():
    plan = reference_plan(FAST)
    values = {"augmentation.strength": 2.0, "augmentation.transforms.contrast.factor.high": 1.5}
    augmentation = with_values(plan, FULL, values).configurations[FULL].augmentation
    contrast = next(one for one in augmentation.transforms if one.name == "contrast")
    assert (contrast.probability, contrast.factor.high, contrast.factor.low) == (0.3, 1.5, 0.75)
    assert (augmentation.preset, augmentation.strength) == ("custom", 2.0)


def test_ends_of_a_range_never_cross_and_bounds_stay():
    found = family("augmentation", BRAIN)
    for field, high in found.items():
        if field.endswith(".high") and (low := found.get(field.replace(".high", ".low"))) is not None:
            assert low.high <= high.low
    # Less noise than none is no noise, and a zoom ends at 1.
    assert "augmentation.transforms.gaussian_noise.std.low" not in found
    assert "augmentation.transforms.low_resolution.zoom.high" not in found
    assert (found["augmentation.transforms.low_resolution.zoom.low"].low) == 0.25


def test_transforms_of_one_name_are_told_apart_by_their_number():
    fields = family("augmentation", BRAIN)
    assert sum(".6." in field or ".7." in field for field in fields) >= 6


def test_what_never_happens_has_nothing_to_be_set():
    fields = family("augmentation", BRAIN)
    assert not any("elastic" in field for field in fields)
    fields = family("augmentation", with_set(BRAIN, "augmentation.transforms.contrast.probability=0"))
    assert not any("contrast" in field for field in fields)
    assert any(
        "elastic_magnitude" in field for field in family("augmentation", with_set(BRAIN, "augmentation.preset=strong"))
    )


def test_a_users_own_transforms_have_no_strength():
    plan = with_set(FAST, "augmentation.transforms.contrast.probability=0.4")
    found = family("augmentation", plan)
    assert "augmentation.strength" not in found
    assert found["augmentation.preset"].options[0] == "custom"
    assert found["augmentation.transforms.contrast.probability"].when.values == ("custom",)
    assert_own_values_change_nothing(plan)


def test_without_augmentation_other_presets_are_offered():
    assert list(family("augmentation", with_set(FAST, "augmentation.preset=none"))) == ["augmentation.preset"]


def test_large_rotations_are_only_made_smaller():
    plan = with_set(FAST, "configurations.3d_fullres.augmentation.transforms.spatial.rotation_deg=[180, 0, 0]")
    angles = family("augmentation", plan)["augmentation.transforms.spatial.rotation_deg"]
    assert angles.options == ([180.0, 0.0, 0.0], [90.0, 0.0, 0.0])
    still = with_set(FAST, "configurations.3d_fullres.augmentation.transforms.spatial.rotation_deg=[0, 0, 0]")
    assert "augmentation.transforms.spatial.rotation_deg" not in family("augmentation", still)


def test_whole_numbers_of_a_range_stay_whole():
    plan = with_set(BRAIN, "configurations.3d_fullres.augmentation.preset=mri")
    found = family("augmentation", plan)
    ghosts = found["augmentation.transforms.ghosting.num_ghosts.high"]
    assert (ghosts.name, ghosts.low, ghosts.center, ghosts.high) == ("whole", 3, 3, 4)
    assert_own_values_change_nothing(plan, "augmentation")


def test_a_network_is_made_wider_deeper_or_of_the_other_kind():
    found = family("network", BRAIN)
    features = reference_plan(BRAIN).configurations[FULL].network.features_per_stage
    assert found["network.name"].options == ("plain_unet", "residual_unet")
    assert found["network.features_per_stage"].options[0] == list(features)
    assert [options[0] for options in found["network.features_per_stage"].options] == [32, 24, 48]
    assert found["network.blocks_per_stage"].when.values == ("residual_unet",)
    assert found["network.convs_per_stage"].options[1] == [1] * len(features)
    assert found["network.deep_supervision"].options == (True, False)


def test_a_network_of_two_stages_has_one_output_anyway():
    plan = reference_plan(FAST)
    configuration = plan.configurations[FULL]
    small = {
        "features_per_stage": (8, 16),
        "strides": configuration.network.strides[:2],
        "kernel_sizes": configuration.network.kernel_sizes[:2],
        "convs_per_stage": (2, 2),
        "decoder_convs_per_stage": (2,),
    }
    loss = configuration.loss.changed(deep_supervision_weights=(1.0,))
    changed = configuration.changed(network=configuration.network.changed(**small), loss=loss)
    found = family("network", plan.changed(configurations={FULL: changed}, default_configuration=FULL))
    assert "network.deep_supervision" not in found


def test_of_another_packages_network_there_is_nothing_to_tune():
    plan = reference_plan(FAST)
    network = External(name="mine", distribution="mine", version="1")
    configuration = plan.configurations[FULL].changed(network=network)
    other = plan.changed(configurations={**plan.configurations, FULL: configuration})
    with pytest.raises(PlanError, match="there is nothing of the plan's network to tune; leave network out"):
        read_space("loss,network", other, FULL)


def test_another_packages_transform_has_nothing_to_be_set():
    plan = reference_plan(FAST)
    own = plan.configurations[FULL].augmentation
    other = External(name="mine", distribution="mine", version="1")
    augmentation = own.changed(preset="custom", transforms=(*own.transforms, other))
    configuration = plan.configurations[FULL].changed(augmentation=augmentation)
    found = family("augmentation", plan.changed(configurations={**plan.configurations, FULL: configuration}))
    assert not any("mine" in field for field in found)


@pytest.mark.parametrize(("name", "configuration"), EACH)
def test_each_family_offers_something_of_every_plan(name, configuration):
    offered = {one for one in FAMILIES if family(one, name, configuration)}
    # Networks through MONAI have nothing whose change keeps patch and stages.
    assert offered == {*families_of(name).split(",")}


def test_parts_of_a_u_net_that_are_searched_include_the_plans_own():
    found = family("network", with_set(BRAIN, "network.attention=cbam", "network.dropout=0.4"))
    assert found["network.attention"].options == ("cbam", "none", "squeeze_excitation")
    assert (found["network.dropout"].low, found["network.dropout"].high) == (0, 0.4)
    assert found["network.stochastic_depth"].when.values == ("residual_unet",)
    assert family("network", BRAIN)["network.attention"].options == ("none", "squeeze_excitation")
    with_reduction = with_set(BRAIN, "network.attention=cbam", "network.attention_reduction=4")
    # Without an attention, its reduction would be refused.
    assert family("network", with_reduction)["network.attention"].options == ("cbam", "squeeze_excitation")
    for plan in (with_reduction, with_set(BRAIN, "network.stochastic_depth=0.2", "network.norm=layer")):
        assert_own_values_change_nothing(plan)
