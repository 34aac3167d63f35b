"""`tumorseg preprocess`."""

from pathlib import Path
from typing import Any

import click

from tumorseg.cli.main import Settings, stoppable
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import PATH, PLACE


@click.command()
@click.option("-p", "--plan", "plan_path", type=PATH, required=True, help="The plan.")
@click.option("--configuration", "configurations", multiple=True, help="May be given often.  [default: all]")
@click.option("-d", "--dataset", type=PLACE, help="Where the dataset is, if it moved.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Processes at most.  [default: one per core; never more than memory holds]",
)
@click.pass_obj
@stoppable
def command(settings: Settings, /, *, plan_path: Path, **options: Any) -> None:
    """Bring every case to the plan's grid; what is there already is left alone."""
    from tumorseg.stages.opening.loaded import read_plan
    from tumorseg.stages.training.preprocess import PreprocessRequest, preprocess

    stored = preprocess(PreprocessRequest(roots=roots_of(settings), plan=read_plan(plan_path), **options))
    counts = {name: len(cases.keys) for name, cases in stored.items()}
    # All configurations of a dataset share one store.
    folder = next(iter(stored.values())).folder
    lines = [f"{name}: {count} cases ready" for name, count in sorted(counts.items())]
    show(settings, {"store": str(folder), "cases": counts}, "\n".join([*lines, f"in {folder}"]))
