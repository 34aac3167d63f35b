"""`tumorseg predict`."""

from typing import Any

import click

from tumorseg.cli.main import Settings, stoppable
from tumorseg.cli.output import show
from tumorseg.cli.prediction_options import (
    fields_of,
    files_options,
    models_option,
    predicted_json,
    predicted_text,
    prediction_options,
)


@click.command()
@models_option("Model folder or fold's folder; several of one model are averaged. Or a saved ensemble's folder.")
@files_options(required=True)
@click.option(
    "--budget",
    metavar="TIME",
    help="Predict in the best way that keeps this time for every case, as 20s or 1.5min; for models that `select` made.",
)
@prediction_options
@click.pass_obj
@stoppable
def command(settings: Settings, /, **options: Any) -> None:
    """Segment images; each result lies on its input's own grid. Cases that are done already are left alone."""
    from tumorseg.stages.inference.predict import PredictRequest, predict
    from tumorseg.workers.pages import keep_freed_pages

    keep_freed_pages()
    predicted = predict(PredictRequest(**fields_of(settings, options), **options))
    show(settings, predicted_json(predicted), predicted_text(predicted))
