"""`tumorseg plan import`."""

from typing import Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import FILE, OUTPUT_FILE
from tumorseg.cli.plan import describe


@click.command("import")
@click.argument("plans", type=FILE, metavar="nnUNetPlans.json")
@click.option(
    "--dataset-json", type=FILE, help="dataset.json of the same dataset.  [default: the one beside the plans]"
)
@click.option(
    "-c", "--configuration", "configurations", multiple=True, help="Import only this one; may be given often."
)
@click.option("--splits", type=FILE, help="JSON file of folds.  [default: splits_final.json beside the plans, if any]")
@click.option("-o", "--output", type=OUTPUT_FILE, help="Where to write.  [default: plans/<Dataset>__<plans>.json]")
@click.option("--force", is_flag=True, help="Replace a plan that was edited or is of another dataset.")
@click.pass_obj
def command(settings: Settings, /, **options: Any) -> None:
    """Write nnU-Net v2's plans as a plan; what a plan cannot express is refused."""
    from tumorseg.stages.planning.import_plan import PlanImportRequest, import_nnunet_plan

    written = import_nnunet_plan(PlanImportRequest(roots=roots_of(settings), **options))
    result = {"path": str(written.path), "plan": written.plan.model_dump(mode="json")}
    show(settings, result, f"{describe(written.plan)}\nwritten to {written.path}")
