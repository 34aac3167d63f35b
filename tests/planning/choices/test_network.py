"""`--network auto`: each rule of its table, and which comes first."""

import json

import pytest

from tests.planning.measured import equal_cases, fingerprint, planned
from tumorseg.errors import PlanError
from tumorseg.planning.choices.circumstances import SHORT_HOURS, SHORT_STEPS, Circumstances
from tumorseg.planning.choices.network import LONG_HOURS, choose_network
from tumorseg.planning.evidence.independence import FEW_CASES
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.optimizers import AdamW

USUAL = Circumstances(
    num_cases=200,
    num_axes=3,
    case_voxels=150.0 * 180 * 150,
    vram_gb=24.0,
    max_hours=None,
    num_steps=250_000,
    on_cpu=False,
)
AMPLE = {"max_hours": LONG_HOURS}
BRIEF = {"epochs": 20, "iterations_per_epoch": 9, "validation_iterations": 1}


@pytest.mark.parametrize(
    ("known", "name", "why"),
    [
        ({}, "residual_unet", "the best for what it costs"),
        ({"on_cpu": True}, "plain_unet", "a CPU trains"),
        ({"on_cpu": True, "max_hours": 1000.0}, "plain_unet", "a CPU trains"),
        ({"max_hours": SHORT_HOURS - 0.5}, "plain_unet", "3.5 hours are a short training"),
        ({"max_hours": SHORT_HOURS}, "residual_unet", "the best for what it costs"),
        ({"num_steps": SHORT_STEPS - 1}, "plain_unet", "24999 steps are a short training"),
        ({"num_steps": SHORT_STEPS}, "residual_unet", "the best for what it costs"),
        # Hours replace the length of the preset.
        ({"num_steps": 10, "max_hours": 24.0}, "residual_unet", "the best for what it costs"),
        ({"num_cases": FEW_CASES - 1}, "plain_unet", "under 20 independent cases"),
        ({"num_cases": FEW_CASES - 1, **AMPLE}, "plain_unet", "under 20 independent cases"),
        ({"num_cases": FEW_CASES}, "residual_unet", "the best for what it costs"),
        (AMPLE, "mednext", "at least 70 hours and 24 GB are there"),
        ({**AMPLE, "vram_gb": 23.0}, "residual_unet", "the best for what it costs"),
        # Small cases need less for as good a view.
        ({**AMPLE, "vram_gb": 8.0, "case_voxels": 60.0**3}, "mednext", "and 4.27 GB are there"),
        ({"case_voxels": 64.0**3}, "plain_unet", "median cases hold at most 262144 voxels"),
        ({"case_voxels": 64.0**3 + 1}, "residual_unet", "the best for what it costs"),
        ({"case_voxels": 64.0**3, "num_axes": 2}, "residual_unet", "the best for what it costs"),
        ({**AMPLE, "num_axes": 2}, "residual_unet", "the best for what it costs"),
        ({"max_hours": LONG_HOURS - 1}, "residual_unet", "the best for what it costs"),
    ],
)
def test_the_first_rule_that_holds_decides(known, name, why):
    choice = choose_network(USUAL._replace(**known))
    assert choice.name == name
    assert choice.reason.rule.startswith(f"--network auto: {name}, as ")
    assert why in choice.reason.rule
    assert choice.reason.alternative.startswith("--network ")
    assert f"--network {name}:" not in choice.reason.alternative


def test_what_decided_stands_in_the_reason():
    inputs = choose_network(USUAL._replace(max_hours=3.0)).reason.inputs
    assert inputs == {
        "independent_cases": 200,
        "num_axes": 3,
        "case_voxels": 4_050_000,
        "vram_gb": 24.0,
        "mednext_gb": 24.0,
        "max_hours": 3.0,
        "device": "cuda",
    }


def auto(measured, **options):
    plan = planned(measured, network="auto", **options)
    field = f"configurations.{plan.default_configuration}.network.name"
    return plan.configurations[plan.default_configuration].network.name, plan.reasons[field]


def test_a_plan_holds_the_choice_and_its_reason():
    many = fingerprint(equal_cases(30))
    name, reason = auto(fingerprint(equal_cases(30, shape=(80, 90, 70))))
    assert (name, reason.source) == ("residual_unet", "rule")
    assert auto(many)[0] == "plain_unet"
    assert auto(fingerprint(equal_cases(3)))[0] == "plain_unet"
    assert auto(many, preset="fast_prototyping")[0] == "plain_unet"
    assert auto(many, max_hours=1.0)[0] == "plain_unet"
    assert auto(many, max_hours=100.0, vram_gb=6.0)[0] == "mednext"
    assert auto(fingerprint(equal_cases(30, shape=(1, 301, 203))), max_hours=100.0)[0] == "residual_unet"


def first(plan):
    return plan.configurations[plan.default_configuration]


def test_a_chosen_mednext_is_the_one_of_its_preset():
    many, room = fingerprint(equal_cases(30)), {"max_hours": 100.0, "vram_gb": 6.0}
    chosen, usual = planned(many, network="auto", **room), planned(many, preset="mednext", **room)
    assert chosen.configurations == usual.configurations
    assert first(chosen).network.blocks_per_stage[0] == 3, "size L"
    assert first(chosen).optimizer.name == "adamw"
    for field, before in (("optimizer", "sgd"), ("schedule", "poly")):
        reason = chosen.reasons[f"configurations.3d_fullres.{field}"]
        assert reason.rule == "of preset mednext, as --network auto chose its network"
        assert reason.alternative == f"{before}, of preset optimized"
    own = PRESETS["mednext"].changed(network_size="s", optimizer=AdamW(lr=0.5))
    kept = first(planned(many, network="auto", preset=own, **room))
    assert (kept.network.blocks_per_stage[0], kept.optimizer.lr) == (2, 0.5)


@pytest.mark.parametrize(
    ("settings", "preset", "name", "why"),
    [
        (["training.epochs=20"], "optimized", "plain_unet", "5000 steps are a short training"),
        (
            ["training.epochs=30", f"training={json.dumps(BRIEF)}"],
            "optimized",
            "plain_unet",
            "270 steps are a short training",
        ),
        (["training.max_hours=2"], "optimized", "plain_unet", "2 hours are a short training"),
        (["training.max_hours=100"], "mednext", "mednext", "at least 70 hours"),
        (
            ["training.epochs=1000", "training.iterations_per_epoch=250"],
            "fast_prototyping",
            "residual_unet",
            "the best",
        ),
    ],
)
def test_what_is_set_of_the_training_counts(settings, preset, name, why):
    measured = fingerprint(equal_cases(30, shape=(80, 90, 70)))
    plan = planned(measured, *settings, network="auto", preset=preset)
    assert first(plan).network.name == name
    assert why in plan.reasons["configurations.3d_fullres.network.name"].rule


@pytest.mark.parametrize("setting", ["training.epochs=many", "training.epoch=3"])
def test_an_unsound_training_is_refused_in_one_line(setting):
    with pytest.raises(PlanError, match=r"--set training") as refused:
        planned(fingerprint(equal_cases(30)), setting, network="auto")
    assert "\n" not in str(refused.value)


def test_cases_of_one_group_count_as_one():
    grouped = fingerprint([case.model_copy(update={"group": "g"}) for case in equal_cases(30)])
    name, reason = auto(grouped)
    assert (name, reason.inputs["independent_cases"]) == ("plain_unet", 1)


def test_an_unknown_name_lists_auto_too():
    with pytest.raises(PlanError, match=r"network 'unext' is unknown to the planner; choose plain_unet or .* or auto$"):
        planned(network="unext")
