"""The network of `--network auto`: a table of rules, from what is known before anything is searched.

Its figures and their sources are in docs/networks.md and docs/decisions/057-choosing-networks.md.
"""

from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.planning.choices.circumstances import Circumstances, why_short
from tumorseg.planning.evidence.independence import FEW_CASES
from tumorseg.schema.plan import Reason

AUTO = "auto"
"""What stands for a name after `--network`."""
PLAIN, RESIDUAL, MEDNEXT = "plain_unet", "residual_unet", "mednext"
"""The networks that are chosen from; no published comparison on equal terms has another one in front."""
SMALL_VOXELS = 64**3
"""A case of so many is seen whole by a small network."""
LONG_HOURS = 70.0
"""These hold a whole training of a MedNeXt on a large GPU."""
MEDNEXT_GB, MEDNEXT_VOXELS = 24.0, 128**3
"""What a MedNeXt L needs for two patches of so many voxels, at most; smaller cases need their share."""
LEAST_GB = 2.0
"""Of that, what its weights, their optimizer and CUDA take whatever the patch."""

FOR_COST = f"--network {RESIDUAL}: the best for what it costs, where trainings are of full length and cases many"


class NetworkChoice(NamedTuple):
    """A network and why it was chosen."""

    name: str
    reason: Reason


class _Verdict(NamedTuple):
    name: str
    why: str
    alternative: str


def choose_network(known: Circumstances) -> NetworkChoice:
    """Return the first network of the table whose rule holds; the last one always does."""
    verdict = _short(known) or _few(known) or _ample(known) or _small(known) or _usual(known)
    inputs: dict[str, JsonValue] = {
        "independent_cases": known.num_cases,
        "num_axes": known.num_axes,
        "case_voxels": round(known.case_voxels),
        "vram_gb": known.vram_gb,
        "mednext_gb": round(_mednext_gb(known), 2),
        "max_hours": known.max_hours,
        "device": "cpu" if known.on_cpu else "cuda",
    }
    rule = f"--network {AUTO}: {verdict.name}, as {verdict.why}"
    return NetworkChoice(verdict.name, Reason(rule=rule, inputs=inputs, alternative=verdict.alternative))


def _short(known: Circumstances) -> _Verdict | None:
    """Plain convolutions learn most from few steps, and take more of them in the same time."""
    if known.on_cpu:
        return _Verdict(PLAIN, "a CPU trains, which takes some thousand steps, most of the cheapest network", FOR_COST)
    why = why_short(known)
    return None if why is None else _Verdict(PLAIN, f"{why}, for which it is best", FOR_COST)


def _few(known: Circumstances) -> _Verdict | None:
    """Larger networks have shown no gain on few cases."""
    if known.num_cases >= FEW_CASES:
        return None
    why = f"under {FEW_CASES} independent cases have not been worth a larger network"
    return _Verdict(PLAIN, why, FOR_COST)


def _ample(known: Circumstances) -> _Verdict | None:
    """Twice the time of a residual U-Net is spent only where the user grants it."""
    has_time = known.max_hours is not None and known.max_hours >= LONG_HOURS
    if known.num_axes == 2 or not has_time or _mednext_gb(known) > known.vram_gb:
        return None
    why = f"at least {LONG_HOURS:g} hours and {_mednext_gb(known):.3g} GB are there for it: in size L level with the others or ahead"
    alternative = f"--network {RESIDUAL}: half the time, 0 to 1.4 DSC less in published comparisons"
    return _Verdict(MEDNEXT, why, alternative)


def _small(known: Circumstances) -> _Verdict | None:
    """Where a patch is the whole image, residual blocks have gained nothing."""
    if known.num_axes == 2 or known.case_voxels > SMALL_VOXELS:
        return None
    why = f"median cases hold at most {SMALL_VOXELS} voxels, of which a residual encoder has learnt no more, in twice the time"
    return _Verdict(PLAIN, why, FOR_COST)


def _usual(known: Circumstances) -> _Verdict:
    why = "it is the best for what it costs"
    if known.num_axes == 2:
        return _Verdict(RESIDUAL, why, f"--network {PLAIN}: two thirds of the operations")
    alternative = (
        f"--network {MEDNEXT}: 0 to 1.4 DSC more in published comparisons, in twice the time; chosen from {LONG_HOURS:g} "
        f"--max-hours and {_mednext_gb(known):.3g} GB on"
    )
    return _Verdict(RESIDUAL, why, alternative)


def _mednext_gb(known: Circumstances) -> float:
    """Return the memory at which a MedNeXt sees as much at once as is usual: 128 x 128 x 128 voxels, or the case."""
    return LEAST_GB + (MEDNEXT_GB - LEAST_GB) * min(1.0, known.case_voxels / MEDNEXT_VOXELS)
