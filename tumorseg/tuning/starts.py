"""Published settings that a study tries right after the plan's own values."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.planning.deciding_fields import DECIDING
from tumorseg.schema.plan import Plan
from tumorseg.schema.tuning import AnyParameter, Space, Start
from tumorseg.tuning.changes import document_of, places_in
from tumorseg.tuning.conditions import completed, fits
from tumorseg.tuning.spaces import own_values


class Published(NamedTuple):
    """Settings as they were published, as far as fields of a configuration can say them."""

    title: str
    source: str
    values: Mapping[str, tuple[JsonValue, ...]]
    """By field: the value, and what says the same or nearly so where a space does not hold it."""


DICE_CE: tuple[JsonValue, ...] = ("dice_ce", "nnunet")
"""Names of one loss."""
PUBLISHED = (
    Published(
        title="Auto-nnU-Net's best for MSD Hippocampus",
        source="Becktepe et al., Auto-nnU-Net, 2025 (arXiv 2505.16561): AdamW, a constant learning rate of 0.0106, Dice alone, 80 % "
        "of patches on foreground; here with little cross-entropy, and in a space without constant rates with one that falls at the very end",
        values={
            "optimizer.name": ("adamw",),
            "optimizer.lr": (0.0106,),
            "optimizer.weight_decay": (0.01,),
            "optimizer.betas.0": (0.9,),
            "optimizer.betas.1": (0.999,),
            # In a space without it, one that falls at the very end.
            "schedule.name": ("constant", "poly"),
            "schedule.exponent": (0.1,),
            "loss.preset": DICE_CE,
            "loss.components.cross_entropy.weight": (0.25,),
            "loss.components.binary_cross_entropy.weight": (0.25,),
            "sampling.foreground_fraction": (0.8,),
        },
    ),
    Published(
        title="MedNeXt's optimizer",
        source="Roy et al., MedNeXt, MICCAI 2023, and its code: AdamW, learning rate 0.001, nnU-Net's decay and loss",
        values={
            "optimizer.name": ("adamw",),
            "optimizer.lr": (0.001,),
            "optimizer.weight_decay": (3e-5,),
            "optimizer.betas.0": (0.9,),
            "optimizer.betas.1": (0.999,),
            "schedule.name": ("poly",),
            "schedule.exponent": (0.9,),
            "loss.preset": DICE_CE,
        },
    ),
    Published(
        title="nnU-Net's own training",
        source="Isensee et al., Nature Methods 2021; nnUNetTrainer of nnunetv2 2.8.1",
        values={
            "optimizer.name": ("sgd",),
            "optimizer.lr": (0.01,),
            "optimizer.weight_decay": (3e-5,),
            "optimizer.momentum": (0.99,),
            "schedule.name": ("poly",),
            "schedule.exponent": (0.9,),
            "loss.preset": DICE_CE,
            "loss.components.cross_entropy.weight": (1.0,),
            "loss.components.binary_cross_entropy.weight": (1.0,),
            "augmentation.preset": ("nnunet",),
            "augmentation.strength": (1.0,),
            "sampling.foreground_fraction": (0.33,),
        },
    ),
)
"""In the order in which they are tried."""


def with_starts(space: Space, plan: Plan, configuration: str) -> Space:
    """Return a resolved space with the published settings that it can say; a user's own starts are left alone.

    Of a published setting the fields of the space count, unless one that the space does not hold decides what they mean, such
    as the optimizer about the learning rate. What equals the plan's own values, or another start, is left out.

    Args:
        space: resolved.
        plan: that is refined.
        configuration: its name.
    """
    if space.starts:
        return space
    own = own_values(space, plan, configuration)
    found: list[Start] = []
    for published in PUBLISHED:
        given = dict(_said(published, space, plan, configuration))
        values = completed(space, given, own)
        if values != own and all(values != start.values for start in found):
            found.append(Start(title=published.title, source=published.source, values=values))
    return space.changed(starts=tuple(found))


def _said(published: Published, space: Space, plan: Plan, configuration: str) -> Iterator[tuple[str, JsonValue]]:
    """Yield the fields of published settings that a space holds, with the first of their values that it can be."""
    by_field = {parameter.field: parameter for parameter in space.parameters}
    others = tuple(_undecided(published, by_field, plan, configuration))
    for field, values in published.values.items():
        if field in by_field and not field.startswith(others):
            said = [value for value in values if fits(by_field[field], value)]
            if said:
                yield field, said[0]


def _undecided(
    published: Published, by_field: Mapping[str, AnyParameter], plan: Plan, configuration: str
) -> Iterator[str]:
    """Yield the beginnings of fields whose meaning a value decides that the space cannot be."""
    document = document_of(plan)
    for field, values in published.values.items():
        whole, _, key = field.rpartition(".")
        if key not in DECIDING:
            continue
        if field in by_field:
            is_said = any(fits(by_field[field], value) for value in values)
        else:
            is_said = places_in(document, configuration, field)[-1].value in values
        if not is_said:
            yield f"{whole}."
