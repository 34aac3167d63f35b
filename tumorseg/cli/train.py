"""`tumorseg train`."""

from pathlib import Path
from typing import Any

import click

from tumorseg.cli.main import Settings, stoppable
from tumorseg.cli.training_options import is_launched, show_trained, train_request, training_options


@click.command()
@training_options
@click.pass_obj
@stoppable
def command(settings: Settings, /, *, plan_path: Path, **options: Any) -> int:
    """Train one fold to its planned end; the same command goes on after an interruption."""
    code = is_launched(settings, options)
    if code is not None:
        return code
    from tumorseg.stages.opening.loaded import read_plan
    from tumorseg.stages.training.train import train

    return show_trained(settings, train(train_request(settings, read_plan(plan_path), options)))
