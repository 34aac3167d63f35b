"""What networks cost, as tables for a terminal and for pages."""

from collections.abc import Mapping, Sequence

from tumorseg.planning.reading.anatomy import Anatomy
from tumorseg.planning.reading.costs import Costs, Sight
from tumorseg.reports.architecture import count_text
from tumorseg.reports.architecture_flows import times
from tumorseg.reports.explanation import anatomy_rows
from tumorseg.reports.tables import terminal_table
from tumorseg.schema.quantities import bytes_text

HEADINGS = {
    "parameters": "weights",
    "flops": "FLOPs a patch",
    "activations": "activations",
    "memory": "GPU memory",
    "sees": "a voxel sees",
}


def sight_text(sight: Sight) -> str:
    """Return how far a network sees, in a few words."""
    if sight.voxels is None:
        return "–" if sight.whole is None else f"the whole {sight.whole}"
    box = f"{times(sight.voxels)} voxels"
    return box if sight.whole is None else f"{box}, the whole {sight.whole} by pooling"


def costs_rows(costs: Sequence[Costs]) -> list[dict[str, object]]:
    """Return rows of figures; with seconds where those of any were measured."""
    is_timed = any(one.device is not None for one in costs)
    return [_row(one, is_timed=is_timed) for one in costs]


def _row(costs: Costs, *, is_timed: bool) -> dict[str, object]:
    row: dict[str, object] = {
        "network": costs.network,
        "patch": times(costs.patch_size),
        "batch": costs.batch_size,
        HEADINGS["parameters"]: count_text(costs.parameters),
        HEADINGS["flops"]: count_text(costs.flops),
        HEADINGS["activations"]: bytes_text(costs.activations_bytes, form=".3g"),
        HEADINGS["memory"]: bytes_text(costs.memory_bytes, form=".3g"),
        HEADINGS["sees"]: sight_text(costs.sight),
    }
    if is_timed:
        for name, seconds in (("step", costs.step_s), ("tile", costs.tile_s)):
            row[name] = None if seconds is None else f"{seconds:.3g} s"
    return row


def measured_text(costs: Sequence[Costs]) -> str:
    """Return what the figures of a table mean."""
    lines = [
        "FLOPs: forward, one patch, a multiplication and an addition are two; activations: kept by a step's forward pass;"
    ]
    lines.append("GPU memory: of training and inference, with CUDA's context and a margin.")
    if devices := sorted({one.device for one in costs if one.device is not None}):
        lines.append(
            f"Seconds of a training step and of a tile were measured on noise, on {', '.join(devices)} of this machine."
        )
    return "\n".join(lines)


def compared_text(costs: Sequence[Costs], refused: Mapping[str, str], divisors: Mapping[str, tuple[int, ...]]) -> str:
    """Return networks side by side, why some are on another patch than was asked for, and why others are not there."""
    lines = [terminal_table(costs_rows(costs))]
    lines += _moved(costs, divisors)
    lines += [f"{name}: {why}" for name, why in refused.items()]
    return "\n\n".join(["\n".join(lines), measured_text(costs)])


def _moved(costs: Sequence[Costs], divisors: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return a line for each patch that was not asked for."""
    names: dict[str, list[str]] = {}
    for one in costs:
        if (edges := divisors.get(one.network)) is not None:
            reason = f"counted on {times(one.patch_size)}, as edges of a patch must be multiples of {times(edges)}"
            names.setdefault(reason, []).append(one.network)
    return [f"{', '.join(those)}: {reason}" for reason, those in names.items()]


def described_text(configuration: str, costs: Costs, anatomy: Anatomy | None) -> str:
    """Return a network of a plan: its figures, and the table of its stages where they are known."""
    parts = [configuration, terminal_table(costs_rows([costs]))]
    if anatomy is not None:
        parts.append(terminal_table(anatomy_rows(anatomy)))
    return "\n\n".join(parts)
