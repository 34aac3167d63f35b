"""A matrix of models and datasets as plain text and as CSV."""

import csv
import io

from tumorseg.reports.tables import number_text, terminal_table
from tumorseg.schema.crossing import Cell, CrossReport

HELD_OUT = "*"
"""Marks the mean over cases that a model's folds held out."""


def counted(number: int, what: str) -> str:
    """Return a number of things in words, such as `1 case` or `3 cases`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def cell_remarks(cell: Cell) -> str:
    """Return why a cell was refused, or what to bear in mind of it."""
    remarks = [cell.refused] if cell.refused else list(cell.remarks)
    if cell.left_out:
        remarks.append(f"{counted(len(cell.left_out), 'case')} left out, as every fold was trained on them")
    if cell.relatives:
        remarks.append(
            f"{counted(len(cell.relatives), 'case')} left out, as every fold was trained on other cases of their patients"
        )
    remarks += [f"failed: {failure}" for failure in cell.failures]
    return "; ".join(remarks)


def crossing_text(report: CrossReport) -> str:
    """Return the matrix of the first metric's means, and below it a line for each cell that was refused or failed in part."""
    metric = report.metrics[0]
    datasets = [dataset.name for dataset in report.datasets]
    rows: dict[tuple[str, str, str], dict[str, object]] = {}
    told = []
    # That a model was trained on the parts that it was not tested on goes without saying.
    parts = {model.without for model in report.models} - {None}
    expected = {(model.name, part) for model in report.models if model.without for part in parts - {model.without}}
    for cell in report.cells:
        without = ", ".join(cell.dropped)
        for label in cell.labels:
            start: dict[str, object] = {"model": cell.model, "without": without or None, "label": label}
            row = rows.setdefault((cell.model, without, label), start | dict.fromkeys(datasets))
            mark = HELD_OUT if cell.held_out else ""
            row[cell.dataset] = number_text(cell.summary[label].metrics[metric].mean, metric) + mark
        if cell.state != "done" and (cell.model, cell.dataset) not in expected:
            told.append(f"{cell.model} on {cell.dataset}: {cell.state}: {cell_remarks(cell)}")
    columns = ["model", *(["without"] if any(cell.dropped for cell in report.cells) else []), "label", *datasets]
    table = terminal_table(list(rows.values()), columns)
    footnote = f"mean {metric}; {HELD_OUT} each case by the folds that held it out"
    return "\n".join([*([table, footnote] if table else []), *told])


def crossing_csv(report: CrossReport) -> str:
    """Return a line per cell and label as CSV: means and the bounds of their intervals; one without label where nothing was scored."""
    columns = ["model", "dataset", "without", "state", "cases", "held_out", "label"]
    for metric in report.metrics:
        columns += [metric, f"{metric}_low", f"{metric}_high"]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, "remark"], lineterminator="\n")
    writer.writeheader()
    for cell in report.cells:
        writer.writerows(_rows(cell))
    return text.getvalue()


def _rows(cell: Cell) -> list[dict[str, object]]:
    start: dict[str, object] = {
        "model": cell.model,
        "dataset": cell.dataset,
        "without": ", ".join(cell.dropped),
        "state": cell.state,
        "cases": cell.num_cases,
        "held_out": len(cell.held_out),
        "remark": cell_remarks(cell),
    }
    rows = []
    for label in cell.labels:
        row = start | {"label": label}
        for metric, found in cell.summary[label].metrics.items():
            low, high = found.ci95 or (None, None)
            row |= {metric: found.mean, f"{metric}_low": low, f"{metric}_high": high}
        rows.append(row)
    return rows or [start]
