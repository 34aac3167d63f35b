"""What presets for trainings of full length give up in a short one."""

import pytest

from tests.planning.measured import COUNTER, equal_cases, fingerprint, planned
from tumorseg.planning.options import Machine, PlanOptions
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import PRESETS, extend_preset
from tumorseg.schema.optimizers import Sgd

FAST = PRESETS["fast_prototyping"]
SOONEST = ("plain_unet", FAST.optimizer, FAST.schedule, False)


def choices(plan):
    one = plan.configurations[plan.default_configuration]
    return one.network.name, one.optimizer, one.schedule, one.inference.mirroring


@pytest.mark.parametrize("preset", ["optimized", "large_gpu"])
@pytest.mark.parametrize("settings", [["training.epochs=20"], ["training.max_hours=1"]])
def test_a_short_training_learns_as_those_that_are_made_for_it(preset, settings):
    assert choices(planned(None, *settings, preset=preset)) == SOONEST


def test_hours_on_a_cpu_are_short_ones():
    options = PlanOptions(device="cpu", max_hours=20.0)
    plan = make_plan(fingerprint(), "p", options, Machine(lambda configuration, setting: 0.5, COUNTER)).plan
    assert choices(plan) == SOONEST
    assert plan.reasons["configurations.3d_fullres.optimizer"].rule == (
        "adamw: 20 hours are a short training on a CPU, which learns more so"
    )


@pytest.mark.parametrize("options", [{}, {"max_hours": 4.0}, {"max_hours": 100.0}])
def test_a_long_one_keeps_what_the_preset_has(options):
    plan = planned(fingerprint(equal_cases(30)), **options)
    optimized = PRESETS["optimized"]
    assert choices(plan) == ("residual_unet", optimized.optimizer, optimized.schedule, True)
    assert plan.reasons["configurations.3d_fullres.optimizer"].source == "preset"


def test_reasons_say_what_the_preset_has():
    plan = planned(None, max_hours=1.0)
    of_preset = {
        "network.name": "residual_unet",
        "optimizer": "sgd",
        "schedule": "poly",
        "inference.mirroring_axes": "all axes",
    }
    for field, before in of_preset.items():
        reason = plan.reasons[f"configurations.3d_fullres.{field}"]
        assert "1 hours are a short training (under 4)" in reason.rule
        assert reason.inputs["preset"].startswith(before)
        assert reason.alternative.startswith(before)
        assert reason.inputs["max_hours"] == 1.0
        assert "steps" not in reason.inputs


@pytest.mark.parametrize("preset", ["nnunet", "nnunet_resenc_m", "mednext", "transformer", "fast_prototyping"])
def test_published_and_other_presets_stay_as_they_are(preset):
    one = PRESETS[preset]
    assert choices(planned(None, preset=preset, max_hours=0.5)) == (
        one.network,
        one.optimizer,
        one.schedule,
        one.mirroring,
    )


@pytest.mark.parametrize(
    "change",
    [{"optimizer": {"name": "sgd"}}, {"optimizer.lr": 0.01}, {"schedule": {"name": "poly"}}, {"mirroring": True}],
)
def test_a_preset_of_ones_own_that_gives_one_of_them_keeps_all(change):
    own = extend_preset({"name": "own", **change}, source="own.json")
    assert choices(planned(None, preset=own, max_hours=0.5)) == (own.network, own.optimizer, own.schedule, True)
    yielding = extend_preset({"name": "own", **change, "gives_way": True}, source="own.json")
    assert choices(planned(None, preset=yielding, max_hours=0.5)) == SOONEST


def test_what_is_set_has_the_last_word():
    plan = planned(None, "optimizer.name=sgd", max_hours=0.5)
    assert plan.configurations["3d_fullres"].optimizer == Sgd()
    assert plan.reasons["configurations.3d_fullres.optimizer.name"].source == "user"


def test_a_network_that_the_user_names_stays_and_one_that_was_not_compared_keeps_the_preset():
    plan = planned(None, max_hours=0.5, network="residual_unet")
    assert choices(plan) == ("residual_unet", *SOONEST[1:])
    assert plan.reasons["configurations.3d_fullres.network.name"].source == "user"
    assert choices(planned(None, max_hours=0.5, network="auto")) == SOONEST
    optimized = PRESETS["optimized"]
    kept = choices(planned(None, max_hours=0.5, network="mednext"))
    assert kept == ("mednext", optimized.optimizer, optimized.schedule, True)


def test_nothing_of_a_published_estimate_is_left_where_a_published_preset_gives_way():
    own = extend_preset({"name": "own", "extends": "nnunet_resenc_l", "gives_way": True}, source="own.json")
    plain = extend_preset({"name": "own", "extends": "nnunet_resenc_l", "network": "plain_unet"}, source="own.json")
    given = planned(None, max_hours=0.5, preset=own).configurations["3d_fullres"]
    named = planned(None, max_hours=0.5, preset=plain, network="residual_unet")
    assert given.network.name == "plain_unet"
    by_name = planned(None, max_hours=0.5, preset=own, network="plain_unet").configurations["3d_fullres"]
    assert (given.patch_size, given.batch_size) == (by_name.patch_size, by_name.batch_size)
    assert named.configurations["3d_fullres"].network.name == "residual_unet"
