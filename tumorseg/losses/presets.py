"""Named sums of losses, as data: the planner writes them out in full, without torch."""

from collections.abc import Mapping

from tumorseg.errors import PlanError
from tumorseg.schema.losses import (
    BinaryCrossEntropyLoss,
    BoundaryLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    GeneralizedDiceLoss,
    LossComponent,
    LossPreset,
    LossSpec,
    OverlapLoss,
    TopKLoss,
    TverskyLoss,
)
from tumorseg.schema.numbers import LinearSchedule
from tumorseg.schema.weighting import AdaptiveWeighting

LOSS_PRESETS: Mapping[str, LossPreset] = {
    preset.name: preset
    for preset in (
        LossPreset(
            name="dice_ce",
            when="The default: nothing about the targets is out of the ordinary.",
            source="Isensee et al., Nature Methods 2021; the most robust family in Ma et al., Loss odyssey, MedIA 2021",
            components=(DiceLoss(), CrossEntropyLoss()),
        ),
        LossPreset(
            name="dice_focal",
            when="A target fills so little of what a patch shows that easy background outweighs it in the cross-entropy.",
            source="Zhu et al., AnatomyNet, Medical Physics 2019; gamma 2 of Lin et al., ICCV 2017",
            components=(DiceLoss(), FocalLoss(gamma=2.0)),
        ),
        LossPreset(
            name="dice_topk",
            when="Most of a patch is soon learnt and the errors sit in few voxels, such as borders or rare tissue.",
            source="Wu et al., 2016; TopK10 of nnU-Net; with Dice among the best in Ma et al., Loss odyssey, MedIA 2021",
            components=(DiceLoss(), TopKLoss(k=0.1)),
        ),
        LossPreset(
            name="focal_tversky",
            when="Targets are tiny or thin, so that a miss of one voxel costs much and missing costs more than a false alarm.",
            source="Abraham and Khan, ISBI 2019 (exponent 1 / (4/3)); weights 0.3 and 0.7 of Salehi et al., MLMI 2017; "
            "cross-entropy beside it as Ma et al., MedIA 2021 found overlap losses alone less robust",
            components=(TverskyLoss(alpha=0.3, beta=0.7, gamma=0.75), CrossEntropyLoss()),
        ),
        LossPreset(
            name="generalized_dice_focal",
            when="Classes differ in size by orders of magnitude and the small ones matter as much.",
            source="Sudre et al., DLMIA 2017; Lin et al., ICCV 2017; the sum is that of MONAI's GeneralizedDiceFocalLoss",
            components=(GeneralizedDiceLoss(), FocalLoss(gamma=2.0)),
        ),
        LossPreset(
            name="dice_ce_boundary",
            when="Surfaces matter (HD95, NSD) and regions are found already: distances take over from Dice while it falls.",
            source="Kervadec et al., MedIA 2021, whose rebalancing runs over the whole training; here from its first fifth on, to 0.5",
            components=(
                DiceLoss(weight=LinearSchedule(start=1.0, end=0.5, begin=0.2)),
                CrossEntropyLoss(),
                BoundaryLoss(weight=LinearSchedule(start=0.0, end=0.5, begin=0.2)),
            ),
        ),
        LossPreset(
            name="tversky_boundary",
            when="Small targets with surfaces that matter: misses weigh more at first, distances later.",
            source="Salehi et al., MLMI 2017; Kervadec et al., MedIA 2021",
            components=(
                TverskyLoss(alpha=0.3, beta=0.7),
                CrossEntropyLoss(),
                BoundaryLoss(weight=LinearSchedule(start=0.0, end=0.3, begin=0.2)),
            ),
        ),
        LossPreset(
            name="adaptive_combined",
            when="It is not known which of Dice, cross-entropy and focal loss lags behind: their weights follow their progress.",
            source="step by step what Liu et al., CVPR 2019 (dynamic weight average) do by epochs",
            components=(DiceLoss(), CrossEntropyLoss(), FocalLoss(gamma=2.0)),
            weighting=AdaptiveWeighting(),
        ),
        LossPreset(
            name="nnunet",
            when="For comparison: stays nnU-Net's loss whatever becomes of `dice_ce`.",
            source="Isensee et al., Nature Methods 2021",
            components=(DiceLoss(), CrossEntropyLoss()),
        ),
    )
}
"""By name."""


def loss_preset(
    preset: str | LossPreset, *, has_regions: bool, batch_dice: bool, deep_supervision_weights: tuple[float, ...]
) -> LossSpec:
    """Return a preset with every component and parameter written out.

    Args:
        preset: one of `LOSS_PRESETS`, or one of a user's own.
        has_regions: whether outputs are sigmoids of regions rather than a softmax of classes.
        batch_dice: whether Dice, or what takes its place, runs over the whole batch.
        deep_supervision_weights: weight of each output, from full resolution down.

    Raises:
        PlanError: there is no such preset.
    """
    if isinstance(preset, str):
        if preset not in LOSS_PRESETS:
            raise PlanError(f"there is no loss preset {preset!r}; known are {', '.join(LOSS_PRESETS)}")
        preset = LOSS_PRESETS[preset]
    components = tuple(
        _fitted(component, has_regions=has_regions, batch_dice=batch_dice) for component in preset.components
    )
    return LossSpec(
        preset=preset.name,
        components=components,
        weighting=preset.weighting,
        deep_supervision_weights=deep_supervision_weights,
    )


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
    # What a preset states stays.
    if isinstance(component, OverlapLoss) and "batch" not in component.model_fields_set:
        return component.changed(batch=batch_dice)
    if isinstance(component, CrossEntropyLoss) and has_regions:
        fields = {name: getattr(component, name) for name in CrossEntropyLoss.model_fields if name != "name"}
        return BinaryCrossEntropyLoss(**fields)
    return component
