"""Width and patch by timed steps; the clock is a formula here."""

import math

import pytest

from tests.planning.measured import COUNTER, equal_cases, fingerprint
from tumorseg.errors import PlanError, TrainingError
from tumorseg.planning.options import Machine, PlanOptions
from tumorseg.planning.overrides import parse_override
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import PRESETS, extend_preset
from tumorseg.planning.search.ladder import FEW_STEPS, MANY_STEPS, MOST_S, RUNGS, USUAL_S, target_seconds
from tumorseg.schema.base import record_hash

MEASURED = fingerprint(equal_cases(20, (1.0, 1.0, 1.0), (120, 150, 130)))
FLAT = fingerprint(equal_cases(20, (1.0, 0.5, 0.5), (1, 301, 203)))


def machine(seconds_per_gigavoxel):
    def seconds(configuration, setting):
        assert setting.precision == "fp32"
        width = configuration.network.features_per_stage[0]
        return seconds_per_gigavoxel * width * configuration.batch_size * math.prod(configuration.patch_size) / 1e9

    return Machine(seconds, COUNTER)


def cpu_plan(speed, measured=MEASURED, **options):
    options = {"preset": PRESETS["optimized"]} | options
    return make_plan(measured, "p", PlanOptions(device="cpu", **options), machine(speed)).plan


@pytest.mark.parametrize("measured", [MEASURED, FLAT])
def test_a_faster_machine_gets_a_wider_network_or_a_larger_patch(measured):
    name = cpu_plan(1, measured).default_configuration
    sizes = []
    for speed in (3000, 300, 30, 3):
        configuration = cpu_plan(speed, measured).configurations[name]
        sizes.append(configuration.network.features_per_stage[0] * math.prod(configuration.patch_size))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_a_step_stays_within_its_time_and_is_written_down():
    plan = cpu_plan(30)
    assert 0 < plan.budget.step_s <= USUAL_S
    assert plan.budget.device == "cpu"
    assert plan.training.precision.cpu == "fp32"
    assert {configuration.batch_size for configuration in plan.configurations.values()} == {2}


def test_reasons_tell_what_the_cpu_decided():
    plan = cpu_plan(30)
    reasons = plan.reasons
    assert reasons["training"].rule.endswith("; clipping of preset optimized")
    precision = reasons["training.precision.cpu"]
    assert (precision.source, precision.rule[:4]) == ("device", "fp32")
    width = plan.configurations["2d"].network.features_per_stage[0]
    rung = reasons["budget.step_s"].inputs
    assert (rung["base_features"], rung["initial_edge_3d"]) in [known[:2] for known in RUNGS]
    assert rung["base_features"] == width
    assert reasons["configurations.2d.patch_size"].rule.startswith("begin with the CPU's volume")
    assert reasons["configurations.2d.batch_size"].inputs["batch_by_cpu"] == 2


def test_the_slowest_machine_gets_the_narrowest_network():
    plan = cpu_plan(1e9)
    features, edge, _ = RUNGS[0]
    configuration = plan.configurations["3d_fullres"]
    assert configuration.network.features_per_stage[0] == features
    assert math.prod(configuration.patch_size) <= 1.5 * edge**3
    assert plan.budget.step_s > USUAL_S


def test_a_preset_is_never_made_wider_than_it_is():
    configuration = cpu_plan(1e-9, preset=PRESETS["fast_prototyping"]).configurations["3d_fullres"]
    assert configuration.network.features_per_stage[0] == PRESETS["fast_prototyping"].base_features


def test_a_preset_that_follows_the_machine_grows_where_hours_let_it():
    fast = PRESETS["fast_prototyping"]
    widths = []
    for hours in (None, 0.1, 100.0):
        plan = cpu_plan(30, preset=fast, max_hours=hours)
        widths.append(plan.configurations["3d_fullres"].network.features_per_stage[0])
    usual, shorter, longest = widths
    assert usual <= fast.base_features
    assert shorter < longest == RUNGS[-1].features


def test_a_wider_network_that_is_faster_is_found_behind_a_slow_one():
    def seconds(configuration, setting):
        # As measured: what fills no vector takes longer.
        return {8: 0.28, 16: 0.15}.get(configuration.network.features_per_stage[0], 9.0)

    measured = fingerprint(equal_cases(20, (1.0, 1.0, 1.0), (36, 50, 35)))
    hours = 0.04
    options = PlanOptions(device="cpu", preset=PRESETS["fast_prototyping"], max_hours=hours)
    plan = make_plan(measured, "p", options, Machine(seconds, COUNTER)).plan
    assert 0.15 < target_seconds(hours, FEW_STEPS) < 0.28
    assert plan.configurations["3d_fullres"].network.features_per_stage[0] == 16


def test_equal_configurations_are_timed_once():
    timed = []

    def seconds(configuration, setting):
        timed.append(record_hash(configuration))
        return 1e-6

    # Patches beyond the image are all the image's.
    measured = fingerprint(equal_cases(20, (1.0, 1.0, 1.0), (36, 50, 35)))
    options = PlanOptions(device="cpu", preset=PRESETS["fast_prototyping"], max_hours=1.0)
    make_plan(measured, "p", options, Machine(seconds, COUNTER))
    assert len(timed) == len(set(timed)) < len(RUNGS)


