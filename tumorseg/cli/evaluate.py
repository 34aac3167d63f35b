"""`tumorseg evaluate`."""

from typing import TYPE_CHECKING, Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.measures import lesions_option, metrics_option, tolerance_option, tolerances_of
from tumorseg.cli.output import (
    comparison_text,
    metrics_json,
    metrics_text,
    ranking_text,
    roots_of,
    show,
    subgroups_text,
)
from tumorseg.cli.paths import OUTPUT, PATH, PLACE
from tumorseg.cli.stated import allow_outside, assume_orientation, paint_order, stated_of

if TYPE_CHECKING:
    from tumorseg.schema.metrics import MetricsReport

SUMMARY = ("metrics", "intervals", "cluster", "subgroups", "table")
"""Options that hold for tables as for images."""


@click.command()
@click.option("-i", "--predictions", type=PATH, multiple=True, help="Files or folders to score.")
@click.option("-r", "--references", type=PATH, multiple=True, help="Files or folders to score against.")
@click.option(
    "--from",
    "tables",
    type=PATH,
    multiple=True,
    help="Instead of -i and -r: metrics.json or CSV of a model's scores; given often, the models are ranked.",
)
@click.option("--against", type=PATH, help="Other predictions, metrics.json or CSV to compare with, case by case.")
@click.option("-d", "--dataset", type=PLACE, help="Whose labels and regions are scored.  [default: every value found]")
@click.option("--regions", type=PLACE, help="brats, none, or a JSON file of regions.  [default: the dataset's own]")
@click.option("--labels", type=PATH, help="JSON file: which labels of predictions and references are the same.")
@metrics_option
@tolerance_option
@lesions_option
@click.option(
    "--missing",
    type=click.Choice(["refuse", "worst", "skip"]),
    help="Cases without a usable prediction: fail once the others are scored, score as an empty mask, or leave out.  [default: refuse]",
)
@click.option(
    "--resample", type=click.Choice(["nearest"]), help="Bring predictions on other grids onto their references'."
)
@click.option(
    "--intervals",
    type=click.Choice(["percentile", "bca", "studentised"]),
    help="Which bootstrap gives the 95 % intervals.",
)
@click.option(
    "--cluster",
    metavar="COLUMN",
    help="Draw cases that share its value as wholes; `none`: each by itself.  [default: group, where known]",
)
@click.option(
    "--subgroups",
    multiple=True,
    metavar="COLUMN",
    help="Summarise by site, group, size, any column; age=40,60 states edges; may be given often.",
)
@click.option("--table", type=PATH, help="CSV with case_id and further columns for --subgroups and --cluster.")
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
    type=OUTPUT,
    help="Folder for metrics.json, metrics.csv and report.html; or one file, x.csv or x.json. Need not be given with --from.",
)
@click.pass_obj
def command(settings: Settings, /, **options: Any) -> None:
    """Score predictions per case and label or region, and compare models.

    DSC, NSD, HD95 and volume error by default, with confidence intervals, subgroups, and tests between two models.
    """
    # What is not given is left to the request's own defaults.
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if "tables" in given:
        _compare(settings, given)
    else:
        _score(settings, given)


def _score(settings: Settings, given: dict[str, Any]) -> None:
    from tumorseg.stages.evaluation.evaluate import EvaluateRequest, evaluate_against

    for flag, name in (("-i", "predictions"), ("-r", "references"), ("-o", "output")):
        if name not in given:
            raise click.UsageError(f"Missing option {flag}; or give --from for scores that were written before.")
    stated = stated_of(given)
    tolerances = tolerances_of(given.pop("tolerances", ()))
    request = EvaluateRequest(roots=roots_of(settings), stated=stated, **tolerances, **given)
    found = evaluate_against(request)
    lines = [_report_text(found.metrics)]
    result = metrics_json(found.metrics)
    if found.comparison is not None:
        lines.append(comparison_text(found.comparison))
        result["comparison"] = found.comparison.model_dump(mode="json")
    show(settings, result, "\n\n".join([*lines, f"written to {request.output}"]))


def _compare(settings: Settings, given: dict[str, Any]) -> None:
    from tumorseg.stages.evaluation.comparing import CompareRequest, compare_scores

    for name in ("paint_order", "allow_outside"):
        if not given[name]:
            del given[name]
    known = {"tables", "against", "output", *SUMMARY}
    if others := sorted(given.keys() - known):
        raise click.UsageError(f"--from takes no images, so that {_flags(others)} mean nothing beside it.")
    found = compare_scores(CompareRequest(**given))
    result: dict[str, Any] = {"reports": {name: metrics_json(report) for name, report in found.reports.items()}}
    lines = [f"{name}\n{_report_text(report)}" for name, report in found.reports.items()]
    if found.comparison is not None:
        lines.append(comparison_text(found.comparison))
        result["comparison"] = found.comparison.model_dump(mode="json")
    if found.ranking is not None:
        lines.append(ranking_text(found.ranking))
        result["ranking"] = found.ranking.model_dump(mode="json")
    if "output" in given:
        lines.append(f"written to {given['output']}")
    show(settings, result, "\n\n".join(lines))


def _flags(names: list[str]) -> str:
    flags = {"predictions": "-i", "references": "-r", "dataset": "-d", "tolerances": "--tolerance"}
    flags["assumed_orientation"] = "--assume-orientation"
    return ", ".join(flags.get(name, f"--{name.replace('_', '-')}") for name in names)


def _report_text(report: "MetricsReport") -> str:
    """Return the tables of scores, and what to bear in mind."""
    from tumorseg.reports.tables import missing_text

    lines = [metrics_text(report), *report.warnings]
    if remark := missing_text(report):
        lines.append(remark)
    if table := subgroups_text(report):
        lines += ["", table]
    return "\n".join(lines)
