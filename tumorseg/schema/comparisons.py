"""The comparison document: two models, or several, over the cases that they share."""

from typing import Annotated, Literal

from pydantic import Field

from tumorseg.schema.base import Record
from tumorseg.schema.dataset import Name
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import Amount, Intervals

Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]

SIGNIFICANT = 0.05
"""An adjusted p below it is called a difference."""


class ComparisonRules(Record):
    """How models are compared."""

    intervals: Intervals = Intervals()
    """Of mean differences and mean ranks. Its clusters are also what the tests exchange as wholes."""
    num_permutations: int = Field(default=9999, ge=99)
    """Random changes of sign that a permutation test draws where trying all of them would take more."""
    tie_tolerances: dict[str, Amount] = Field(default_factory=dict)
    """Metric to the largest difference that counts as a tie, itself included; half a unit of the last decimal that tables show if not stated."""
    subgroup_columns: tuple[str, ...] = ()
    """As `metrics_report` takes them."""


class ComparedMetric(Record):
    """One metric of one label, compared between two models over pairs: the same case scored for both."""

    label: str
    metric: str
    num_pairs: Count
    """Pairs where the metric is defined for both; means, their difference, its interval, the permutation test and d_z rest on these."""
    num_first_only: Count
    """Pairs where it is defined for the first alone."""
    num_second_only: Count
    """Pairs where it is defined for the second alone."""
    first_mean: float | None
    """Mean over the pairs where both are defined. Of a metric of which `nearer 0` is better, of its size."""
    second_mean: float | None
    mean_difference: float | None
    """Of first minus second."""
    std_difference: Amount | None
    """Sample standard deviation of the differences; null for fewer than two."""
    ci95: tuple[float, float] | None
    """95 % confidence interval of the mean difference; null for fewer than two pairs, or clusters."""
    p_permutation: Probability | None
    """Of the paired permutation test of the mean difference."""
    p_permutation_holm: Probability | None
    """The same, adjusted over all labels and metrics."""
    p_wilcoxon: Probability | None
    """Of the Wilcoxon signed-rank test."""
    p_wilcoxon_holm: Probability | None
    """The same, adjusted over all labels and metrics."""
    cohens_dz: float | None
    """Mean difference over the standard deviation of the differences; above 0 the first is better."""
    rank_biserial: float | None
    """Matched-pairs rank-biserial correlation, -1 to 1; above 0 the first is better."""
    superiority: Probability | None
    """Probability that the first is the better one in a case: wins and half of the ties, over all."""
    wins: Count
    """Pairs where the first is better by more than the tolerance, or where a failure leaves only the second undefined."""
    ties: Count
    losses: Count
    """Pairs where the second is better."""

    @property
    def better(self) -> Literal["first", "second"] | None:
        """Which model has the better mean, where the adjusted permutation test finds a difference."""
        if self.p_permutation_holm is None or self.p_permutation_holm >= SIGNIFICANT or not self.mean_difference:
            return None
        gain = METRICS[self.metric].sign * self.mean_difference
        return "first" if gain > 0 else "second"


class CaseDifference(Record):
    """What two models differ by in one label of one case."""

    case_id: Name
    label: str
    differences: dict[str, float | None]
    """Metric to first minus second; null where it is undefined for one of them."""


class Comparison(Record):
    """Two models over the cases that both were scored on."""

    names: tuple[str, str]
    """Of the first and of the second model."""
    rules: ComparisonRules
    definitions: dict[str, str]
    """What each figure means."""
    metrics: tuple[str, ...]
    """Compared, in the order of tables."""
    labels: tuple[str, ...]
    """Compared."""
    num_cases: Count
    """Cases that both have."""
    first_only: tuple[str, ...]
    """Cases that the first alone was scored on; they are in no figure."""
    second_only: tuple[str, ...]
    rows: tuple[ComparedMetric, ...]
    """One per label and metric."""
    subgroups: dict[str, dict[str, tuple[ComparedMetric, ...]]] = Field(default_factory=dict)
    """Column to its value to the rows of the cases that have it, whose p are adjusted over all of the column."""
    differences: tuple[CaseDifference, ...]
    """One per case and label, sorted by case."""
    warnings: tuple[str, ...] = ()


class RankedModel(Record):
    """The place of one model among several."""

    name: str
    mean: float | None
    """Mean of the metric over the cases where it is defined for all models; null over several metrics."""
    rank_by_mean: float | None
    """Rank of that mean (aggregate, then rank), 1 the best; over several metrics and labels the mean of these ranks."""
    mean_rank: float
    """Mean over cases of the rank within the case (rank, then aggregate)."""
    ci95: tuple[float, float] | None
    """95 % confidence interval of the mean rank."""
    rank: float
    """Rank of the mean rank, 1 the best; models that tie share the mean of their ranks."""
    rank_shares: tuple[Probability, ...]
    """Share of resamples in which the model takes place 1, 2, …; models that tie take the best place they share."""
    rank_interval: tuple[int, int] | None
    """Places between which 95 % of resamples lie."""


class RankedPair(Record):
    """Two models of a ranking."""

    first: str
    second: str
    mean_rank_difference: float
    """Mean rank of the first minus that of the second; below 0 the first is better."""
    p_permutation: Probability
    """Of the paired permutation test of the ranks of cases."""
    p_permutation_holm: Probability
    """Adjusted over all pairs; in the ranking of one label and metric over all pairs of all of these."""


class RankedTask(Record):
    """Several models ranked by one metric of one label, or by all of them together."""

    label: str | None
    """null: over all labels."""
    metric: str | None
    """null: over all metrics."""
    num_cases: Count
    models: tuple[RankedModel, ...]
    """The best first."""
    pairs: tuple[RankedPair, ...]
    """All pairs, in the order of `models`."""
    kendall_tau: float | None
    """Mean over resamples of Kendall's tau-b between the ranking and that of the resample; 1: every resample ranks alike."""


class Ranking(Record):
    """Several models over the cases that all were scored on."""

    names: tuple[str, ...]
    rules: ComparisonRules
    definitions: dict[str, str]
    """What each figure means."""
    metrics: tuple[str, ...]
    """That the ranking is by."""
    labels: tuple[str, ...]
    num_cases: Count
    """Cases that all have."""
    left_out: dict[str, tuple[str, ...]]
    """Model to the cases that it was scored on and another was not."""
    overall: RankedTask
    tasks: tuple[RankedTask, ...]
    """One per label and metric."""
    warnings: tuple[str, ...] = ()
