"""GPU memory that a plan may use, GPUs that share a batch, or the machine whose steps were timed."""

from typing import NamedTuple

from tumorseg.planning.decided import Decided
from tumorseg.planning.presets import Preset
from tumorseg.schema.plan import Budget, Reason
from tumorseg.schema.quantities import GB


class Pace(NamedTuple):
    """This machine, where it is to train."""

    step_s: float
    """Seconds of a training step, timed on it."""
    on_cpu: bool
    """Whether its CPU trains, or its GPU."""
    is_asked: bool
    """Whether the user named the device; otherwise it is the one that is here."""


def choose_vram(preset: Preset, vram_gb: float | None) -> Decided[int]:
    """Return the budget of each GPU in bytes; `vram_gb` is the user's, if any."""
    preset_bytes = _bytes(preset.vram_gb)
    alternative = "--vram with more, where the GPU has it: larger patches, then larger batches, and longer steps"
    if vram_gb is None:
        rule = f"preset {preset.name}: {preset.purpose}"
        reason = Reason(source="preset", rule=rule, alternative=alternative)
        return Decided(preset_bytes, {"budget.vram_bytes": reason})
    reason = Reason(source="user", rule="--vram", inputs={"planned": preset_bytes}, alternative=alternative)
    return Decided(_bytes(vram_gb), {"budget.vram_bytes": reason})


def _bytes(vram_gb: float) -> int:
    # Shares of a budget of none would be divisions by zero; one of a byte is refused as too small for any patch.
    return max(1, round(vram_gb * GB))


def choose_budget(vram: Decided[int], preset: Preset, *, num_gpus: int, pace: Pace | None) -> Decided[Budget]:
    """Return the budget of a plan whose memory is not counted yet.

    Args:
        vram: budget of each GPU in bytes.
        preset: limited to what this machine trains in time, if it is to.
        num_gpus: GPUs among which a batch is divided.
        pace: of this machine; None where nothing was timed.
    """
    reasons = vram.reasons | {"budget.num_gpus": _gpus_reason(num_gpus)}
    if pace is None:
        return Decided(Budget(vram_bytes=vram.value, num_gpus=num_gpus), reasons)
    reasons["budget.step_s"] = Reason(
        source="device",
        rule=f"timed on this machine's {'CPU' if pace.on_cpu else 'GPU'}, with the widest features and the largest patch to begin "
        "with that it trains in time",
        inputs={"base_features": preset.base_features, "initial_edge_3d": preset.initial_edge_3d},
    )
    budget = Budget(vram_bytes=vram.value, num_gpus=num_gpus, step_s=pace.step_s)
    if not pace.on_cpu:
        # Memory is predicted all the same: `budget.device` says where it was measured.
        return Decided(budget, reasons)
    return Decided(budget.changed(device="cpu"), reasons | {"budget.device": _device_reason(is_asked=pace.is_asked)})


def _device_reason(*, is_asked: bool) -> Reason:
    chosen = "width and patch are chosen by steps that were timed on this machine"
    by_memory = "width and patch of the preset, by memory"
    if is_asked:
        return Reason(source="user", rule=f"--device cpu: {chosen}", alternative=f"a GPU (no --device): {by_memory}")
    rule = f"hours are given and this machine has no GPU: {chosen}"
    return Reason(source="device", rule=rule, alternative=f"a GPU elsewhere (--vram GB or --device cuda): {by_memory}")


def _gpus_reason(num_gpus: int) -> Reason:
    if num_gpus == 1:
        return Reason(rule="one, which takes the whole batch", alternative="--num-gpus with more: larger batches")
    alternative = "1: a smaller batch, or more time for the same one"
    return Reason(source="user", rule="--num-gpus", inputs={"planned": 1}, alternative=alternative)
