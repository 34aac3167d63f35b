"""The report of a cross-evaluation: matrix, mapping, gaps, tests, and what differs between the datasets."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from tumorseg.reports.crossing_tables import cell_remarks, counted
from tumorseg.reports.page import Picture
from tumorseg.reports.results.comparing import compared_title, p_text, ranking_section
from tumorseg.reports.results.page import ResultsInput
from tumorseg.reports.results.sections import Cell, Section, Table
from tumorseg.reports.results.summaries import intervals_words
from tumorseg.reports.shift_figure import shift_png
from tumorseg.reports.tables import NOTHING, interval_text, number_text
from tumorseg.schema import crossing
from tumorseg.schema.comparisons import SIGNIFICANT
from tumorseg.schema.crossing import CrossReport, Gap
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import MetricSummary

_FILLED = {"zero": "0", "mean": "the mean of the others"}
_DIFFERENCE_DECIMALS = 1  # more than the metric's own, as two means may agree in all digits shown


def crossing_content(report: CrossReport, slices: Mapping[str, bytes]) -> ResultsInput:
    """Return what the report shows.

    Args:
        report: the document.
        slices: PNG of a case by name of its dataset; those without a picture are left out.
    """
    sections = [_matrix(report), _sweep(report), _gaps(report), _tests(report), *_rankings(report)]
    sections += [_mapping(report), _shifts(report, slices)]
    num_models, num_datasets = len(report.models), len(report.datasets)
    return ResultsInput(
        title="Cross-evaluation",
        subtitle=f"{counted(num_models, 'model')} on {counted(num_datasets, 'dataset')}",
        facts=_facts(report),
        sections=[section for section in sections if section.tables or section.pictures],
    )


def _facts(report: CrossReport) -> dict[str, list[tuple[str, str]]]:
    models = []
    for model in report.models:
        folds = f", folds {', '.join(model.folds)}" if model.folds else ""
        words = f"without {model.without}" if model.without else f"on {model.trained_on}"
        models.append((model.name, f"{model.plan}, {model.configuration}, trained {words}{folds}"))
    datasets = []
    for dataset in report.datasets:
        unused = f", {dataset.num_unlabelled} more without" if dataset.num_unlabelled else ""
        channels, targets = ", ".join(dataset.channels), ", ".join(dataset.targets)
        words = f"{counted(dataset.num_cases, 'case')} with a reference{unused}; {channels}; {targets}"
        datasets.append((dataset.name, words))
    return {"Models": models, "Datasets": datasets}


def _whole(report: CrossReport) -> dict[tuple[str, str], crossing.Cell]:
    """Return the cells in which nothing was left out on purpose, by model and dataset."""
    return {(cell.model, cell.dataset): cell for cell in report.cells if not cell.dropped}


def _matrix(report: CrossReport) -> Section:
    """Return a heat map for each metric."""
    cells = _whole(report)
    names = [dataset.name for dataset in report.datasets]
    tables = []
    for metric in report.metrics:
        rows: list[list[Cell]] = []
        for model in report.models:
            row = {name: cells.get((model.name, name)) for name in names}
            rows += _label_rows(model.name, row, metric)
        table = Table(["Model", "Label", *names], rows, heading=METRICS[metric].title)
        tables.append(_shaded(table, metric))
    text = (
        f"{intervals_words(report.intervals)} The stronger the tint, the better. “Held out” marks a dataset that the model was trained on: "
        "each of its cases is segmented by the folds that never saw it."
    )
    return Section("Models and datasets", text, tables)


def _label_rows(title: str, row: Mapping[str, crossing.Cell | None], metric: str) -> Iterator[list[Cell]]:
    """Yield a row for each label that a model was scored on; one without a label where it was refused everywhere."""
    labels: dict[str, None] = {}
    for cell in row.values():
        labels |= dict.fromkeys(cell.labels if cell else ())
    for label in labels or [""]:
        yield [Cell(title), Cell(label, is_text=True), *(_value(cell, label, metric) for cell in row.values())]


def _value(cell: crossing.Cell | None, label: str, metric: str) -> Cell:
    if cell is None or cell.state == "refused":
        return Cell("refused" if cell else NOTHING)
    summary = cell.summary.get(label)
    found = summary.metrics.get(metric) if summary else None
    if found is None or found.mean is None:
        return Cell("failed" if cell.state == "failed" and not cell.summary else NOTHING)
    return Cell(number_text(found.mean, metric), note=_note(cell, found, metric), shade=found.mean)


def _note(cell: crossing.Cell, found: MetricSummary, metric: str) -> str:
    notes = [interval_text(found, metric)] if found.ci95 else []
    notes += ["held out"] if cell.held_out else []
    notes += ["incomplete"] if cell.state == "failed" else []
    return ", ".join(notes)


def _shaded(table: Table, metric: str) -> Table:
    """Return a table whose shades, so far the values themselves, run from 0 (worst) to 1 (best)."""
    values = [abs(cell.shade) for row in table.rows for cell in row if cell.shade is not None]
    # Distances, volumes and counts have no natural scale but the table's own; where all are 0, none is worse than another.
    largest = 1.0 if METRICS[metric].is_share else max(values, default=0.0) or 1.0
    rows = []
    for row in table.rows:
        rows.append([cell._replace(shade=_shade(cell.shade, largest, METRICS[metric].better)) for cell in row])
    return table._replace(rows=rows)


def _shade(value: float | None, largest: float, better: str) -> float | None:
    if value is None:
        return None
    share = min(abs(value) / largest, 1.0)
    return share if better == "higher" else 1 - share


def _sweep(report: CrossReport) -> Section:
    """Return a heat map for each model: every choice of channels that was left out, on each dataset."""
    metric = report.metrics[0]
    names = [dataset.name for dataset in report.datasets]
    tables = []
    for model in report.models:
        cells = {(cell.dropped, cell.dataset): cell for cell in report.cells if cell.model == model.name}
        choices = list(dict.fromkeys(dropped for dropped, _ in cells))
        if len(choices) < 2:
            continue
        rows: list[list[Cell]] = []
        for dropped in sorted(choices, key=lambda choice: (len(choice), choice)):
            title = f"without {', '.join(dropped)}" if dropped else "all channels"
            rows += _label_rows(title, {name: cells.get((dropped, name)) for name in names}, metric)
        table = Table(["Channels", "Label", *names], rows, heading=f"{model.name}, {METRICS[metric].title}")
        tables.append(_shaded(table, metric))
    return Section("Missing channels", "Channels left out in turn; what stands in for them is told below.", tables)


def _gaps(report: CrossReport) -> Section:
    rows = []
    for gap in report.gaps:
        words = [gap.own, gap.other, gap.label, compared_title(gap.metric)]
        means = [number_text(mean, gap.metric) for mean in (gap.own_mean, gap.other_mean)]
        counts = f"{gap.num[0]} and {gap.num[1]}"
        figures = [Cell(means[0]), Cell(means[1]), _difference(gap), Cell(counts)]
        rows.append([Cell(gap.model), *(Cell(word, is_text=True) for word in words), *figures])
    columns = ["Model", "Trained on", "Tested on", "Label", "Metric", "Held out", "Other", "Gap", "Cases"]
    text = (
        "Mean over the cases of the model's own dataset, each by the folds that held it out, less the mean over another dataset; "
        "below it the 95 % interval of a bootstrap of both. Of volume errors the size counts."
    )
    return Section("Generalisation gap", text, [Table(columns, rows)] if rows else [])


def _difference(found: Gap | crossing.Compared) -> Cell:
    if found.difference is None:
        return Cell(NOTHING)
    decimals = METRICS[found.metric].decimals + _DIFFERENCE_DECIMALS
    note = "" if found.ci95 is None else " to ".join(f"{bound:+.{decimals}f}" for bound in found.ci95)
    return Cell(f"{found.difference:+.{decimals}f}", note=note)


def _tests(report: CrossReport) -> Section:
    """Return the tests of every two models, a table for each dataset."""
    tables = []
    columns = ["Models", "Label", "Metric", "Cases", "Difference", "p", "p, adjusted"]
    for dataset, found in groupby(report.compared, key=lambda row: row.dataset):
        rows = []
        for row in found:
            adjusted = p_text(row.p_adjusted)
            is_sure = row.p_adjusted is not None and row.p_adjusted < SIGNIFICANT
            words = [row.label, compared_title(row.metric)]
            figures = [Cell(str(row.num)), _difference(row), Cell(p_text(row.p))]
            marked = Cell(adjusted, note="significant" if is_sure else "")
            pair = Cell(f"{row.first} – {row.second}")
            rows.append([pair, *(Cell(word, is_text=True) for word in words), *figures, marked])
        tables.append(Table(columns, rows, heading=dataset))
    text = (
        "First less second over the cases that both were scored on; p of the paired permutation test, adjusted by Holm over all rows "
        "of all datasets."
    )
    remarks = [[Cell(words, is_text=True) for words in warning.split(": ", 1)] for warning in report.warnings]
    if remarks:
        tables.append(Table(["Models", "To bear in mind"], remarks))
    return Section("Models against each other", text, tables)


def _rankings(report: CrossReport) -> Iterator[Section]:
    """Yield the places of the models on each dataset."""
    for dataset, ranking in report.rankings.items():
        yield ranking_section(ranking)._replace(heading=f"Ranking on {dataset}")


def _mapping(report: CrossReport) -> Section:
    """Return what of each model and dataset was taken for the same, and why cells were refused."""
    rows = []
    for cell in _whole(report).values():
        channels = ", ".join(_renamed(wanted, own) for wanted, own in sorted(cell.channels.items()))
        if cell.filling:
            channels += f"; {_FILLED[cell.filling]} for {', '.join(cell.missing_channels)}"
        words = [cell.model, cell.dataset, cell.state, channels, ", ".join(cell.scored)]
        counts = [Cell(str(cell.num_cases)), Cell(str(len(cell.held_out)))]
        shown = [Cell(word, is_text=True) for word in words]
        rows.append([*shown[:3], *counts, *shown[3:]])
    columns = ["Model", "Dataset", "State", "Cases", "Held out", "Channels", "Scored"]
    tables = [Table(columns, rows)]
    told = [(cell, _told(cell)) for cell in _whole(report).values()]
    remarks = [[Cell(f"{cell.model} on {cell.dataset}"), Cell(words, is_text=True)] for cell, words in told if words]
    if remarks:
        tables.append(Table(["Cell", "Remarks"], remarks))
    text = "Channels of the model, and those of the dataset that it was shown."
    return Section("What belongs together", text, tables)


def _told(cell: crossing.Cell) -> str:
    return "; ".join(filter(None, (cell_remarks(cell), *cell.warnings)))


def _renamed(wanted: str, own: str) -> str:
    return wanted if wanted == own else f"{wanted} = {own}"


def _shifts(report: CrossReport, slices: Mapping[str, bytes]) -> Section:
    pictures = []
    if any(shift.spreads for shift in report.shifts):
        caption = "Over cases: percentiles 5 to 95 (thin), 25 to 75 (thick), and the median (dot)"
        pictures.append(Picture(caption, shift_png(report.shifts)))
    pictures += [Picture(f"{name}: its first case", png) for name, png in slices.items()]
    measured = [f"{shift.num_measured} of {shift.num_cases} cases of {shift.dataset}" for shift in report.shifts]
    text = f"Measured on {_listed(measured)}. Intensities are percentiles 5, 50 and 95 of each image, its least value left out."
    return Section("What differs between the datasets", text, pictures=pictures)


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
