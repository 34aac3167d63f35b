"""The metrics document: scores of every case and label, and what they come to."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_serializer, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.dataset import LabelName, Name, ShownText
from tumorseg.schema.metric_names import DEFAULT_METRICS, METRICS

Amount = Annotated[float, Field(ge=0)]

IntervalMethod = Literal["percentile", "bca", "studentised"]
"""Bootstraps by which confidence intervals are computed."""
Missing = Literal["refuse", "worst", "skip"]
"""What becomes of references whose prediction is missing or damaged: left out and refused, scored as an empty mask, left out."""


class _Flat(Record):
    """A record with a mapping by metric, whose entries stand beside its other fields in JSON."""

    mapping: ClassVar[str] = ""
    """The field that holds it."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not cls.mapping or cls.mapping in value:
            return value
        own = {name: found for name, found in value.items() if name not in METRICS}
        return own | {cls.mapping: {name: found for name, found in value.items() if name in METRICS}}

    @model_serializer(mode="wrap")
    def _spread(self, handler: Any) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        values: dict[str, Any] = fields.pop(self.mapping, {})
        return fields | values


class CaseMetrics(_Flat):
    """Scores of one label or region of one case."""

    mapping = "scores"
    case_id: Name
    label: LabelName
    """Name of a label or region."""
    prediction_volume_ml: Amount | None
    """Volume in the prediction; null where another program's table does not say it."""
    reference_volume_ml: Amount | None
    """Volume in the reference; likewise."""
    scores: dict[str, float | None]
    """By name of the metric; null where it is undefined. In JSON each stands beside the other fields."""

    @model_validator(mode="after")
    def _check(self) -> "CaseMetrics":
        for name, value in self.scores.items():
            metric = METRICS.get(name)
            if metric is None:
                raise ValueError(f"there is no metric {name!r}")
            if value is None or metric.better == "nearer 0":
                continue
            if value < 0 or (metric.is_share and value > 1):
                raise ValueError(f"{name} is {value:g}; expected {'0 to 1' if metric.is_share else '0 or more'}")
        return self

    @property
    def is_undefined(self) -> bool:
        """Whether the structure is in neither segmentation."""
        return self.reference_volume_ml == 0 and self.prediction_volume_ml == 0

    @property
    def is_missed(self) -> bool:
        """Whether the structure is in the reference alone."""
        return bool(self.reference_volume_ml) and self.prediction_volume_ml == 0

    @property
    def is_invented(self) -> bool:
        """Whether the structure is in the prediction alone."""
        return bool(self.prediction_volume_ml) and self.reference_volume_ml == 0


class MetricSummary(Record):
    """One metric of one label over the cases where it is defined."""

    mean: float | None
    """null where no case defines it."""
    std: Amount | None
    """Sample standard deviation; null for fewer than two cases."""
    ci95: tuple[float, float] | None
    """95 % confidence interval of the mean; null for fewer than two cases, or clusters."""
    num: int = Field(ge=0)
    """Cases that define it."""


class LabelSummary(_Flat):
    """One label or region over all cases."""

    mapping = "metrics"
    metrics: dict[str, MetricSummary]
    """By name of the metric. In JSON each stands beside the counts."""
    num_cases: int = Field(ge=0)
    """Cases that were scored on it, whether a metric is defined or not."""
    num_undefined: int = Field(ge=0)
    """Cases where the structure is in neither segmentation."""
    num_missed: int = Field(ge=0)
    """Cases where the structure is in the reference alone."""
    num_invented: int = Field(ge=0)
    """Cases where the structure is in the prediction alone."""


class Intervals(Record):
    """How the confidence intervals were computed."""

    method: IntervalMethod = "studentised"
    """Of the bootstrap. The studentised one is the only one that holds what it promises for skewed scores (docs/statistics.md)."""
    num_resamples: int = Field(default=2000, ge=100)
    cluster: str | None = None
    """Column of `attributes` whose values are drawn as wholes, such as patients; null for cases."""


class MetricsReport(Record):
    """The metrics document."""

    definitions: dict[str, str]
    """What each figure means, the empty-mask policy included."""
    metrics: tuple[str, ...] = DEFAULT_METRICS
    """What was measured, in the order of tables."""
    tolerance_mm: Amount | None
    """Tolerance of the normalised surface distance, and of the boundary IoU; null where another program's table does not say it."""
    tolerances_mm: dict[str, Amount] = Field(default_factory=dict)
    """Of labels that have another one."""
    intervals: Intervals = Intervals()
    """How `ci95` was computed."""
    cases: tuple[CaseMetrics, ...]
    """One per case and label or region."""
    attributes: dict[str, dict[str, ShownText]] = Field(default_factory=dict)
    """Case to what is known of it: `site`, `group`, any column of a manifest."""
    summary: dict[str, LabelSummary]
    """By name of the label or region."""
    subgroups: dict[str, dict[str, dict[str, LabelSummary]]] = Field(default_factory=dict)
    """Column of `attributes` to its value to the summaries of the cases that have it."""
    warnings: tuple[str, ...] = ()
    """What to bear in mind when reading it, such as intervals from few clusters."""
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
