"""`tumorseg validate`."""

from pathlib import Path
from typing import Any

import click

from tumorseg.cli.main import Settings, stoppable
from tumorseg.cli.output import metrics_json, metrics_text, roots_of, show


@click.command()
@click.option("-m", "--model", type=click.Path(path_type=Path), required=True, help="One fold's folder.")
@click.option("--device", help="cpu, cuda, cuda:N.  [default: the best there is]")
@click.option("-d", "--dataset", help="Where the dataset is, if it moved.")
@click.pass_obj
@stoppable
def command(settings: Settings, /, **options: Any) -> None:
    """Predict and score the cases that a fold did not train on."""
    from tumorseg.stages.training.validate import ValidateRequest, validate
    from tumorseg.workers.pages import keep_freed_pages

    keep_freed_pages()
    report = validate(ValidateRequest(roots=roots_of(settings), **options))
    show(settings, metrics_json(report), metrics_text(report))
