"""Measures, besides a smaller patch, that keep a plan within a small budget, and their reasons."""

from typing import NamedTuple

from tumorseg.schema.plan import Configuration, Reason

TIGHT = "the budget holds no worthwhile patch otherwise"


class Relief(NamedTuple):
    """Measures, besides a smaller patch, that keep a plan within a budget."""

    activation_checkpointing: bool = False
    gradient_accumulation: int = 1
    keeps_patch: bool = True
    """Whether the patch stays worthwhile."""


def relief_reasons(configuration: Configuration, *, is_smaller: bool) -> dict[str, Reason]:
    """Return the reasons of all that saves memory, by field of the configuration.

    Args:
        configuration: as it was settled.
        is_smaller: whether even so the patch had to become smaller than is worthwhile.
    """
    reasons = {
        "activation_checkpointing": _checkpointing_reason(is_on=configuration.activation_checkpointing),
        "gradient_accumulation": _accumulation_reason(configuration.gradient_accumulation, is_smaller=is_smaller),
    }
    if configuration.inference.accumulate_on == "cpu":
        rule = "tiles are added up in main memory: the sums for all classes do not fit the budget"
        reasons["inference.accumulate_on"] = Reason(rule=rule, alternative="device, with a larger --vram: faster")
    return reasons


def _checkpointing_reason(*, is_on: bool) -> Reason:
    if is_on:
        return Reason(
            rule=f"on: {TIGHT}; stages are recomputed in the backward pass",
            alternative="off, with a larger --vram: no second forward pass of each stage",
        )
    return Reason(
        rule="off: the budget holds without it",
        alternative="on: less memory, at the price of a second forward pass of each stage in every step",
    )


def _accumulation_reason(num_parts: int, *, is_smaller: bool) -> Reason:
    if num_parts == 1:
        return Reason(
            rule="the whole batch at once: it fits the budget",
            alternative="2 parts, of batches with as many patches: about half of the activations, at the price of a "
            "second forward pass of each part",
        )
    too_small = "; and the patch is smaller than is worthwhile, as even that does not hold it" if is_smaller else ""
    return Reason(
        rule=f"the batch in {num_parts} parts: {TIGHT}, even with activations recomputed{too_small}",
        alternative="1, with a larger --vram: no second forward pass of each part",
    )
