"""What makes one answer of several models' answers, and what is done to the mask afterwards."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.metrics import Amount

CombinationMethod = Literal["mean", "vote", "staple"]
"""mean: of probabilities, by weight. vote: each model's own decision counts, by weight; ties go to what is more probable on average.
staple: SimpleITK's estimate of the truth from the models' masks."""
ENSEMBLE_VERSION = 1
"""Of the document's form; raised when its fields change."""

Weight = Annotated[float, Field(ge=0)]
Threshold = Annotated[float, Field(gt=0, lt=1)]


class KeepLargest(Record):
    """Of a label, or of several taken together, only the largest connected part stays."""

    kind: Literal["keep_largest"] = "keep_largest"
    labels: tuple[str, ...] = Field(min_length=1)
    """Names of labels; all voxels of them that are elsewhere become background."""


class RemoveSmall(Record):
    """Connected parts of a label, or of several taken together, that are smaller than a volume become background."""

    kind: Literal["remove_small"] = "remove_small"
    labels: tuple[str, ...] = Field(min_length=1)
    least_mm3: Amount
    """Parts of at least this volume stay."""


class FillHoles(Record):
    """Background that a label encloses on all sides becomes that label."""

    kind: Literal["fill_holes"] = "fill_holes"
    label: str


class ReplaceSmall(Record):
    """All of a label becomes another one where its whole volume is small, as for enhancing tumour in BraTS."""

    kind: Literal["replace_small"] = "replace_small"
    label: str
    by: str
    """Name of a label, or `background`."""
    least_mm3: Amount
    """From this volume on it stays."""


PostprocessingStep = Annotated[KeepLargest | RemoveSmall | FillHoles | ReplaceSmall, Field(discriminator="kind")]


class Combination(Record):
    """How the answers of an ensemble's members become one mask; the defaults change nothing of a single member's."""

    method: CombinationMethod = "mean"
    weights: dict[str, tuple[Weight, ...]] = Field(default_factory=dict)
    """Label or region to a weight for each member; a name that is not there weighs all alike."""
    thresholds: dict[str, Threshold] = Field(default_factory=dict)
    """Region to the probability above which it is painted; 0.5 where it is not there. Labels have none: the likeliest is taken."""
    temperature: float = Field(default=1.0, gt=0)
    """Logits are divided by it before they become the probabilities that are shown; no mask changes."""
    postprocessing: tuple[PostprocessingStep, ...] = ()
    """Done to the mask one after the other."""

    @model_validator(mode="after")
    def _check(self) -> "Combination":
        for name, weights in self.weights.items():
            if not sum(weights) > 0:
                raise ValueError(f"weights of {name}: found {list(weights)}, expected one above 0 at least")
        if len({len(weights) for weights in self.weights.values()}) > 1:
            raise ValueError("weights: expected as many for each label or region")
        return self


class SavedMember(Record):
    """One model of a saved ensemble."""

    folder: str
    """Model folder, relative to the ensemble's: its folds lie in it."""
    plan: str
    """Name of its plan."""
    configuration: str
    folds: tuple[str, ...]
    """Names of its folds that predict."""
    weights: tuple[str, ...]
    """Hash of each of their checkpoints: another one in its place would predict under this name."""

    @model_validator(mode="after")
    def _check(self) -> "SavedMember":
        if len(self.weights) != len(self.folds):
            raise ValueError(f"weights: found {len(self.weights)}, expected {len(self.folds)}, one for each fold")
        return self


class EnsembleDocument(Record):
    """`ensemble.json`: makes a folder a model that `predict` takes."""

    schema_version: Literal[1] = 1
    name: str
    """That reports call it by."""
    members: tuple[SavedMember, ...] = Field(min_length=1)
    combination: Combination = Combination()

    @model_validator(mode="after")
    def _check(self) -> "EnsembleDocument":
        for name, weights in self.combination.weights.items():
            if len(weights) != len(self.members):
                raise ValueError(
                    f"weights of {name}: found {len(weights)}, expected {len(self.members)}, one for each member"
                )
        return self
