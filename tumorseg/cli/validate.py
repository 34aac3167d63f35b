"""`tumorseg validate`."""

from typing import Any

import click

from tumorseg.cli.main import Settings, stoppable
from tumorseg.cli.output import metrics_json, metrics_text, roots_of, show
from tumorseg.cli.paths import PATH, PLACE


@click.command()
@click.option("-m", "--model", type=PATH, required=True, help="One fold's folder.")
@click.option("--device", help="cpu, cuda, cuda:N.  [default: the best there is]")
@click.option("-d", "--dataset", type=PLACE, help="Where the dataset is, if it moved.")
@click.pass_obj
@stoppable
def command(settings: Settings, /, **options: Any) -> None:
    """Predict and score the cases that a fold did not train on."""
    from tumorseg.stages.training.validate import ValidateRequest, validate
    from tumorseg.workers.pages import keep_freed_pages

    keep_freed_pages()
    report = validate(ValidateRequest(roots=roots_of(settings), **options))
    show(settings, metrics_json(report), metrics_text(report))
