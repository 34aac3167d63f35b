"""The cross-evaluation document: every model on every dataset."""

from typing import Literal

from pydantic import Field

from tumorseg.schema.base import Record
from tumorseg.schema.comparisons import Ranking
from tumorseg.schema.metrics import Intervals, LabelSummary

CellState = Literal["done", "refused", "failed"]
"""Scored; impossible, for a reason that is told; or cases of it failed, and the others are scored."""
MissingChannels = Literal["refuse", "zero", "mean"]
"""What becomes of a dataset that lacks a channel of a model: refused; or after normalisation 0, or the mean of the others, stands in for it."""


KnownBy = Literal["content", "case_id", "unknown"]
"""How cases that a model was trained on are told from others: by bytes, voxels and case_ids; by case_ids, and by what files of the
training are there; not at all."""


class CrossedModel(Record):
    """A model of the matrix."""

    name: str
    """Unique in the matrix."""
    plan: str
    """Name of its plan."""
    configuration: str
    """Which configuration predicts."""
    trained_on: str
    """Name of the dataset."""
    folds: tuple[str, ...] = ()
    """Folds that are averaged; empty where they are not known."""
    without: str | None = None
    """The part of the dataset that it was trained without; null unless it was trained here to leave one out."""


class CrossedDataset(Record):
    """A dataset of the matrix."""

    name: str
    """Unique in the matrix."""
    num_cases: int = Field(ge=0)
    """Cases with a reference segmentation."""
    num_unlabelled: int = Field(ge=0)
    """Cases without, which are not used."""
    channels: tuple[str, ...]
    """As the dataset calls them."""
    targets: tuple[str, ...]
    """Regions, or else labels."""


class Cell(Record):
    """One model on one dataset."""

    schema_version: Literal[1] = 1
    """Of this document's form."""
    model: str
    """Name of the model in the matrix."""
    dataset: str
    """Name of the dataset."""
    dropped: tuple[str, ...] = ()
    """Channels of the model that were left out on purpose."""
    state: CellState
    """What became of it."""
    refused: str | None = None
    """Why nothing could be scored; null unless it is refused."""
    identity: str = ""
    """Hash of everything that the scores follow from: weights, plan, images, references, options."""
    channels: dict[str, str] = Field(default_factory=dict)
    """Channel of the model to the dataset's channel that it sees."""
    missing_channels: tuple[str, ...] = ()
    """Channels of the model for which something stands in, those that were dropped included."""
    filling: Literal["zero", "mean"] | None = None
    """What stands in for them; null where nothing is missing."""
    scored: tuple[str, ...] = ()
    """Labels or regions that are scored."""
    remarks: tuple[str, ...] = ()
    """What was not mapped, and how cases of the training were known, a line each."""
    warnings: tuple[str, ...] = ()
    """What to bear in mind of the scores, such as intervals from few cases."""
    num_cases: int = Field(default=0, ge=0)
    """Cases that are scored."""
    held_out: tuple[str, ...] = ()
    """Those of them that the model was trained on in part: each was segmented by the folds that never saw it."""
    left_out: tuple[str, ...] = ()
    """Cases on which every fold was trained, so that none is scored."""
    relatives: tuple[str, ...] = ()
    """Cases that are not scored as every fold was trained on other cases of their patients."""
    known_by: KnownBy = "content"
    """How it is known which cases the model was trained on."""
    scores_hash: str = ""
    """Hash of the file of the scores, metrics.json; empty where nothing was scored."""
    failures: tuple[str, ...] = ()
    """Cases that failed, a line each."""
    summary: dict[str, LabelSummary] = Field(default_factory=dict)
    """By name of the label or region; all scores lie in the cell's metrics.json."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels or regions that have scores, in the order in which they are scored: JSON sorts the summary by name."""
        return tuple(name for name in self.scored if name in self.summary)


class Gap(Record):
    """Loss from a model's own dataset to another one."""

    model: str
    """Name of the model."""
    own: str
    """Dataset that it was trained on, scored on cases that each fold held out."""
    other: str
    """Dataset that it has never seen."""
    label: str
    """Name of the label or region."""
    metric: str
    """Name of the metric."""
    own_mean: float
    """Mean over the held-out cases of the own dataset; of a metric of which `nearer 0` is better, of its size, as for the other."""
    other_mean: float
    """Mean over the cases of the other one."""
    difference: float
    """The former less the latter."""
    ci95: tuple[float, float] | None
    """95 % confidence interval of the difference; null for fewer than two cases on a side."""
    num: tuple[int, int]
    """Cases on each side."""
    num_units: tuple[int, int]
    """What was drawn of each side for the interval: cases, or clusters of them."""


class Spread(Record):
    """Distribution of one measurement over the cases of a dataset."""

    what: str
    """Such as `spacing` or `volume`."""
    of: str
    """An axis, a channel, or a label or region."""
    unit: str
    """Such as `mm`; empty for none."""
    quantiles: dict[str, float]
    """Percentile over cases (`5`, `25`, `50`, `75`, `95`) to value."""
    num: int = Field(ge=1)
    """Cases that were measured."""


class DatasetShift(Record):
    """Measurements of one dataset, to be held against those of the others."""

    dataset: str
    """Name of the dataset."""
    content_hash: str
    """Of all its cases, and of how they were measured."""
    num_cases: int
    """Cases that have a reference."""
    num_measured: int
    """Those of them that were measured: all, or as many as are enough."""
    spreads: tuple[Spread, ...]
    """One per measurement."""


class Compared(Record):
    """Two models on the cases of one dataset that both were scored on."""

    dataset: str
    """Name of the dataset."""
    first: str
    """Name of a model."""
    second: str
    """Name of the other one."""
    label: str
    """Name of the label or region."""
    metric: str
    """Name of the metric."""
    num: int
    """Pairs of cases."""
    difference: float | None
    """Mean of the first less that of the second."""
    ci95: tuple[float, float] | None
    """95 % confidence interval of the mean difference."""
    p: float | None
    """Of the paired permutation test."""
    p_adjusted: float | None
    """Adjusted by Holm over all rows of the matrix."""


class CrossReport(Record):
    """The cross-evaluation document."""

    schema_version: Literal[1] = 1
    """Of this document's form."""
    metrics: tuple[str, ...]
    """What was measured, in the order of tables."""
    intervals: Intervals = Intervals()
    """How confidence intervals were computed."""
    missing_channels: MissingChannels
    """What became of datasets that lack a channel."""
    models: tuple[CrossedModel, ...]
    """The matrix's rows."""
    datasets: tuple[CrossedDataset, ...]
    """The matrix's columns."""
    cells: tuple[Cell, ...]
    """Row by row; those of the sweep over missing channels follow their whole cell."""
    gaps: tuple[Gap, ...] = ()
    """Generalisation gaps."""
    compared: tuple[Compared, ...] = ()
    """Every two models on every dataset."""
    rankings: dict[str, Ranking] = Field(default_factory=dict)
    """By name of the dataset, where several models were scored on it."""
    shifts: tuple[DatasetShift, ...] = ()
    """What differs between the datasets."""
    definitions: dict[str, str] = Field(default_factory=dict)
    """What each figure means."""
    warnings: tuple[str, ...] = ()
    """What to bear in mind when reading it."""
