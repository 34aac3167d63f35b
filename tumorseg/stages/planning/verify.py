"""Prove a plan's memory on the device that will train it."""

import logging
import math

import torch

from tumorseg.errors import InputError
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.on_device import Verified, fit_to_device
from tumorseg.planning.memory.rehearsal import setting_of
from tumorseg.planning.memory.totals import plan_setting, predict_memory
from tumorseg.schema.plan import Configuration, Plan, Reason
from tumorseg.schema.quantities import gb_text
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.planning.rehearse import measure_reserved, versions

logger = logging.getLogger(__name__)


def verify(plan: Plan, device: str | None, counter: MemoryCounter) -> Plan:
    """Run two steps and an inference tile of each configuration; bring those that break the budget within it.

    Args:
        plan: as predicted.
        device: such as `cuda:1`; the first GPU if None.
        counter: for predicting again what was changed.

    Returns:
        The plan with what was measured in its budget, and with a reason for each batch or patch that was made smaller.

    Raises:
        InputError: there is no GPU.
        PlanError: no batch and patch of a planned network fit.
        TrainingError: the device failed.
    """
    chosen = verification_device(device)
    found = {name: _verify(plan, name, configuration, chosen) for name, configuration in plan.configurations.items()}
    verified = plan.changed(
        configurations={name: one.configuration for name, one in found.items()},
        reasons=plan.reasons | _reasons(plan, found),
    )
    verified = predict_memory(verified, counter)
    update = {
        "measured_bytes": max(one.measured_bytes for one in found.values()),
        "device": torch.cuda.get_device_name(chosen),
        "versions": versions(),
    }
    return verified.changed(budget=verified.budget.changed(**update))


def verification_device(device: str | None) -> str:
    """Return the device that is asked for, or the first GPU.

    Raises:
        InputError: it is not there.
    """
    chosen = choose_device(device)
    if not chosen.startswith("cuda"):
        raise InputError(
            "--verify: this machine has no CUDA device to verify on; leave it out, and the plan says predicted"
        )
    return chosen


def _verify(plan: Plan, name: str, configuration: Configuration, device: str) -> Verified:
    setting = setting_of(plan_setting(plan), configuration)
    num_gpus = plan.budget.num_gpus

    def measure(tried: Configuration) -> int | None:
        # One GPU takes its own share of the batch, part by part.
        alone = tried.changed(batch_size=math.ceil(tried.batch_size / num_gpus))
        reserved = measure_reserved(alone, setting, device)
        shown = "does not fit the device" if reserved is None else f"reserves {gb_text(reserved)}"
        logger.info("%s: patch %s, batch %d %s", name, list(tried.patch_size), tried.batch_size, shown)
        return reserved

    return fit_to_device(configuration, measure, vram_bytes=plan.budget.vram_bytes, num_gpus=num_gpus)


def _reasons(plan: Plan, found: dict[str, Verified]) -> dict[str, Reason]:
    """Return a reason for each field that the device made smaller."""
    reasons = {}
    for name, one in found.items():
        before = plan.configurations[name]
        for field in ("batch_size", "patch_size"):
            was, now = getattr(before, field), getattr(one.configuration, field)
            if was != now:
                planned = list(was) if isinstance(was, tuple) else was
                reasons[f"configurations.{name}.{field}"] = Reason(
                    source="device",
                    rule="the largest that held the budget when it was measured on the device",
                    inputs={"planned": planned, "measured_bytes": one.measured_bytes},
                    alternative="the planned size, if --vram is raised",
                )
    return reasons
