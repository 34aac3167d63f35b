"""No plan of tumorseg's own presets passes its budget: searched and counted for real."""

import re

import pytest
from hypothesis import given, settings

from tests.planning.drawn import fingerprints
from tests.planning.measured import case, equal_cases, fingerprint, planned
from tumorseg.errors import PlanError
from tumorseg.planning.families.registry import FAMILIES
from tumorseg.planning.memory.budgets import needed_bytes
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.totals import plan_setting, predict_memory
from tumorseg.planning.options import Machine, PlanOptions
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.extensions import External
from tumorseg.schema.plan import Budget
from tumorseg.schema.quantities import GB

COUNTER = MemoryCounter()
"""A real one."""
TOO_SMALL = re.compile("the median case .* is too small for|was searched for volumes only")
LESS = {"network": "plain_unet", "base_features": 8, "initial_edge_3d": 64, "initial_edge_2d": 64, "cascade": False}
SMALL = PRESETS["optimized"].model_copy(update=LESS)
"""The default preset with less to count."""


def really_planned(measured, **options):
    options = {"preset": SMALL} | options
    return make_plan(measured, "p", PlanOptions(**options), Machine(counter=COUNTER)).plan


def assert_within(plan):
    assert plan.budget.predicted_bytes <= plan.budget.vram_bytes
    assert set(plan.budget.counts) == set(plan.configurations)
    for count in plan.budget.counts.values():
        assert needed_bytes(count) <= plan.budget.predicted_bytes


@pytest.mark.slow
@pytest.mark.parametrize("num_drawn", [2, pytest.param(20, marks=pytest.mark.long)])
def test_no_plan_for_8_gb_needs_more(num_drawn):
    @settings(max_examples=num_drawn, deadline=None, derandomize=True, database=None)
    @given(fingerprints())
    def check(measured):
        plan = really_planned(measured, preset=PRESETS["optimized"])
        assert plan.budget.vram_bytes == 8 * GB
        assert_within(plan)

    check()


@pytest.mark.parametrize(
    ("network", "num_drawn"),
    [
        pytest.param("mednext", 1, marks=pytest.mark.slow),
        pytest.param("unetr", 1, marks=pytest.mark.slow),
        *(pytest.param(name, 20, marks=pytest.mark.long) for name in FAMILIES),
    ],
)
def test_no_plan_of_any_family_for_8_gb_needs_more(network, num_drawn):
    @settings(max_examples=num_drawn, deadline=None, derandomize=True, database=None)
    @given(fingerprints())
    def check(measured):
        refused, plan = None, None
        try:
            plan = really_planned(measured, preset=PRESETS["optimized"], network=network)
        except PlanError as error:
            refused = str(error)
        # Some need larger images, or volumes.
        if refused is not None:
            assert TOO_SMALL.search(refused)
            return
        assert plan.budget.vram_bytes == 8 * GB
        assert_within(plan)

    check()


@pytest.mark.slow
def test_below_the_budget_of_a_worthwhile_patch_memory_is_saved_in_order():
    measured = fingerprint(equal_cases(30, (1.0, 1.0, 1.0), (60, 70, 64)))
    found = []
    for vram_gb in (1.0, 0.5885, 0.588, 0.5865):
        plan = really_planned(measured, vram_gb=vram_gb)
        assert_within(plan)
        configuration = plan.configurations["3d_fullres"]
        found.append((configuration.activation_checkpointing, configuration.gradient_accumulation))
        reasons = plan.reasons
        if configuration.activation_checkpointing:
            assert "the budget holds no worthwhile patch otherwise" in (
                reasons["configurations.3d_fullres.activation_checkpointing"].rule
            )
    assert found[0] == (False, 1)
    assert found == sorted(found)
    assert found[-1] == (True, 2)
    assert "smaller than is worthwhile" in reasons["configurations.3d_fullres.gradient_accumulation"].rule


def test_a_budget_too_small_for_any_plan_is_told_the_least_that_would_do():
    measured = fingerprint(equal_cases(5, (1.0, 1.0, 1.0), (24, 32, 28)))
    with pytest.raises(
        PlanError, match=r"a budget of 0.5 GB is too small .*, needs ([\d.]+) GB; give a --vram"
    ) as refused:
        really_planned(measured, vram_gb=0.5)
    least = float(str(refused.value).split(" needs ")[1].split(" GB")[0])
    assert_within(really_planned(measured, vram_gb=least))
    with pytest.raises(PlanError, match="too small"):
        really_planned(measured, vram_gb=least - 0.01)


@pytest.mark.slow
def test_a_batch_is_divided_among_gpus_of_the_same_budget():
    measured = fingerprint(equal_cases(900, (1.0, 1.0, 1.0), (60, 70, 64)))
    one, two = (really_planned(measured, vram_gb=0.9, num_gpus=count) for count in (1, 2))
    alone, both = one.configurations["3d_fullres"], two.configurations["3d_fullres"]
    assert both.patch_size == alone.patch_size
    assert both.batch_size == 2 * alone.batch_size >= 4
    assert_within(two)


@pytest.mark.slow
def test_many_classes_on_large_planes_are_summed_in_main_memory():
    labels = {"background": 0} | {f"label_{value}": value for value in range(1, 60)}
    measured = fingerprint(equal_cases(5, (1.0, 1.0, 1.0), (64, 512, 512)), labels=labels)
    plan = really_planned(measured, vram_gb=1.5)
    assert plan.configurations["3d_fullres"].inference.accumulate_on == "cpu"
    assert "main memory" in plan.reasons["configurations.3d_fullres.inference.accumulate_on"].rule
    assert_within(plan)


def test_a_huge_budget_on_a_tiny_image_is_limited_by_the_dataset():
    plan = really_planned(fingerprint(equal_cases(3, (1.0, 1.0, 1.0), (35, 35, 35))), vram_gb=60.0)
    configuration = plan.configurations["3d_fullres"]
    assert max(configuration.patch_size) <= 40
    assert configuration.batch_size == 2
    assert_within(plan)


def test_one_case_and_labels_with_gaps_are_planned():
    labels = {"background": 0, "a": 7, "b": 2035}
    plan = really_planned(fingerprint([case("only", (2.0, 1.0, 1.0), (20, 40, 36))], labels=labels))
    assert plan.folds == ()
    assert_within(plan)


def test_the_largest_batch_that_fits_is_found_where_weights_outweigh_a_patch():
    wide = SMALL.model_copy(update={"base_features": 64, "max_dataset_covered": 1.0, "initial_edge_2d": 32})
    plan = really_planned(fingerprint(equal_cases(400, (1.0, 1.0, 1.0), (1, 32, 32))), preset=wide, vram_gb=1.0)
    configuration = plan.configurations["2d"]
    larger = configuration.model_copy(update={"batch_size": configuration.batch_size + 1})
    assert configuration.batch_size < 400
    assert needed_bytes(COUNTER.count(larger, plan_setting(plan))) > plan.budget.vram_bytes
    assert_within(plan)


def test_nothing_is_predicted_where_only_another_package_knows_the_network():
    plan = planned(fingerprint())
    other = External(name="mine", distribution="pkg", version="1", parameters={})
    networks = {name: found.changed(network=other) for name, found in plan.configurations.items()}
    bare = plan.changed(configurations=networks, budget=Budget(vram_bytes=plan.budget.vram_bytes), reasons={})
    counted = predict_memory(bare, COUNTER)
    assert (counted.budget.predicted_bytes, counted.budget.counts, counted.reasons) == (None, {}, {})