def test_hours_decide_what_a_step_may_take():
    assert target_seconds(None, FEW_STEPS) == target_seconds(None, MANY_STEPS) == USUAL_S
    assert target_seconds(1e3, FEW_STEPS) == MOST_S
    assert target_seconds(1.0, MANY_STEPS) < target_seconds(1.5, MANY_STEPS) < target_seconds(1.5, FEW_STEPS) < MOST_S


def width_of(preset, step_s, *, hours, **options):
    """Return the width that is planned where 8 features take half of `step_s`, 16 all of it and 32 three times as long."""
    share = {8: 0.5, 16: 1.0, 32: 3.0}

    def seconds(configuration, setting):
        return share[configuration.network.features_per_stage[0]] * step_s

    measured = fingerprint(equal_cases(20, (1.0, 1.0, 1.0), (36, 50, 35)))
    planning = PlanOptions(device="cpu", preset=preset, max_hours=hours, **options)
    plan = make_plan(measured, "p", planning, Machine(seconds, COUNTER)).plan
    return plan.configurations["3d_fullres"].network.features_per_stage[0]


@pytest.mark.parametrize(("hours", "width"), [(1 / 60, 8), (0.1, 16), (0.4, 16), (1.0, 32)])
def test_short_trainings_keep_the_width_of_the_preset_and_long_ones_grow(hours, width):
    assert width_of(PRESETS["fast_prototyping"], 0.25, hours=hours) == width


def test_hours_that_are_set_as_a_field_count_as_hours():
    overrides = (parse_override("training.max_hours=1.0"),)
    assert width_of(PRESETS["fast_prototyping"], 0.25, hours=None, overrides=overrides) == 32


def test_a_preset_of_ones_own_that_gives_a_width_keeps_it():
    own = extend_preset({"name": "own", "extends": "fast_prototyping", "base_features": 8}, source="own.json")
    assert width_of(own, 1e-6, hours=10.0) == 8
    follows = {"name": "own", "extends": "fast_prototyping", "base_features": 8, "follows_machine": True}
    assert width_of(extend_preset(follows, source="own.json"), 1e-6, hours=10.0) == 32


def test_what_does_not_fit_the_budget_is_not_timed():
    timed = []

    def seconds(configuration, setting):
        timed.append(configuration)
        return 1e-6

    options = PlanOptions(device="cpu", preset=PRESETS["fast_prototyping"], max_hours=10.0, vram_gb=1.3)
    plan = make_plan(MEASURED, "p", options, Machine(seconds, COUNTER)).plan
    planned = plan.configurations["3d_fullres"]
    assert (timed[-1].network, timed[-1].patch_size) == (planned.network, planned.patch_size)
    assert timed[-1].network.features_per_stage[0] < RUNGS[-1].features


def test_a_machine_whose_memory_others_hold_trains_what_it_can():
    def seconds(configuration, setting):
        if configuration.network.features_per_stage[0] > most:
            raise TrainingError("memory ran out while a training step was timed")
        return 1e-6

    options = PlanOptions(device="cpu", preset=PRESETS["fast_prototyping"], max_hours=10.0)
    most = 16
    plan = make_plan(MEASURED, "p", options, Machine(seconds, COUNTER)).plan
    assert plan.configurations["3d_fullres"].network.features_per_stage[0] == 16
    most = 4
    with pytest.raises(TrainingError, match="memory ran out"):
        make_plan(MEASURED, "p", options, Machine(seconds, COUNTER))


def test_planning_for_a_cpu_needs_a_clock():
    with pytest.raises(PlanError, match="plan on the machine that will train"):
        make_plan(MEASURED, "p", PlanOptions(device="cpu"), Machine(counter=COUNTER))


def test_hours_of_a_preset_count_and_a_cpu_has_no_gpus():
    training = PRESETS["fast_prototyping"].training.model_copy(update={"max_hours": 3.0})
    preset = PRESETS["fast_prototyping"].model_copy(update={"training": training})
    assert cpu_plan(30, preset=preset).training.max_hours == 3.0
    assert cpu_plan(30, preset=preset, max_hours=1.0).training.max_hours == 1.0
    with pytest.raises(PlanError, match="--device cpu and --num-gpus 2 contradict"):
        cpu_plan(30, num_gpus=2)


def test_gpus_without_a_patch_are_warned_about():
    options = PlanOptions(num_gpus=4, overrides=(parse_override("batch_size=2"),))
    warnings = make_plan(MEASURED, "p", options, Machine(counter=COUNTER)).warnings
    assert any("cannot be divided into 1 parts on each of 4 GPUs" in warning for warning in warnings)


def small_plan(shape, **options):
    measured = fingerprint(equal_cases(20, (1.0, 1.0, 1.0), shape))
    planning = PlanOptions(device="cpu", preset=PRESETS["fast_prototyping"], network="swin_unetr", **options)
    return make_plan(measured, "p", planning, Machine(lambda configuration, setting: 9.0, COUNTER)).plan


def test_a_rung_too_low_for_the_network_is_passed_over_however_slow_the_next_one_is():
    # Patches of 32 x 32 x 32, the first rung's, leave it one voxel at the bottleneck.
    assert small_plan((36, 50, 35)).configurations["3d_fullres"].patch_size == (64, 64, 64)


def test_images_too_small_for_any_rung_are_refused_as_on_a_gpu():
    with pytest.raises(PlanError, match=r"too small for a swin_unetr: .* one voxel at the bottleneck"):
        small_plan((20, 20, 20))
