"""Comparisons of two models, and rankings of several, as tables."""

from collections.abc import Sequence
from typing import Any

from tumorseg.reports.results.sections import Cell, Section, Table
from tumorseg.reports.tables import NOTHING, number_text
from tumorseg.schema.comparisons import SIGNIFICANT, ComparedMetric, Comparison, RankedModel, RankedTask, Ranking
from tumorseg.schema.metric_names import METRICS

_LEAST_P = 0.0001  # below, a p is only said to be small
_DIFFERENCE_DECIMALS = 1  # more than the metric's own, as two means may agree in all digits shown


def comparison_section(comparison: Comparison) -> Section:
    """Return the tests of every label and metric, over all cases and within subgroups."""
    first, second = comparison.names
    text = (
        f"{first} against {second} over {_count(comparison.num_cases, 'case')} that both have. "
        "Differences are the first minus the second, and p values those of the paired permutation test and of the Wilcoxon "
        f"signed-rank test, adjusted by Holm's method over all labels and metrics{_family_words(comparison)}; effect sizes above 0 "
        "favour the first."
    )
    tables = [_compared_table(comparison.rows, comparison.names)]
    for column, groups in comparison.subgroups.items():
        for value, rows in groups.items():
            heading = f"{column}: {value or '(none)'}"
            tables.append(_compared_table(rows, comparison.names)._replace(heading=heading))
    return Section(f"Comparison of {first} and {second}", text + _unpaired_words(comparison), tables)


def differences_value(comparison: Comparison) -> dict[str, Any]:
    """Return the differences of every case as the page's script plots them."""
    labels = {name: number for number, name in enumerate(comparison.labels)}
    rows = []
    for found in comparison.differences:
        values = [found.differences.get(name) for name in comparison.metrics]
        rounded = [None if value is None else round(value, 5) for value in values]
        rows.append([found.case_id, labels[found.label], *rounded])
    metrics = []
    for name in comparison.metrics:
        # A size, of which less is better, is all that is left of a metric that should be near 0.
        side = "above" if METRICS[name].sign > 0 else "below"
        metrics.append({"title": compared_title(name), "side": side, "decimals": _decimals(name)})
    return {"names": list(comparison.names), "labels": list(labels), "metrics": metrics, "rows": rows}


def compared_title(metric: str) -> str:
    """Return the title of a metric as models are compared by it: where nearer 0 is better, by its size."""
    title = METRICS[metric].title
    return f"Size of the {title[0].lower()}{title[1:]}" if METRICS[metric].better == "nearer 0" else title


def ranking_section(ranking: Ranking) -> Section:
    """Return the places of several models, how firm they are, and which of them the tests tell apart."""
    text = (
        f"{_count(ranking.num_cases, 'case')} that all models have. Models are ranked within each case, then the ranks are "
        "averaged; the share of resamples says how firm a place is."
    )
    if ranking.overall.kendall_tau is not None:
        text += (
            f" Kendall's tau between the ranking and that of a resample: {ranking.overall.kendall_tau:.2f} on average."
        )
    tables = [_places_table(ranking.overall), _pairs_table(ranking.overall)]
    if len(ranking.tasks) > 1:
        tables.append(_tasks_table(ranking))
    return Section("Ranking", text, [table for table in tables if table.rows])


def p_text(p: float | None) -> str:
    """Return a p value with three decimals, or four where it is small."""
    if p is None:
        return NOTHING
    if p < _LEAST_P:
        return f"< {_LEAST_P}"
    return f"{p:.3f}" if p >= 0.01 else f"{p:.4f}"


def _compared_table(rows: Sequence[ComparedMetric], names: tuple[str, str]) -> Table:
    first, second = names
    columns = ["Label", "Metric", "Pairs", first, second, "Difference", "p permutation", "p Wilcoxon"]
    columns += ["Effect", "Win / tie / loss", "Better"]
    caption = (
        f"Below a difference its 95 % interval; below a p value the unadjusted one. Better: the model that the adjusted "
        f"permutation test finds better at {SIGNIFICANT:.0%}. Effect: Cohen's d_z, below it the rank-biserial correlation."
    )
    return Table(columns, [_compared_row(row, names) for row in rows], caption)


