import logging

import pytest

from tests.planning.measured import fingerprint, planned
from tumorseg.engine.ranks import ALONE
from tumorseg.schema.training import Precisions
from tumorseg.stages.training.precision import FIELD, as_computed, tell_emulation


@pytest.fixture
def plan():
    made = planned(fingerprint())
    return made.changed(training=made.training.changed(precision=Precisions(cpu="bf16")))


def with_bf16(monkeypatch, *, has_it):
    monkeypatch.setattr("tumorseg.stages.training.precision.has_bf16", lambda: has_it)


def test_bf16_on_a_processor_without_it_begins_in_fp32_told_in_a_line_and_noted(plan, monkeypatch, caplog):
    with_bf16(monkeypatch, has_it=False)
    taken = as_computed(plan, "cpu", ALONE)
    assert taken.training.precision == Precisions(cpu="fp32")
    assert (taken.reasons[FIELD].source, taken.reasons[FIELD].rule[:5]) == ("device", "fp32:")
    (record,) = caplog.records
    assert record.getMessage().endswith("the training runs in fp32")
    assert taken.configurations == plan.configurations


@pytest.mark.parametrize(
    ("device", "has_it", "cpu"), [("cpu", True, "bf16"), ("cuda", False, "bf16"), ("cpu", False, "fp32")]
)
def test_otherwise_the_plan_stays_as_it_is(plan, monkeypatch, caplog, device, has_it, cpu):
    with_bf16(monkeypatch, has_it=has_it)
    asked = plan.changed(training=plan.training.changed(precision=Precisions(cpu=cpu)))
    assert as_computed(asked, device, ALONE) is asked
    assert not caplog.records


def test_a_training_that_began_in_bf16_goes_on_in_it_and_says_that_this_is_slow(plan, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    with_bf16(monkeypatch, has_it=True)
    tell_emulation(plan, "cpu", ALONE)
    assert not caplog.records
    with_bf16(monkeypatch, has_it=False)
    tell_emulation(plan, "cpu", ALONE)
    assert "goes on in bf16, in which it began" in caplog.text
