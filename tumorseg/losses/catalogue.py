"""Catalogue of losses, as data: `losses list` and docs/losses.md show it."""

from typing import Any

from pydantic_core import PydanticUndefined

from tumorseg.losses.presets import LOSS_PRESETS
from tumorseg.schema.extensions import kinds_of
from tumorseg.schema.losses import COMPONENTS, LossPreset, Weighted
from tumorseg.schema.numbers import LinearSchedule, number_at


def parameters_of(record: type[Weighted]) -> dict[str, dict[str, Any]]:
    """Return default and meaning of each parameter of a component, and whether it may be a schedule."""
    fields = {name: info for name, info in record.model_fields.items() if name != "name"}
    return {
        name: {
            "default": None if info.default is PydanticUndefined else info.default,
            "meaning": " ".join((info.description or "").split()),
            "may_change": LinearSchedule in kinds_of(info.annotation),
        }
        for name, info in fields.items()
    }


def list_losses() -> list[dict[str, Any]]:
    """Return name, summary, facts, kinds of targets and parameters of each loss that a plan can name."""
    return [
        {
            "name": name,
            "summary": " ".join((record.__doc__ or "").split()),
            **record.facts._asdict(),
            "targets": record.targets,
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
    if start != end:
        return f"{start:g}→{end:g} "
    return "" if start == 1 else f"{start:g} "
