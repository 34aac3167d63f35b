"""`tumorseg distill`."""

from pathlib import Path
from typing import Any

import click

from tumorseg.cli.main import Settings, stoppable
from tumorseg.cli.paths import OUTPUT, PATH
from tumorseg.cli.training_options import is_launched, show_trained, train_request, training_options

LESSONS = ("weight", "temperature", "hints")
OWN = ("teachers", "unlabelled", "cache_gb", "output")
"""Options that are no training's."""


@click.command()
@click.option(
    "-m",
    "--teacher",
    "teachers",
    type=PATH,
    multiple=True,
    required=True,
    help="A model (ours or nnU-Net's), one fold's folder, or a saved ensemble; may be given again. None may have seen what the fold holds out.",
)
@click.option(
    "--weight",
    type=click.FloatRange(min=0, max=1, min_open=True),
    help="Share of the teachers' term in the loss.  [default: 0.5]",
)
@click.option("--temperature", type=click.FloatRange(min=1), help="Of teachers and student in it.  [default: 2]")
@click.option(
    "--hints/--no-hints", default=None, help="Draw the student's last features to those of the first teacher."
)
@click.option(
    "--unlabelled",
    type=PATH,
    multiple=True,
    help="Images to learn from without a reference, as predict's -i takes them; weighted by how well teachers agree about each.",
)
@click.option(
    "--cache-gb",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    metavar="G",
    help="GB for what teachers find in whole cases, below the work folder, where they cannot look at the student's patches.",
)
@click.option(
    "-o",
    "--output",
    type=OUTPUT,
    help="The student's own plan.  [default: NAME__distilled.json beside the plan that is given]",
)
@training_options
@click.pass_obj
@stoppable
def command(settings: Settings, /, *, plan_path: Path, **options: Any) -> int:
    """Train one fold of a plan that learns from trained models too; the same command goes on after an interruption.

    Models of the same fold that were trained with other seeds, networks or configurations may teach: all others have seen cases that the fold
    holds out, and are refused.
    """
    code = is_launched(settings, options)
    if code is not None:
        return code
    from tumorseg.stages.distillation.distill import DistillRequest, distill
    from tumorseg.stages.distillation.student import LessonOptions
    from tumorseg.stages.opening.loaded import read_plan

    lessons = LessonOptions(**{name: options.pop(name) for name in LESSONS})
    own = {name: options.pop(name) for name in OWN}
    request = train_request(settings, read_plan(plan_path), options)
    return show_trained(
        settings, distill(DistillRequest(training=request, plan_path=plan_path, lessons=lessons, **own))
    )
