"""`--flops-of`: the widest network within a share of what another plan's computes."""

import math

import pytest

from tests.planning.measured import equal_cases, fingerprint, planned, widths
from tumorseg.errors import PlanError
from tumorseg.planning.families.base import Grid
from tumorseg.planning.families.registry import FAMILIES
from tumorseg.planning.flops import network_flops
from tumorseg.planning.presets import PRESETS
from tumorseg.planning.search.narrowing import FlopsLimit, first_features, flops_limit

MEASURED = fingerprint(equal_cases(30, (2.0, 1.0, 1.0), (32, 48, 40)), channels=("A", "B"))
SMALL = PRESETS["fast_prototyping"].changed(base_features=6, max_features_3d=18, initial_edge_3d=32, initial_edge_2d=32)
FULL = "3d_fullres"


def per_mm3(plan, *, plane_mm=1.0):
    configuration = plan.configurations[plan.default_configuration]
    flops = network_flops(
        configuration.network, configuration.patch_size, num_channels=len(plan.dataset.channels), num_outputs=2
    )
    return flops / math.prod(configuration.patch_size) / math.prod(configuration.spacing_mm) / plane_mm


def first_width(plan):
    return widths(plan.configurations[plan.default_configuration].network)[0]


@pytest.fixture(scope="module")
def teacher():
    return planned(MEASURED, preset=SMALL)


def test_the_widest_network_within_the_share_is_planned(teacher):
    share = 0.4
    limit = flops_limit(teacher, share)
    assert limit.per_mm3 == pytest.approx(per_mm3(teacher))
    student = planned(MEASURED, preset=SMALL, flops=limit)
    assert per_mm3(student) <= share * per_mm3(teacher)
    features = first_width(student) + 1
    wider = planned(MEASURED, preset=SMALL.changed(base_features=features, max_features_3d=3 * features))
    assert per_mm3(wider) > share * per_mm3(teacher)


def test_all_else_stays_and_the_reason_says_what_was_asked(teacher):
    student = planned(MEASURED, preset=SMALL, flops=flops_limit(teacher, 0.25))
    for name, configuration in student.configurations.items():
        before = teacher.configurations[name]
        assert widths(configuration.network)[0] == first_width(student) < first_width(teacher)
        assert configuration.network.strides == before.network.strides
        assert configuration.changed(network=before.network) == before
        reason = student.reasons[f"configurations.{name}.network"]
        assert (reason.source, reason.inputs["planned"]) == ("user", first_width(teacher))
        assert f"{first_width(student)} features at full resolution, the most with 0.25 times" in reason.rule
        assert teacher.name in reason.rule
    assert student.budget.predicted_bytes < teacher.budget.predicted_bytes


def test_a_whole_share_changes_no_network(teacher):
    same = planned(MEASURED, preset=SMALL, flops=flops_limit(teacher, 1.0))
    assert same.configurations == teacher.configurations


@pytest.mark.parametrize("network", ["mednext", pytest.param("segresnet", marks=pytest.mark.slow)])
def test_a_student_may_be_of_another_family(teacher, network):
    limit = flops_limit(teacher, 0.5)
    student = planned(MEASURED, preset=SMALL.changed(base_features=16), network=network, flops=limit)
    assert student.configurations[FULL].network.name == network
    assert per_mm3(student) <= 0.5 * limit.per_mm3


def test_planes_are_compared_by_the_volume_that_they_stand_for():
    flat = fingerprint(equal_cases(30, (4.0, 1.0, 1.0), (1, 60, 50)))
    teacher = planned(flat, preset=SMALL)
    limit = flops_limit(teacher, 0.5)
    assert limit.per_mm3 == pytest.approx(per_mm3(teacher, plane_mm=4.0))
    student = planned(flat, preset=SMALL, flops=limit)
    assert per_mm3(student, plane_mm=4.0) <= 0.5 * limit.per_mm3
    assert first_width(student) < first_width(teacher)


def test_channels_and_labels_may_be_others(teacher):
    other = fingerprint(equal_cases(30), labels={"background": 0, "a": 1, "b": 2})
    student = planned(other, preset=SMALL, flops=flops_limit(teacher, 0.25))
    assert first_width(student) < first_width(teacher)


@pytest.mark.parametrize("name", FAMILIES)
def test_features_at_full_resolution_are_those_of_the_network(name):
    sized = next(FAMILIES[name].networks(Grid((1.0,) * 3, (64.0,) * 3, 1e6, 2), PRESETS["optimized"]))
    assert first_features(sized.network) == widths(sized.network)[0]


@pytest.mark.slow
def test_features_are_told_as_the_network_has_them():
    options = {"preset": SMALL.changed(base_features=16), "network": "swin_unetr"}
    ample = FlopsLimit(plan="Big", share=0.5, per_mm3=1e15)
    student = planned(MEASURED, flops=ample, **options)
    reason = student.reasons[f"configurations.{FULL}.network"]
    assert student.configurations[FULL].network.features == 24
    assert "; 24 features at full resolution" in reason.rule
    assert (reason.inputs["planned"], reason.alternative) == (24, "24 features, without --flops-of")
    options["preset"] = SMALL.changed(base_features=2)
    with pytest.raises(PlanError, match="a swin_unetr of 12 features computes more"):
        planned(MEASURED, flops=ample.changed(per_mm3=1.0), **options)


def test_what_is_set_afterwards_must_keep_the_limit_too(teacher):
    limit = flops_limit(teacher, 0.5)
    wide = list(teacher.configurations[FULL].network.features_per_stage)
    with pytest.raises(
        PlanError, match=r"--flops-of Toy__plan:0.5 and --set contradict: 3d_fullres as it is set computes 1 times as"
    ) as refused:
        planned(MEASURED, f"configurations.{FULL}.network.features_per_stage={wide}", preset=SMALL, flops=limit)
    assert "\n" not in str(refused.value)
    narrow = [2 for _ in wide]
    kept = planned(MEASURED, f"configurations.{FULL}.network.features_per_stage={narrow}", preset=SMALL, flops=limit)
    assert first_width(kept) == 2


def test_a_share_that_no_network_keeps_is_told_in_one_line(teacher):
    with pytest.raises(
        PlanError, match=r"--flops-of Toy__plan:1e-06: a plain_unet of 2 features computes more"
    ) as found:
        planned(MEASURED, preset=SMALL, flops=flops_limit(teacher, 1e-6))
    assert "\n" not in str(found.value)
