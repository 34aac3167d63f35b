"""Losses in a plan."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.class_weights import ClassWeights
from tumorseg.schema.extensions import ByName, External, records_of
from tumorseg.schema.loss_facts import SUMS, VOXELS, Facts
from tumorseg.schema.numbers import (
    Exponent,
    NotNegative,
    Portion,
    Positive,
    Share,
    Smoothing,
    breakpoints,
    number_at,
    number_values,
)
from tumorseg.schema.weighting import FixedWeighting, LossWeighting


class Weighted(Record):
    """One term of the sum."""

    facts: ClassVar[Facts]
    """Those of a loss of this package."""
    targets: ClassVar[Literal["labels or regions", "labels", "regions"]] = "labels or regions"
    """What it can be computed on: exclusive classes, regions, or both."""
    instead: ClassVar[str] = ""
    """What to do about other targets."""
    weight: NotNegative = 1.0
    """Factor of the term."""


class OverlapLoss(Weighted):
    """A term made of intersections and sums of probabilities."""

    smooth: float = Field(default=1e-5, ge=0)
    """Added to numerator and denominator."""
    batch: bool = False
    """Whether intersections and sums run over the whole batch rather than each sample."""
    include_background: bool = False
    """Whether softmax outputs count the background class too; regions have none."""


class DiceLoss(OverlapLoss):
    """Soft Dice of probabilities, as 1 - dsc (Milletari 2016; Isensee 2021)."""

    name: Literal["dice"] = "dice"
    facts: ClassVar = Facts("1 - mean_c (2 Σpg + s) / (Σp + Σg + s)", "0 to 1", "Milletari 2016; Drozdzal 2016", SUMS)
    denominator: Literal["linear", "squared"] = "linear"
    """Whether probabilities are added up as they are (Drozdzal 2016) or squared (Milletari 2016)."""


class GeneralizedDiceLoss(OverlapLoss):
    """One Dice over all classes, each weighted by its size in the reference (Sudre 2017)."""

    name: Literal["generalized_dice"] = "generalized_dice"
    facts: ClassVar = Facts("1 - 2 Σ_c w_c Σpg / Σ_c w_c (Σp + Σg), w_c = 1 / (Σg)²", "0 to 1", "Sudre 2017", SUMS)
    include_background: bool = True
    """Whether softmax outputs count the background class too; regions have none."""
    class_weighting: Literal["square", "simple", "uniform"] = "square"
    """Each class by the inverse of its squared number of voxels, of its number, or alike."""


class JaccardLoss(OverlapLoss):
    """Soft Jaccard index (intersection over union) of probabilities, as 1 - index (Rahman 2016)."""

    name: Literal["jaccard"] = "jaccard"
    facts: ClassVar = Facts("1 - mean_c (Σpg + s) / (Σp + Σg - Σpg + s)", "0 to 1", "Rahman 2016", SUMS)
    denominator: Literal["linear", "squared"] = "linear"
    """Whether probabilities are added up as they are or squared."""


class TverskyLoss(OverlapLoss):
    """Soft Dice with false positives and false negatives weighted apart (Salehi 2017), or focal (Abraham 2019)."""

    name: Literal["tversky"] = "tversky"
    facts: ClassVar = Facts(
        "mean_c (1 - Σpg / (Σpg + α Σp(1-g) + β Σ(1-p)g))^γ", "0 to 1", "Salehi 2017; focal: Abraham 2019", SUMS
    )
    alpha: NotNegative = 0.3
    """Weight of false positives; with beta, 0.5 each is Dice."""
    beta: NotNegative = 0.7
    """Weight of false negatives: above alpha, a miss costs more than a false alarm."""
    gamma: Positive = 1.0
    """Power of 1 minus the index, taken of each class: below 1, classes that are nearly right keep a steep slope."""

    @model_validator(mode="after")
    def _check(self) -> "TverskyLoss":
        # Neither is ever negative, and a schedule that is 0 between two breakpoints is 0 at one of them.
        for moment in breakpoints(self.alpha, self.beta):
            if number_at(self.alpha, moment) + number_at(self.beta, moment) <= 0:
                raise ValueError("alpha and beta of tversky are both 0; one of them must be above 0")
        return self


class UnifiedFocalLoss(Weighted):
    """Focal cross-entropy that spares the foreground, and focal Tversky that spares the background (Yeung 2022)."""

    name: Literal["unified_focal"] = "unified_focal"
    facts: ClassVar = Facts(
        "λ (focal CE that spares foreground) + (1-λ) (focal Tversky that spares background)",
        "from 0",
        "Yeung 2022",
        VOXELS,
    )
    balance: Portion = 0.5
    """Share of the cross-entropy; the rest is Tversky's."""
    delta: Portion = 0.7
    """Weight of foreground against background, and of misses against false alarms."""
    gamma: Smoothing = 0.5
    """How much less easy background counts, and how much more foreground that is nearly right."""


