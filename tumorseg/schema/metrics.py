"""The metrics document: scores of every case and label, and what they come to."""

from typing import Annotated, Literal

from pydantic import Field

from tumorseg.schema.base import Record
from tumorseg.schema.dataset import Name

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]

Missing = Literal["refuse", "worst", "skip"]
"""What becomes of references whose prediction is missing or damaged: left out and refused, scored as an empty mask, left out."""


class CaseMetrics(Record):
    """Scores of one label or region of one case."""

    case_id: Name
    label: str
    """Name of a label or region."""
    dsc: Share | None
    """Dice similarity coefficient; null where the structure is in neither segmentation."""
    nsd: Share | None
    """Normalised surface distance at the report's tolerance; null where the structure is in neither segmentation."""
    hd95_mm: Amount | None
    """95th percentile of the Hausdorff distance; null where the structure is missing from either segmentation."""
    volume_error_ml: float
    """Prediction minus reference."""
    prediction_volume_ml: Amount
    """Volume in the prediction."""
    reference_volume_ml: Amount
    """Volume in the reference."""

    @property
    def is_undefined(self) -> bool:
        """Whether the structure is in neither segmentation."""
        return self.dsc is None

    @property
    def is_missed(self) -> bool:
        """Whether the structure is in the reference alone."""
        return self.reference_volume_ml > 0 and self.prediction_volume_ml == 0

    @property
    def is_invented(self) -> bool:
        """Whether the structure is in the prediction alone."""
        return self.prediction_volume_ml > 0 and self.reference_volume_ml == 0


class MetricSummary(Record):
    """One metric of one label over the cases where it is defined."""

    mean: float | None
    """null where no case defines it."""
    std: Amount | None
    """Sample standard deviation; null for fewer than two cases."""
    ci95: tuple[float, float] | None
    """95 % confidence interval of the mean; null for fewer than two cases."""


class LabelSummary(Record):
    """One label or region over all cases."""

    dsc: MetricSummary
    nsd: MetricSummary
    hd95_mm: MetricSummary
    volume_error_ml: MetricSummary
    num_undefined: int = Field(ge=0)
    """Cases where the structure is in neither segmentation."""
    num_missed: int = Field(ge=0)
    """Cases where the structure is in the reference alone."""
    num_invented: int = Field(ge=0)
    """Cases where the structure is in the prediction alone."""


class MetricsReport(Record):
    """The metrics document."""

    definitions: dict[str, str]
    """What each figure means, the empty-mask policy included."""
    tolerance_mm: float = Field(ge=0)
    """Tolerance of the normalised surface distance."""
    cases: tuple[CaseMetrics, ...]
    """One per case and label or region."""
    summary: dict[str, LabelSummary]
    """By name of the label or region."""
    failed: tuple[str, ...] = ()
    """Cases whose prediction or reference is damaged."""
    missing: tuple[str, ...] = ()
    """Cases that have a reference and no prediction."""
    is_complete: bool = True
    """Whether the summary covers every case; false where one that is missing or failed is in no figure."""

    def unscored(self) -> tuple[str, ...]:
        """Return the cases that are in no figure, sorted."""
        # With `worst` a case that is missing, or failed, is scored all the same.
        scored = {case.case_id for case in self.cases}
        return tuple(sorted({*self.failed, *self.missing} - scored))
