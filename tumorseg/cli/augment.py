"""`tumorseg augment`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import OUTPUT, PATH, PLACE

if TYPE_CHECKING:
    from tumorseg.stages.training.augment import Augmented


@click.command()
@click.option("-p", "--plan", "plan_path", type=PATH, required=True, help="The plan.")
@click.option("-d", "--dataset", type=PLACE, help="Where the dataset is, if it moved.")
@click.option("--configuration", help="Which configuration.  [default: the plan's]")
@click.option("--case", "case_id", metavar="ID", help="Which case.  [default: the first one with foreground]")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Another one gives other draws at another place.",
)
@click.option("-o", "--output", type=OUTPUT, metavar="FILE.png|html", required=True, help="The gallery.")
@click.pass_obj
def command(settings: Settings, /, *, plan_path: Path, **options: Any) -> None:
    """Show what a plan's augmentation does to a case: each transform by itself, and samples of all together.

    Nothing but the gallery is written. With --json, everything that was drawn is printed.
    """
    from tumorseg.stages.opening.loaded import read_plan
    from tumorseg.stages.training.augment import AugmentRequest, augment

    done = augment(AugmentRequest(roots=roots_of(settings), plan=read_plan(plan_path), **options))
    names = ", ".join(name for name, _ in done.transforms) or "none"
    text = f"case {done.case_id}, {done.configuration}; transforms: {names}\nwritten to {done.output}"
    show(settings, _json(done), text)


def _json(done: "Augmented") -> dict[str, Any]:
    """Return everything that was drawn."""
    transforms = [{"name": name, "draws": list(draws)} for name, draws in done.transforms]
    samples = []
    for sample in done.samples:
        samples.append([{"name": name, "draw": draw} for name, draw in sample])
    facts = {"output": str(done.output), "case_id": done.case_id, "configuration": done.configuration}
    return {**facts, "transforms": transforms, "samples": samples}
