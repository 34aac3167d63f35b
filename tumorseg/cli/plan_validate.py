"""`tumorseg plan validate`."""

from pathlib import Path

import click

from tumorseg.cli.main import EXIT_FAILED, Settings
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import PATH, PLACE


@click.command()
@click.argument("plan_path", metavar="PLAN", type=PATH)
@click.option("-d", "--dataset", type=PLACE, help="Where the dataset is.  [default: where `plan` read it]")
@click.option("--no-data", is_flag=True, help="Look at the plan alone.")
@click.pass_obj
def command(settings: Settings, /, *, plan_path: Path, dataset: str | None, no_data: bool) -> int:
    """List everything that is wrong with a plan, and whether the dataset on disk is still the one it was made for.

    Leaves with 1 if there is an error among them.
    """
    from tumorseg.reports.tables import plan_findings_text
    from tumorseg.stages.planning.validate_plan import ValidatePlanRequest, validate_plan

    if no_data and dataset is not None:
        raise click.UsageError("--no-data looks at no dataset; leave out -d, or --no-data.")
    request = ValidatePlanRequest(roots=roots_of(settings), plan=plan_path, dataset=dataset, with_data=not no_data)
    report = validate_plan(request)
    show(settings, report.model_dump(mode="json"), plan_findings_text(report))
    return EXIT_FAILED if report.has_errors else 0