class EntropyLoss(Weighted):
    """A cross-entropy over all supervised voxels."""

    class_weights: ClassWeights | None = None
    """Weight of each class or region; null weighs all alike."""
    label_smoothing: Smoothing = 0.0
    """Share of each voxel's label that is spread over all classes (Szegedy 2016); of regions, over both answers."""


class CrossEntropyLoss(EntropyLoss):
    """Softmax cross-entropy, mean over supervised voxels."""

    name: Literal["cross_entropy"] = "cross_entropy"
    facts: ClassVar = Facts("mean -log p of the voxel's own class", "from 0", "textbook; smoothing: Szegedy 2016", SUMS)
    targets: ClassVar = "labels"
    instead: ClassVar = "use binary_cross_entropy"


class BinaryCrossEntropyLoss(EntropyLoss):
    """Sigmoid cross-entropy of regions, mean over supervised voxels and regions."""

    name: Literal["binary_cross_entropy"] = "binary_cross_entropy"
    facts: ClassVar = Facts("mean -g log p - (1-g) log(1-p)", "from 0", "textbook", SUMS)
    targets: ClassVar = "regions"
    instead: ClassVar = "use cross_entropy"


class FocalLoss(Weighted):
    """Cross-entropy times (1 - p)^gamma, p being the probability of what is right (Lin 2017)."""

    name: Literal["focal"] = "focal"
    facts: ClassVar = Facts("mean -(1-p)^γ log p", "from 0", "Lin 2017", VOXELS)
    gamma: NotNegative = 2.0
    """How much less voxels count that are right already; 0 is the cross-entropy."""
    alpha: Annotated[float, Field(ge=0, le=1)] | tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Weight of foreground voxels, those of background weighing 1 - alpha; or of each output; null weighs all 1."""

    @model_validator(mode="after")
    def _check(self) -> "FocalLoss":
        if isinstance(self.alpha, tuple) and sum(self.alpha) <= 0:
            raise ValueError("an alpha of focal that is 0 for every output leaves nothing to learn")
        return self


class TopKLoss(Weighted):
    """Mean cross-entropy of the voxels that are worst (Wu 2016; nnU-Net's TopK10 is k = 0.1)."""

    name: Literal["topk"] = "topk"
    facts: ClassVar = Facts(
        "mean of the worst share k of -log p", "from 0", "Wu 2016; nnU-Net", f"{VOXELS}, and a selection"
    )
    k: Share = 0.1
    """Share of the batch's supervised voxels that count; of regions, of voxels and regions."""


class HardExampleLoss(Weighted):
    """Mean cross-entropy of all foreground and of the background voxels that are worst (Shrivastava 2016)."""

    name: Literal["ohem"] = "ohem"
    facts: ClassVar = Facts(
        "mean -log p of foreground and of the worst share k of background",
        "from 0",
        "Shrivastava 2016",
        f"{VOXELS}, and a selection",
    )
    k: Share = 0.1
    """Share of the batch's supervised background voxels that count."""


class NeighbourLoss(Weighted):
    """Keeps logits near the share of each class among a voxel's neighbours: calibrated borders (NACL, Murugesan 2023)."""

    name: Literal["nacl"] = "nacl"
    facts: ClassVar = Facts(
        "mean |share of class among neighbours - logit|", "from 0", "Murugesan 2023", "whole logits twice"
    )
    targets: ClassVar = "labels"
    instead: ClassVar = "use binary_cross_entropy with label_smoothing"
    weight: NotNegative = 0.1
    """Factor of the term, beside a cross-entropy."""
    kernel_size: Literal[3, 5, 7] = 3
    """Voxels along each edge of the neighbourhood."""
    distance: Literal["l1", "l2"] = "l1"
    """Whether differences are taken as they are or squared."""


class DistanceLoss(Weighted):
    """A term made of distances from surfaces."""

    max_distance_mm: float | None = Field(default=20.0, gt=0)
    """Distances are cut off here; null for none."""


class BoundaryLoss(DistanceLoss):
    """Error times the signed distance from the reference's surface (Kervadec 2019)."""

    name: Literal["boundary"] = "boundary"
    facts: ClassVar = Facts(
        "mean (p-g) φ, φ the signed distance in mm", "from 0, mm", "Kervadec 2019", "distance maps of the reference"
    )
    distance_maps: Literal["device", "loader"] = "device"
    """Whether distances are measured after augmentation where the batch is, or before it while batches are read."""


class HausdorffLoss(DistanceLoss):
    """Squared error times powers of the distances from the surfaces of reference and prediction (Karimi 2019)."""

    name: Literal["hausdorff"] = "hausdorff"
    facts: ClassVar = Facts(
        "mean (p-g)² (|φ_p|^α + |φ_g|^α)",
        "from 0, mm^α",
        "Karimi 2019",
        "probabilities; distance maps of both, each step",
    )
    alpha: Exponent = 2.0
    """Power of the distances."""


class SurfaceDiceLoss(Weighted):
    """Soft surface Dice: border voxels that lie within a tolerance of the other's border (after Bokhovkin 2019)."""

    name: Literal["surface_dice"] = "surface_dice"
    facts: ClassVar = Facts(
        "1 - (Σ b_p near(b_g) + Σ b_g near(b_p)) / (Σ b_p + Σ b_g), b borders",
        "0 to 1",
        "after Bokhovkin 2019, Nikolov 2021",
        "probabilities and their pools",
    )
    tolerance_mm: float = Field(default=2.0, ge=0)
    """How far borders may lie apart; rounded to whole voxels along each axis."""
    smooth: float = Field(default=1e-5, ge=0)
    """Added to numerator and denominator."""


class ExternalLoss(External, Weighted):
    """A loss of another installed package; where weights follow the losses, its values must not be negative."""


LossComponent = Annotated[
    DiceLoss
    | GeneralizedDiceLoss
    | JaccardLoss
    | TverskyLoss
    | UnifiedFocalLoss
    | CrossEntropyLoss
    | BinaryCrossEntropyLoss
    | FocalLoss
    | TopKLoss
    | HardExampleLoss
    | NeighbourLoss
    | BoundaryLoss
    | HausdorffLoss
    | SurfaceDiceLoss
    | ExternalLoss,
    ByName("loss"),
]
COMPONENTS: dict[str, type[Weighted]] = records_of(LossComponent)
"""By name."""


class LossPreset(Record):
    """A sum of losses under a name, before it is fitted to a dataset."""

    name: str = Field(min_length=1)
    """What `loss.preset` calls it."""
    when: str = ""
    """When to use it, in one sentence."""
    source: str = ""
    """Where it comes from."""
    components: tuple[LossComponent, ...] = Field(min_length=1)
    """Terms for exclusive classes; regions turn cross-entropy into its binary form, and the planner decides on batch Dice."""
    weighting: LossWeighting = FixedWeighting()
    """How the terms' weights change beside their schedules."""

    @model_validator(mode="after")
    def _check(self) -> "LossPreset":
        # Made for its checks alone: an unsound preset should fail when it is read, not when it is used.
        LossSpec(preset=self.name, components=self.components, weighting=self.weighting)
        return self


class LossSpec(Record):
    """A weighted sum of losses, applied at every resolution that is supervised."""

    preset: str
    """Preset that the components came from; they are what counts."""
    components: tuple[LossComponent, ...] = Field(min_length=1)
    """Terms of the sum."""
    weighting: LossWeighting = FixedWeighting()
    """How the terms' weights change beside their schedules."""
    deep_supervision_weights: tuple[float, ...] = (1.0,)
    """Weight of each output, from full resolution down; normalised to sum 1. Only (1) without deep supervision."""

    @model_validator(mode="after")
    def _check(self) -> "LossSpec":
        weights = [component.weight for component in self.components]
        for moment in breakpoints(*weights):
            if sum(number_at(weight, moment) for weight in weights) <= 0:
                raise ValueError(f"the weights of the loss components sum to 0 after {moment:.0%} of the training")
        maps = {(one.max_distance_mm, one.distance_maps) for one in self._boundaries()}
        if len(maps) > 1:
            raise ValueError(
                "all boundary components share one distance map: give them one max_distance_mm and distance_maps"
            )
        # Only the full resolution is predicted with; without a weight it would stay untrained.
        if not self.deep_supervision_weights or self.deep_supervision_weights[0] <= 0:
            raise ValueError("deep_supervision_weights needs a positive weight for the full resolution")
        if min(self.deep_supervision_weights) < 0:
            raise ValueError("deep_supervision_weights must not be negative")
        return self

    def misfits(self, *, has_regions: bool) -> Iterator[str]:
        """Yield which components cannot be computed on a dataset's targets, and what to use instead."""
        wrong, what = ("labels", "regions") if has_regions else ("regions", "no regions")
        for component in self.components:
            if component.targets == wrong:
                yield f"{component.name}, but the dataset has {what}; {component.instead}"

    @property
    def reads_distances(self) -> bool:
        """Whether the loader is to measure distance maps."""
        return any(one.distance_maps == "loader" for one in self._boundaries())

    def _boundaries(self) -> list[BoundaryLoss]:
        return [one for one in self.components if isinstance(one, BoundaryLoss) and is_ever_used(one)]


def is_ever_used(component: Weighted) -> bool:
    """Return whether a component has a weight at some time."""
    return max(number_values(component.weight)) > 0
