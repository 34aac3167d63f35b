"""What the figures of comparisons and rankings mean, in words."""

from collections.abc import Sequence

from tumorseg.ops.significance.paired_tests import EXACT_PAIRS
from tumorseg.schema.comparisons import ComparisonRules
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import Intervals

_METHODS = {
    "percentile": "percentile bootstrap",
    "bca": "BCa bootstrap",
    "studentised": (
        "studentised bootstrap, within the values (Student's t for fewer than 5; where more than 0.5 % of resamples have less than a tenth "
        "of the spread, t for fewer than 10, else BCa)"
    ),
}


def summary_definitions(intervals: Intervals) -> dict[str, str]:
    """Return what the figures of a summary mean, and which cases are in none."""
    return {
        "summary": (
            "num_cases: cases scored; mean over those that define the metric; num: these; std: sample standard deviation (n - 1); ci95: 95 % "
            f"confidence interval of the mean by {interval_words(intervals)}, within the metric's range; std is null for fewer than two "
            "cases, ci95 for fewer than two cases or clusters"
        ),
        "missing": (
            "Cases that have R and no P: with evaluate --missing worst they are scored as if P were empty, else they are in no figure. Cases "
            "whose P is damaged (failed) are treated alike; those whose R is damaged are in no figure. is_complete is false where a case is in "
            "no figure"
        ),
    }


def interval_words(intervals: Intervals) -> str:
    """Return how intervals were computed."""
    drawn = "cases" if intervals.cluster is None else f"clusters of cases that share their {intervals.cluster!r}"
    return f"{_METHODS[intervals.method]} over {drawn} ({intervals.num_resamples} resamples, fixed seed)"


def comparison_definitions(metrics: Sequence[str], rules: ComparisonRules) -> dict[str, str]:
    """Return what each figure of a comparison means."""
    return _metric_definitions(metrics) | {
        "pairs": (
            "A pair is a case that both models were scored on. Means, mean_difference (first minus second), ci95, p_permutation and "
            "cohens_dz rest on the pairs where the metric is defined for both. Wins, ties, losses, superiority, rank_biserial and p_wilcoxon "
            "need only an order: a distance that is undefined because the structure was missed or invented is worse than any value, and a score "
            "that is undefined because the structure is rightly in neither segmentation is better than any"
        ),
        "ci95": f"95 % confidence interval of the mean difference by {interval_words(rules.intervals)}",
        "p_permutation": f"Two-sided paired permutation test of the mean difference: {_flips(rules)}",
        "p_wilcoxon": _wilcoxon(rules),
        "holm": (
            "p adjusted by Holm's method over all labels and metrics, and in subgroups over all of the groups of a column; each kind of test "
            "is a family of its own"
        ),
        "cohens_dz": "Mean difference over the standard deviation of the differences; above 0 the first is better",
        "rank_biserial": "Sum of signed ranks of differences over the sum of ranks, -1 to 1; above 0 the first is better",
        "superiority": "Wins and half of the ties, over all pairs",
        "ties": "Pairs whose difference is no larger than the tolerance: " + _tolerances(metrics, rules),
    }


def ranking_definitions(metrics: Sequence[str], rules: ComparisonRules) -> dict[str, str]:
    """Return what each figure of a ranking means."""
    return _metric_definitions(metrics) | {
        "mean_rank": (
            "Models are ranked within each case (1 the best, ties share the mean of their ranks), by each metric of each label; the overall rank "
            "within a case is the mean over these; mean_rank is the mean over cases. A distance that is undefined because the structure was missed "
            "or invented ranks last; a score that is undefined because the structure is rightly in neither segmentation ranks first"
        ),
        "rank_by_mean": "Rank of the metric's mean over the cases that define it for all models; overall the mean of these ranks",
        "ci95": f"95 % confidence interval of the mean rank by {interval_words(rules.intervals)}",
        "rank_shares": f"Share of {rules.intervals.num_resamples} bootstrap resamples in which a model takes place 1, 2, …",
        "rank_interval": "Places between which 95 % of the resamples lie",
        "kendall_tau": "Mean over resamples of Kendall's tau-b between the ranking and that of the resample",
        "p_permutation": f"Two-sided paired permutation test of the ranks of two models within cases: {_flips(rules)}",
        "holm": "p adjusted by Holm's method over all pairs of models, in tasks over all pairs of all tasks",
    }


def _metric_definitions(metrics: Sequence[str]) -> dict[str, str]:
    """Return what is compared by each metric."""
    found = {}
    for name in metrics:
        metric = METRICS[name]
        is_signed = metric.better == "nearer 0"
        found[name] = f"{metric.definition}. Compared by its size: less is better" if is_signed else metric.definition
    return found


def _flips(rules: ComparisonRules) -> str:
    cluster = rules.intervals.cluster
    units = (
        "pairs are exchanged one by one"
        if cluster is None
        else f"pairs that share their {cluster!r} are exchanged together"
    )
    return (
        f"{units}; all ways where there are no more than {rules.num_permutations}, else {rules.num_permutations} random ones (fixed seed), "
        "p = (b + 1) / (m + 1)"
    )


def _wilcoxon(rules: ComparisonRules) -> str:
    how = f"exact up to {EXACT_PAIRS} pairs, else by the normal approximation"
    if rules.intervals.cluster is not None:
        how = f"as a permutation test of the signed ranks: {_flips(rules)}"
    return f"Two-sided Wilcoxon signed-rank test, differences of 0 dropped; {how}"


def _tolerances(metrics: Sequence[str], rules: ComparisonRules) -> str:
    return ", ".join(f"{name} {tie_tolerance(name, rules):g}" for name in metrics)


def tie_tolerance(metric: str, rules: ComparisonRules) -> float:
    """Return the largest difference that is a tie: if not stated, half a unit of the last decimal shown, so that tables agree."""
    return rules.tie_tolerances.get(metric, 0.5 * 10.0 ** -METRICS[metric].decimals)
