"""The precision of a processor, by steps timed in both."""

import math

import pytest

from tests.planning.measured import COUNTER, equal_cases, fingerprint
from tumorseg.errors import TrainingError
from tumorseg.planning.options import Machine, PlanOptions
from tumorseg.planning.overrides import parse_override
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import PRESETS

MEASURED = fingerprint(equal_cases(20, (1.0, 1.0, 1.0), (120, 150, 130)))
FAST = PRESETS["fast_prototyping"]
SETTING = "training.precision.cpu"
PER_GIGAVOXEL_S = 50.0
"""Time of a step for each voxel and feature at full resolution, in fp32."""


def in_fp32(preset):
    precision = preset.training.precision.changed(cpu="fp32")
    return preset.changed(training=preset.training.changed(precision=precision))


def planned(bf16_factor, *, has_bf16=True, timed=None, **options):
    """Plan for a processor whose steps in bf16 take so many times what those in fp32 take; None runs out of memory in fp32."""

    def seconds(configuration, setting):
        if timed is not None:
            timed.append(setting.precision)
        if bf16_factor is None and setting.precision == "fp32":
            raise TrainingError("not enough memory while a training step was timed")
        width = configuration.network.features_per_stage[0]
        fp32_s = PER_GIGAVOXEL_S * width * configuration.batch_size * math.prod(configuration.patch_size) / 1e9
        return fp32_s * (bf16_factor or 0.5) if setting.precision == "bf16" else fp32_s

    asked = PlanOptions(device="cpu", **({"preset": FAST} | options))
    return make_plan(MEASURED, "p", asked, Machine(seconds, COUNTER, has_bf16)).plan


def size_of(plan):
    configuration = plan.configurations["3d_fullres"]
    return configuration.network.features_per_stage[0] * math.prod(configuration.patch_size)


@pytest.mark.parametrize(
    ("bf16_factor", "has_bf16", "precision", "rule"),
    [
        (
            0.5,
            True,
            "bf16",
            "bf16, in which this CPU takes less time for a step than in fp32; no loss of accuracy was found",
        ),
        (2.0, True, "fp32", "fp32, in which this CPU takes less time for a step than in bf16"),
        (0.5, False, "fp32", "fp32, as this CPU does not compute in bf16"),
    ],
)
def test_a_cpu_trains_in_the_precision_that_takes_less_time(bf16_factor, has_bf16, precision, rule):
    plan = planned(bf16_factor, has_bf16=has_bf16)
    assert plan.training.precision.cpu == precision
    reason = plan.reasons[SETTING]
    assert (reason.source, reason.rule) == ("device", rule)
    assert plan.reasons["training"].rule.endswith("; clipping of preset fast_prototyping")


def test_the_size_is_what_the_faster_precision_has_time_for():
    hours = 300 / 3600
    fast, slow = (
        planned(3.0, max_hours=hours),
        planned(3.0, max_hours=hours, overrides=(parse_override(f"{SETTING}=bf16"),)),
    )
    assert size_of(fast) > size_of(slow)
    assert fast.budget.step_s < slow.budget.step_s * size_of(fast) / size_of(slow)
    assert fast == planned(3.0, max_hours=hours, preset=in_fp32(FAST)).changed(reasons=fast.reasons)


def test_what_does_not_fit_the_memory_in_fp32_is_trained_in_bf16():
    assert planned(None).training.precision.cpu == "bf16"


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_precision_that_a_user_sets_is_the_one_that_is_timed(precision):
    timed = []
    plan = planned(
        2.0 if precision == "bf16" else 0.5, timed=timed, overrides=(parse_override(f"{SETTING}={precision}"),)
    )
    assert set(timed) == {precision}
    assert plan.training.precision.cpu == precision
    assert plan.reasons[SETTING].source == "user"


def test_a_preset_may_want_fp32_of_a_cpu_with_bf16():
    timed = []
    plan = planned(0.5, timed=timed, preset=in_fp32(FAST))
    assert set(timed) == {"fp32"}
    assert plan.training.precision.cpu == "fp32"
    assert SETTING not in plan.reasons
    assert plan.reasons["training"].rule.endswith("; precision and clipping of preset fast_prototyping")
