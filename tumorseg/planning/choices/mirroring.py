"""Mirroring: no axis where a preset does without, not left and right where labels tell these apart."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.planning.decided import Decided
from tumorseg.planning.evidence.laterality import sided_pairs
from tumorseg.planning.presets import Preset
from tumorseg.schema.plan import Reason
from tumorseg.schema.planned_dataset import MirroredLabels, PlannedDataset

FIELD = "inference.mirroring_axes"
FEWER = "fewer (none with --no-mirroring): each axis left out halves the time of prediction, at some accuracy"
MORE = "some: each axis doubles the time of prediction, and pays only in trainings of full length"


class _Sides(NamedTuple):
    """Separation of left and right, with its rule."""

    are_kept: bool
    rule: str


def choose_mirroring(dataset: PlannedDataset, preset: Preset) -> Decided[bool]:
    """Return whether left and right must not be mirrored, with the reason for the axes that are.

    Args:
        dataset: with the labels that mirror each other in the images.
        preset: whether it mirrors at all, and whether it heeds the images.
    """
    pairs, mirrored = sided_pairs(dataset), dataset.mirrored_labels
    sides = _judge_sides(pairs, mirrored, preset)
    inputs: dict[str, JsonValue] = {"pairs": [list(pair) for pair in pairs]}
    if mirrored:
        inputs["mirrored_in_images"] = [found.model_dump(mode="json") for found in mirrored]
    if preset.mirroring:
        reason = Reason(rule=sides.rule, inputs=inputs, alternative=FEWER)
    else:
        rule = f"none: trainings of preset {preset.name} are too short to learn what mirrored anatomy looks like"
        reason = Reason(source="preset", rule=rule, inputs=inputs, alternative=MORE)
    return Decided(sides.are_kept, {FIELD: reason})


def _judge_sides(pairs: Sequence[tuple[str, str]], mirrored: Sequence[MirroredLabels], preset: Preset) -> _Sides:
    if pairs:
        return _Sides(True, "not across left and right, which labels tell apart")
    if not mirrored:
        return _Sides(False, "all axes: no label depends on its side")
    first = mirrored[0]
    seen = f"{first.left} and {first.right} mirror each other in {first.num_mirrored} of {first.num_cases} cases"
    if preset.as_published:
        return _Sides(False, f"all axes, as of preset {preset.name}, although {seen}")
    return _Sides(
        True, f"not across left and right, which labels tell apart in the images: {seen}, on sides of their own"
    )
