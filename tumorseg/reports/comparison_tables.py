"""Comparisons of two models, and rankings of several, as plain text."""

from collections.abc import Iterable, Sequence

from tumorseg.reports.tables import NOTHING, cases_text, number_text, terminal_table
from tumorseg.schema.comparisons import ComparedMetric, Comparison, RankedTask, Ranking
from tumorseg.schema.metric_names import METRICS

LEAST_P = 0.0001
"""A smaller p is only said to be smaller."""


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return the lines of a comparison: what is compared, a table, one of subgroups, and what to bear in mind."""
    first, second = comparison.names
    lines = [
        f"{first} against {second}: {comparison.num_cases} cases that both have; differences are {first} minus {second}"
    ]
    for name, alone in zip(comparison.names, (comparison.first_only, comparison.second_only), strict=True):
        if alone:
            lines.append(f"{len(alone)} cases that {name} alone has are left out ({cases_text(alone)})")
    lines.append(terminal_table([_compared_row(row, comparison.names) for row in comparison.rows]))
    for column, groups in comparison.subgroups.items():
        rows = []
        for value, found in groups.items():
            rows += [{column: value, **_compared_row(row, comparison.names)} for row in found]
        lines += ["", terminal_table(rows)]
    return [*lines, *_told(comparison.warnings)]


def _compared_row(row: ComparedMetric, names: tuple[str, str]) -> dict[str, object]:
    first, second = names
    interval = NOTHING if row.ci95 is None else " to ".join(_signed(bound, row.metric) for bound in row.ci95)
    return {
        "label": row.label,
        "metric": row.metric,
        "pairs": row.num_pairs,
        f"mean {first}": number_text(row.first_mean, row.metric),
        f"mean {second}": number_text(row.second_mean, row.metric),
        "difference": _signed(row.mean_difference, row.metric),
        "95 % ci": interval,
        "p": p_text(row.p_permutation_holm),
        "p wilcoxon": p_text(row.p_wilcoxon_holm),
        "d_z": NOTHING if row.cohens_dz is None else f"{row.cohens_dz:+.2f}",
        "win/tie/loss": f"{row.wins}/{row.ties}/{row.losses}",
        "better": {"first": first, "second": second, None: NOTHING}[row.better],
    }


def _signed(value: float | None, metric: str) -> str:
    """Return a difference with a decimal more than the metric, as two means may agree in all that it shows."""
    return NOTHING if value is None else f"{value:+.{METRICS[metric].decimals + 1}f}"


def p_text(p: float | None) -> str:
    """Return a p value; one that is very small is said to be smaller than `LEAST_P`."""
    if p is None:
        return NOTHING
    return f"<{LEAST_P}" if p < LEAST_P else f"{p:.4f}"


def ranking_lines(ranking: Ranking) -> list[str]:
    """Return the lines of a ranking: overall, by label and metric, which models differ, and what to bear in mind."""
    lines = [
        f"{len(ranking.names)} models over {ranking.num_cases} cases that all have, by {', '.join(ranking.metrics)}"
    ]
    for name, alone in ranking.left_out.items():
        if alone:
            lines.append(f"{len(alone)} cases that {name} has and another has not are left out ({cases_text(alone)})")
    lines.append(terminal_table(_place_rows([ranking.overall])))
    if ranking.overall.kendall_tau is not None:
        lines.append(
            f"Kendall's tau between the ranking and those of resamples: {ranking.overall.kendall_tau:.2f} on average"
        )
    lines += ["", terminal_table(_pair_rows(ranking.overall))]
    if len(ranking.tasks) > 1:
        lines += ["", terminal_table(_place_rows(ranking.tasks))]
    return [*lines, *_told(ranking.warnings)]


def _place_rows(tasks: Iterable[RankedTask]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for task in tasks:
        for model in task.models:
            mean = number_text(model.mean, task.metric) if task.metric else NOTHING
            places = NOTHING if model.rank_interval is None else "{} to {}".format(*model.rank_interval)
            rows.append(
                {
                    "label": task.label or "all",
                    "metric": task.metric or "all",
                    "place": f"{model.rank:g}",
                    "model": model.name,
                    "mean": mean,
                    "mean rank": f"{model.mean_rank:.2f}",
                    "places of 95 %": places,
                    "first in": f"{model.rank_shares[0]:.0%}",
                }
            )
    return rows


def _pair_rows(task: RankedTask) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for pair in task.pairs:
        difference = f"{pair.mean_rank_difference:+.2f}"
        rows.append(
            {"model": pair.first, "against": pair.second, "mean rank": difference, "p": p_text(pair.p_permutation_holm)}
        )
    return rows


def _told(warnings: Sequence[str]) -> list[str]:
    return ["", *warnings] if warnings else []
