"""`tumorseg networks describe`."""

from pathlib import Path
from typing import Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import show
from tumorseg.cli.paths import OUTPUT_FILE, PATH


@click.command()
@click.argument("plan_path", metavar="PLAN", type=PATH)
@click.option("--configuration", help="One of the plan's configurations.  [default: all]")
@click.option("--time", "is_timed", is_flag=True, help="Time a training step and a tile on this machine too.")
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FILE,
    metavar="FILE.png|svg|html",
    help="Draw them.",
)
@click.pass_obj
def command(settings: Settings, /, *, plan_path: Path, **options: Any) -> None:
    """Tell what the networks of a plan cost, and what their stages are."""
    from tumorseg.reports.network_tables import described_text, measured_text
    from tumorseg.stages.opening.loaded import read_plan
    from tumorseg.stages.planning.networks import DescribeRequest, describe_networks

    described = describe_networks(DescribeRequest(plan=read_plan(plan_path), **options))
    result = {}
    for name, costs, anatomy in described:
        stages = None if anatomy is None else anatomy.model_dump(mode="json")
        result[name] = {"costs": costs.model_dump(mode="json"), "network": stages}
    lines = [described_text(*one) for one in described] + [measured_text([one.costs for one in described])]
    if options["output"] is not None:
        lines.append(f"written to {options['output']}")
    show(settings, {"configurations": result}, "\n\n".join(lines))
