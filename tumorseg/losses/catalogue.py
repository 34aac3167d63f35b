"""What there is to know of each loss, as data: `losses list` and docs/losses.md show it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import PydanticUndefined

from tumorseg.losses.presets import LOSS_PRESETS
from tumorseg.schema.losses import COMPONENTS, FOR_CLASSES, FOR_REGIONS, LossPreset, Weighted
from tumorseg.schema.numbers import LinearSchedule, number_at


class Facts(NamedTuple):
    """A loss in a few words."""

    formula: str
    """Of one class or region; p probability, g reference (0 or 1), sums over voxels, c over classes."""
    range: str
    """Of its values."""
    source: str
    """Where it comes from."""
    cost: str
    """What it adds to the one pass over the logits that all share."""


SUMS = "nothing: sums of the shared pass"
VOXELS = "one number a voxel"
FACTS: Mapping[str, Facts] = {
    "dice": Facts("1 - mean_c (2 Σpg + s) / (Σp + Σg + s)", "0 to 1", "Milletari 2016; Drozdzal 2016", SUMS),
    "generalized_dice": Facts("1 - 2 Σ_c w_c Σpg / Σ_c w_c (Σp + Σg), w_c = 1 / (Σg)²", "0 to 1", "Sudre 2017", SUMS),
    "jaccard": Facts("1 - mean_c (Σpg + s) / (Σp + Σg - Σpg + s)", "0 to 1", "Rahman 2016", SUMS),
    "tversky": Facts(
        "mean_c (1 - Σpg / (Σpg + α Σp(1-g) + β Σ(1-p)g))^γ", "0 to 1", "Salehi 2017; focal: Abraham 2019", SUMS
    ),
    "unified_focal": Facts(
        "λ (focal CE that spares foreground) + (1-λ) (focal Tversky that spares background)",
        "from 0",
        "Yeung 2022",
        VOXELS,
    ),
    "cross_entropy": Facts("mean -log p of the voxel's own class", "from 0", "textbook; smoothing: Szegedy 2016", SUMS),
    "binary_cross_entropy": Facts("mean -g log p - (1-g) log(1-p)", "from 0", "textbook", SUMS),
    "focal": Facts("mean -(1-p)^γ log p", "from 0", "Lin 2017", VOXELS),
    "topk": Facts("mean of the worst share k of -log p", "from 0", "Wu 2016; nnU-Net", f"{VOXELS}, and a selection"),
    "ohem": Facts(
        "mean -log p of foreground and of the worst share k of background",
        "from 0",
        "Shrivastava 2016",
        f"{VOXELS}, and a selection",
    ),
    "nacl": Facts("mean |share of class among neighbours - logit|", "from 0", "Murugesan 2023", "whole logits twice"),
    "boundary": Facts(
        "mean (p-g) φ, φ the signed distance in mm", "from 0, mm", "Kervadec 2019", "distance maps of the reference"
    ),
    "hausdorff": Facts(
        "mean (p-g)² (|φ_p|^α + |φ_g|^α)",
        "from 0, mm^α",
        "Karimi 2019",
        "probabilities; distance maps of both, each step",
    ),
    "surface_dice": Facts(
        "1 - (Σ b_p near(b_g) + Σ b_g near(b_p)) / (Σ b_p + Σ b_g), b borders",
        "0 to 1",
        "after Bokhovkin 2019, Nikolov 2021",
        "probabilities and their pools",
    ),
}
"""By name."""


def parameters_of(record: type[Weighted]) -> dict[str, dict[str, Any]]:
    """Return default and meaning of each parameter of a component, and whether it may be a schedule."""
    fields = {name: info for name, info in record.model_fields.items() if name != "name"}
    return {
        name: {
            "default": None if info.default is PydanticUndefined else info.default,
            "meaning": " ".join((info.description or "").split()),
            "may_change": LinearSchedule.__name__ in str(info.annotation),
        }
        for name, info in fields.items()
    }


def list_losses() -> list[dict[str, Any]]:
    """Return name, summary, facts, kinds of targets and parameters of each loss that a plan can name."""
    return [
        {
            "name": name,
            "summary": " ".join((record.__doc__ or "").split()),
            **FACTS[name]._asdict(),
            "targets": "labels" if name in FOR_CLASSES else "regions" if name in FOR_REGIONS else "labels or regions",
            "parameters": parameters_of(record),
        }
        for name, record in COMPONENTS.items()
    ]


def list_presets() -> list[dict[str, Any]]:
    """Return name, sum, use and source of each preset."""
    return [
        {"name": preset.name, "sum": sum_text(preset), "when": preset.when, "source": preset.source}
        for preset in LOSS_PRESETS.values()
    ]


def sum_text(preset: LossPreset) -> str:
    """Return the sum in words, each weight as it begins and ends."""
    terms = " + ".join(f"{_weight_text(component)}{component.name}" for component in preset.components)
    return terms if preset.weighting.name == "fixed" else f"{terms}, weights {preset.weighting.name}"


def _weight_text(component: Weighted) -> str:
    start, end = (number_at(component.weight, moment) for moment in (0.0, 1.0))
    told: Sequence[float] = (start,) if start == end else (start, end)
    return "" if told == (1.0,) else "→".join(f"{weight:g}" for weight in told) + " "
