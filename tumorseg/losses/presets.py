"""Named sums of losses, as data: the planner writes them out in full, without torch."""

from collections.abc import Mapping
from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.schema.losses import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LossComponent,
    LossSpec,
    OverlapLoss,
    TverskyLoss,
)


class LossPreset(NamedTuple):
    """A sum of losses under a name."""

    when: str
    """When to use it, in one sentence."""
    source: str
    """Where it comes from."""
    components: tuple[LossComponent, ...]
    """Terms for exclusive classes; regions turn cross-entropy into its binary form."""


LOSS_PRESETS: Mapping[str, LossPreset] = {
    "dice_ce": LossPreset(
        when="The default: nothing about the targets is out of the ordinary.",
        source="Isensee et al., Nature Methods 2021; the most robust family in Ma et al., Loss odyssey, MedIA 2021",
        components=(DiceLoss(), CrossEntropyLoss()),
    ),
    "dice_focal": LossPreset(
        when="A target fills so little of what a patch shows that easy background outweighs it in the cross-entropy.",
        source="Zhu et al., AnatomyNet, Medical Physics 2019; gamma 2 of Lin et al., ICCV 2017",
        components=(DiceLoss(), FocalLoss(gamma=2.0)),
    ),
    "focal_tversky": LossPreset(
        when="Targets are tiny or thin, so that a miss of one voxel costs much and missing costs more than a false alarm.",
        source="Abraham and Khan, ISBI 2019 (exponent 1 / (4/3)); weights 0.3 and 0.7 of Salehi et al., MLMI 2017; "
        "cross-entropy beside it as Ma et al., MedIA 2021 found overlap losses alone less robust",
        components=(TverskyLoss(alpha=0.3, beta=0.7, gamma=0.75), CrossEntropyLoss()),
    ),
    "nnunet": LossPreset(
        when="For comparison: stays nnU-Net's loss whatever becomes of `dice_ce`.",
        source="Isensee et al., Nature Methods 2021",
        components=(DiceLoss(), CrossEntropyLoss()),
    ),
}
"""By name."""


def loss_preset(
    name: str, *, has_regions: bool, batch_dice: bool, deep_supervision_weights: tuple[float, ...]
) -> LossSpec:
    """Return a preset with every component and parameter written out.

    Args:
        name: one of `LOSS_PRESETS`.
        has_regions: whether outputs are sigmoids of regions rather than a softmax of classes.
        batch_dice: whether Dice, or what takes its place, runs over the whole batch.
        deep_supervision_weights: weight of each output, from full resolution down.

    Raises:
        PlanError: there is no such preset.
    """
    if name not in LOSS_PRESETS:
        raise PlanError(f"there is no loss preset {name!r}; known are {', '.join(LOSS_PRESETS)}")
    components = tuple(
        _fitted(component, has_regions=has_regions, batch_dice=batch_dice)
        for component in LOSS_PRESETS[name].components
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


def _fitted(component: LossComponent, *, has_regions: bool, batch_dice: bool) -> LossComponent:
    """Return a component as it suits the outputs and the patches."""
    if isinstance(component, OverlapLoss):
        return component.model_copy(update={"batch": batch_dice})
    if isinstance(component, CrossEntropyLoss) and has_regions:
        return BinaryCrossEntropyLoss(weight=component.weight)
    return component
