"""What a plan can say of the loss."""

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.extensions import EXTERNAL, External, by_name


class Weighted(Record):
    """One term of the sum."""

    weight: float = Field(default=1.0, ge=0)
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


class TverskyLoss(OverlapLoss):
    """Soft Dice with false positives and false negatives weighed apart (Salehi 2017), or focal (Abraham 2019)."""

    name: Literal["tversky"] = "tversky"
    alpha: float = Field(default=0.3, ge=0)
    """Weight of false positives; with beta, 0.5 each is Dice."""
    beta: float = Field(default=0.7, ge=0)
    """Weight of false negatives: above alpha, a miss costs more than a false alarm."""
    gamma: float = Field(default=1.0, gt=0)
    """Power of 1 minus the index, taken of each class: below 1, classes that are nearly right keep a steep slope."""

    @model_validator(mode="after")
    def _check(self) -> "TverskyLoss":
        if self.alpha + self.beta <= 0:
            raise ValueError("alpha and beta of tversky are both 0; one of them must be above 0")
        return self


class CrossEntropyLoss(Weighted):
    """Softmax cross-entropy, mean over supervised voxels."""

    name: Literal["cross_entropy"] = "cross_entropy"


class BinaryCrossEntropyLoss(Weighted):
    """Sigmoid cross-entropy of regions, mean over supervised voxels and regions."""

    name: Literal["binary_cross_entropy"] = "binary_cross_entropy"


class FocalLoss(Weighted):
    """Cross-entropy times (1 - p)^gamma, p being the probability of what is right (Lin 2017)."""

    name: Literal["focal"] = "focal"
    gamma: float = Field(default=2.0, ge=0)
    """How much less voxels count that are right already; 0 is the cross-entropy."""
    alpha: float | None = Field(default=None, ge=0, le=1)
    """Weight of foreground voxels, those of background weighing 1 - alpha; null weighs both 1."""


class ExternalLoss(External, Weighted):
    """A loss of another installed package."""


LossComponent = Annotated[
    Annotated[DiceLoss, Tag("dice")]
    | Annotated[CrossEntropyLoss, Tag("cross_entropy")]
    | Annotated[BinaryCrossEntropyLoss, Tag("binary_cross_entropy")]
    | Annotated[TverskyLoss, Tag("tversky")]
    | Annotated[FocalLoss, Tag("focal")]
    | Annotated[ExternalLoss, Tag(EXTERNAL)],
    by_name("loss", "dice", "cross_entropy", "binary_cross_entropy", "tversky", "focal"),
]


class LossSpec(Record):
    """A weighted sum of losses, applied at every resolution that is supervised."""

    preset: str
    """Preset that the components came from; they are what counts."""
    components: tuple[LossComponent, ...] = Field(min_length=1)
    """Terms of the sum."""
    deep_supervision_weights: tuple[float, ...] = (1.0,)
    """Weight of each output, from full resolution down; normalised to sum 1. Only (1) without deep supervision."""

    @model_validator(mode="after")
    def _check(self) -> "LossSpec":
        if sum(component.weight for component in self.components) <= 0:
            raise ValueError("the weights of the loss components sum to 0")
        if not self.deep_supervision_weights or self.deep_supervision_weights[0] <= 0:
            raise ValueError("deep_supervision_weights needs a positive weight for the full resolution")
        if min(self.deep_supervision_weights) < 0:
            raise ValueError("deep_supervision_weights must not be negative")
        return self
