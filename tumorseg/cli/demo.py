"""`tumorseg demo`."""

from typing import Any

import click

from tumorseg.cli.main import Settings, stoppable
from tumorseg.cli.output import metrics_json, metrics_text, roots_of, show


@click.command()
@click.option(
    "--cases", "num_cases", type=click.IntRange(min=5), default=16, show_default=True, help="Phantoms to make."
)
@click.option("--epochs", type=click.IntRange(min=1), help="[default: enough for a good result in minutes]")
@click.option("--device", help="cpu, cuda, cuda:N.  [default: the best there is]")
@click.pass_obj
@stoppable
def command(settings: Settings, /, **options: Any) -> None:
    """Make a phantom dataset, then plan, preprocess, train, predict, evaluate and report."""
    from tumorseg.stages.demo import DemoRequest, demo

    done = demo(DemoRequest(roots=roots_of(settings), **options))
    result = {"report": str(done.report), "metrics": metrics_json(done.metrics)}
    show(settings, result, f"{metrics_text(done.metrics)}\nreport: {done.report}")
