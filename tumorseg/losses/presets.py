"""Named sums of losses, as data: the planner writes them out in full, without torch."""

from collections.abc import Mapping

from tumorseg.errors import PlanError
from tumorseg.schema.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, DiceLoss, LossComponent, LossSpec

LOSS_PRESETS: Mapping[str, Mapping[str, float]] = {
    "dice_ce": {"dice": 1.0, "cross_entropy": 1.0},
    "nnunet": {"dice": 1.0, "cross_entropy": 1.0},
}
"""Weight of each kind of loss. Regions turn cross-entropy into its binary form. `nnunet` stays nnU-Net's whatever
becomes of `dice_ce`."""


def loss_preset(
    name: str, *, has_regions: bool, batch_dice: bool, deep_supervision_weights: tuple[float, ...]
) -> LossSpec:
    """Return a preset with every component and parameter written out.

    Args:
        name: one of `LOSS_PRESETS`.
        has_regions: whether outputs are sigmoids of regions rather than a softmax of classes.
        batch_dice: whether Dice runs over the whole batch.
        deep_supervision_weights: weight of each output, from full resolution down.

    Raises:
        PlanError: there is no such preset.
    """
    if name not in LOSS_PRESETS:
        raise PlanError(f"there is no loss preset {name!r}; known are {', '.join(LOSS_PRESETS)}")
    components = tuple(
        _component(kind, weight, has_regions=has_regions, batch_dice=batch_dice)
        for kind, weight in LOSS_PRESETS[name].items()
    )
    return LossSpec(preset=name, components=components, deep_supervision_weights=deep_supervision_weights)


def deep_supervision_weights(num_outputs: int) -> tuple[float, ...]:
    """Return nnU-Net's weight of each output, from full resolution down: halved at each, 0 for the coarsest, sum 1.

    Args:
        num_outputs: the network's outputs while training; one fewer than its stages, or 1 without deep supervision.
    """
    if num_outputs == 1:
        return (1.0,)
    raw = [0.5**level for level in range(num_outputs - 1)]
    return (*(weight / sum(raw) for weight in raw), 0.0)


def _component(kind: str, weight: float, *, has_regions: bool, batch_dice: bool) -> LossComponent:
    if kind == "dice":
        return DiceLoss(weight=weight, batch=batch_dice)
    return BinaryCrossEntropyLoss(weight=weight) if has_regions else CrossEntropyLoss(weight=weight)