def _compared_row(row: ComparedMetric, names: tuple[str, str]) -> list[Cell]:
    better = {"first": names[0], "second": names[1], None: NOTHING}[row.better]
    interval = "{} to {}".format(*(_signed(bound, row.metric) for bound in row.ci95)) if row.ci95 else ""
    return [
        Cell(row.label, is_text=True),
        Cell(compared_title(row.metric), is_text=True),
        Cell(str(row.num_pairs), _alone_words(row)),
        Cell(number_text(row.first_mean, row.metric)),
        Cell(number_text(row.second_mean, row.metric)),
        Cell(_signed(row.mean_difference, row.metric), interval),
        Cell(p_text(row.p_permutation_holm), p_text(row.p_permutation)),
        Cell(p_text(row.p_wilcoxon_holm), p_text(row.p_wilcoxon)),
        Cell(_effect(row.cohens_dz), _effect(row.rank_biserial)),
        Cell(f"{row.wins} / {row.ties} / {row.losses}"),
        Cell(better, is_text=True),
    ]


def _alone_words(row: ComparedMetric) -> str:
    alone = row.num_first_only + row.num_second_only
    return f"{alone} in one alone" if alone else ""


def _signed(value: float | None, metric: str) -> str:
    return NOTHING if value is None else f"{value:+.{_decimals(metric)}f}"


def _decimals(metric: str) -> int:
    return METRICS[metric].decimals + _DIFFERENCE_DECIMALS


def _effect(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.2f}"


def _family_words(comparison: Comparison) -> str:
    return ", and in subgroups over all groups of a column as well" if comparison.subgroups else ""


def _unpaired_words(comparison: Comparison) -> str:
    words = ""
    for name, cases in zip(comparison.names, (comparison.first_only, comparison.second_only), strict=True):
        if cases:
            words += f" {_count(len(cases), 'case')} that {name} alone has are in no figure."
    return words


def _places_table(task: RankedTask) -> Table:
    columns = ["Model", "Mean rank", "Place", "Place of the mean", "Places of 95 % of resamples"]
    columns += [f"Place {place}" for place in range(1, len(task.models) + 1)]
    caption = "Place n: share of resamples in which the model takes it; models that tie take the best place they share."
    return Table(columns, [_place_row(model) for model in task.models], caption)


def _place_row(model: RankedModel) -> list[Cell]:
    interval = "{:.2f} to {:.2f}".format(*model.ci95) if model.ci95 else ""
    places = "{} to {}".format(*model.rank_interval) if model.rank_interval else NOTHING
    by_mean = NOTHING if model.rank_by_mean is None else f"{model.rank_by_mean:.3g}"
    shares = [Cell(f"{share:.0%}", shade=share) for share in model.rank_shares]
    own = [Cell(f"{model.mean_rank:.2f}", interval), Cell(f"{model.rank:g}"), Cell(by_mean), Cell(places)]
    return [Cell(model.name, is_text=True), *own, *shares]


def _pairs_table(task: RankedTask) -> Table:
    rows = []
    for pair in task.pairs:
        p = Cell(p_text(pair.p_permutation_holm), p_text(pair.p_permutation))
        names = [Cell(pair.first, is_text=True), Cell(pair.second, is_text=True)]
        rows.append([*names, Cell(f"{pair.mean_rank_difference:+.2f}"), p])
    return Table(["Model", "Against", "Mean rank", "p"], rows, "Difference of mean ranks; below 0 the model is better.")


def _tasks_table(ranking: Ranking) -> Table:
    rows = []
    for task in ranking.tasks:
        models = {model.name: model for model in task.models}
        cells = [_task_cell(models[name], len(models), task.metric) for name in ranking.names]
        metric = compared_title(task.metric) if task.metric else "all"
        rows.append([Cell(task.label or "all", is_text=True), Cell(metric, is_text=True), *cells])
    caption = "Mean rank by label and metric, the stronger its colour the better; below it the mean of the metric."
    return Table(["Label", "Metric", *ranking.names], rows, caption)


def _task_cell(model: RankedModel, num_models: int, metric: str | None) -> Cell:
    mean = number_text(model.mean, metric) if metric else ""
    return Cell(f"{model.mean_rank:.2f}", mean, shade=(num_models - model.mean_rank) / max(num_models - 1, 1))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
