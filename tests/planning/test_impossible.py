"""Every network plans every kind of dataset, or says in one line why not; combinations that cannot be are refused."""

import pytest

from tests.planning.measured import equal_cases, fingerprint, planned
from tests.planning.test_presets import DATASETS, assert_is_sound
from tumorseg.errors import PlanError
from tumorseg.planning.families.registry import FAMILIES
from tumorseg.planning.presets import PRESETS

VOLUMES_ONLY = "dints"
TOO_SMALL = {
    "swin_unetr": ("tiny",),
    "dynunet": ("tiny",),
    "dints": ("tiny",),
}
"""Kinds of datasets whose cases are smaller than what a network needs; those that are not here need no more than a U-Net."""
EIGHT_TIMES = fingerprint(equal_cases(30, (8.0, 1.0, 1.0), (16, 256, 216)))


def refusal(measured=None, *settings, **options):
    with pytest.raises(PlanError) as refused:
        planned(measured, *settings, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


NETWORKS_OF_PRESETS = {preset.network for preset in PRESETS.values()}
"""Which plan every kind in the tests of presets."""
SEARCHED = [
    pytest.param(network, preset, marks=[pytest.mark.slow] * (preset == "nnunet" or network in NETWORKS_OF_PRESETS))
    for network in FAMILIES
    for preset in ("fast_prototyping", "nnunet")
]


@pytest.mark.parametrize(("network", "preset"), SEARCHED)
def test_every_network_plans_every_kind_of_dataset_or_says_why_not(network, preset):
    for kind, measured in {**DATASETS, "eight times": EIGHT_TIMES}.items():
        options = {"network": network, "preset": preset}
        if network == VOLUMES_ONLY and kind == "flat":
            assert "was searched for volumes only, the images are planes" in refusal(measured, **options)
        elif kind in TOO_SMALL.get(network, ()):
            assert "is too small for" in refusal(measured, **options)
        else:
            plan = planned(measured, **options)
            assert_is_sound(plan)
            assert {one.network.name for one in plan.configurations.values()} == {network}


def test_a_network_for_volumes_only_leaves_planes_out():
    assert set(planned(DATASETS["mr"], network=VOLUMES_ONLY).configurations) == {"3d_fullres"}


@pytest.mark.parametrize("network", FAMILIES)
def test_a_budget_for_no_patch_is_refused_whatever_the_network(network):
    message = refusal(DATASETS["mr"], network=network, vram_gb=0.01)
    assert "a budget of 0.01 GB is too small for any patch of preset optimized" in message
    assert "give a --vram of that at least" in message


def test_a_window_above_the_patch_is_refused():
    message = refusal(DATASETS["mr"], "configurations.3d_fullres.network.window=[7,70,7]", network="swin_unetr")
    assert "a window of [7, 70, 7] tokens is larger than patch_size" in message


def test_a_patch_other_than_the_one_that_positions_were_planned_for_is_refused():
    message = refusal(DATASETS["mr"], "configurations.3d_fullres.patch_size=[32,32,32]", network="unetr")
    assert "plan both alike" in message


def test_a_patch_that_divisors_do_not_divide_is_refused():
    message = refusal(DATASETS["mr"], "configurations.3d_fullres.patch_size=[64,64,72]", network="swin_unetr")
    assert "must be multiples of [32, 32, 32]" in message


@pytest.mark.parametrize("network", ["mednext", "swin_unetr"])
def test_a_published_estimate_is_of_its_own_networks_others_are_counted(network):
    plan = planned(DATASETS["mr"], network=network, preset="nnunet")
    assert plan.budget.predicted_bytes <= plan.budget.vram_bytes
