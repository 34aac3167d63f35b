"""`tumorseg plan diff`."""

from pathlib import Path

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import show
from tumorseg.cli.paths import PATH


@click.command()
@click.argument("before", metavar="A", type=PATH)
@click.argument("after", metavar="B", type=PATH)
@click.pass_obj
def command(settings: Settings, /, *, before: Path, after: Path) -> None:
    """Tell field by field what differs between two plans, and by which rules.

    Their names make no difference. Leaves with 0 whether they differ or not; `--json` holds `is_same`.
    """
    from tumorseg.planning.reading.difference import diff_plans
    from tumorseg.reports.difference import diff_text
    from tumorseg.stages.opening.loaded import read_plan

    found = diff_plans(read_plan(before), read_plan(after))
    show(settings, {**found.model_dump(mode="json"), "is_same": found.is_same}, diff_text(found))
