"""`tumorseg evaluate`."""

from pathlib import Path
from typing import Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.numbers import MILLIMETRES
from tumorseg.cli.output import metrics_json, metrics_text, roots_of, show
from tumorseg.cli.stated import allow_outside, assume_orientation, paint_order, stated_of

PATH = click.Path(path_type=Path)


@click.command()
@click.option("-i", "--predictions", type=PATH, multiple=True, required=True, help="Files or folders to score.")
@click.option("-r", "--references", type=PATH, multiple=True, required=True, help="Files or folders to score against.")
@click.option("-d", "--dataset", help="Whose labels and regions are scored.  [default: every value found]")
@click.option("--regions", help="brats, none, or a JSON file of regions.  [default: the dataset's own]")
@click.option("--tolerance", "tolerance_mm", type=MILLIMETRES, default=1.0, show_default=True, help="NSD, mm.")
@click.option(
    "--missing",
    type=click.Choice(["refuse", "worst", "skip"]),
    default="refuse",
    show_default=True,
    help="Cases without a usable prediction: fail once the others are scored, score as an empty mask, or leave out.",
)
@assume_orientation
@paint_order
@allow_outside
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Processes at most.  [default: one per core; never more than memory holds]",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    help="Folder for metrics.json and metrics.csv; or one file, x.csv or x.json.",
)
@click.pass_obj
def command(settings: Settings, /, *, output: Path, **options: Any) -> None:
    """Score predictions: DSC, NSD, HD95 and volume error per case and label or region."""
    from tumorseg.reports.tables import missing_text
    from tumorseg.stages.evaluation.evaluate import EvaluateRequest, evaluate

    report = evaluate(EvaluateRequest(roots=roots_of(settings), output=output, stated=stated_of(options), **options))
    lines = [metrics_text(report)]
    if remark := missing_text(report):
        lines.append(remark)
    lines.append(f"written to {output}")
    show(settings, metrics_json(report), "\n".join(lines))
