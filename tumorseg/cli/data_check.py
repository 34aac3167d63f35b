"""`tumorseg data check`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumorseg.cli.main import EXIT_FAILED, Settings
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import OUTPUT, PLACE
from tumorseg.cli.stated import stated_of, stated_options

if TYPE_CHECKING:
    from tumorseg.stages.datasets.check import Checked


@click.command()
@click.option(
    "-d", "--dataset", type=PLACE, required=True, help="Registered name, folder, name below the data root, or manifest."
)
@click.option("--html", type=OUTPUT, help="Write a page with the whole table and pictures of flagged cases.")
@click.option("--fix", type=OUTPUT, help="New folder for a copy in which is mended what needs no guess.")
@stated_options
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: as many as the machine holds]")
@click.pass_obj
def command(settings: Settings, /, **options: Any) -> int:
    """List every problem of every case: files, geometry, intensities, labels, copies, outliers.

    Leaves with 1 if there is an error among them.
    """
    from tumorseg.stages.datasets.check import CheckRequest, check

    done = check(CheckRequest(roots=roots_of(settings), stated=stated_of(options), **options))
    result = {**done.report.model_dump(mode="json"), "fixed": done.fixed}
    show(settings, result, _text(done, options["html"], options["fix"]))
    return EXIT_FAILED if done.report.has_errors else 0


def _text(done: "Checked", html: Path | None, fix: Path | None) -> str:
    """Return the table, what was mended and what was written."""
    from tumorseg.reports.tables import findings_text

    lines = [findings_text(done.report)]
    if fix is not None:
        lines += [f"{file}: {', '.join(what)}" for file, what in done.fixed.items()]
        lines.append(f"{len(done.fixed)} files mended, all others copied; written to {fix}")
    if html is not None:
        lines.append(f"written to {html}")
    return "\n".join(lines)
