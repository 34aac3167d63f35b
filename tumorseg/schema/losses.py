"""What a plan can say of the loss."""

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.extensions import EXTERNAL, External, by_name


class Weighted(Record):
    """One term of the sum."""

    weight: float = Field(default=1.0, ge=0)
    """Factor of the term."""


class DiceLoss(Weighted):
    """Soft Dice of probabilities, as 1 - dsc (Milletari 2016; Isensee 2021)."""

    name: Literal["dice"] = "dice"
    smooth: float = Field(default=1e-5, ge=0)
    """Added to numerator and denominator."""
    batch: bool = False
    """Whether intersections and sums run over the whole batch rather than each sample."""
    include_background: bool = False
    """Whether softmax outputs count the background class too; regions have none."""


class CrossEntropyLoss(Weighted):
    """Softmax cross-entropy, mean over supervised voxels."""

    name: Literal["cross_entropy"] = "cross_entropy"


class BinaryCrossEntropyLoss(Weighted):
    """Sigmoid cross-entropy of regions, mean over supervised voxels and regions."""

    name: Literal["binary_cross_entropy"] = "binary_cross_entropy"


class ExternalLoss(External, Weighted):
    """A loss of another installed package."""


LossComponent = Annotated[
    Annotated[DiceLoss, Tag("dice")]
    | Annotated[CrossEntropyLoss, Tag("cross_entropy")]
    | Annotated[BinaryCrossEntropyLoss, Tag("binary_cross_entropy")]
    | Annotated[ExternalLoss, Tag(EXTERNAL)],
    by_name("loss", "dice", "cross_entropy", "binary_cross_entropy"),
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
