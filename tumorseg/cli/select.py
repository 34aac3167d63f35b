"""`tumorseg select`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import OUTPUT, PATH, PLACE

if TYPE_CHECKING:
    from tumorseg.stages.selection.select import SelectedModel


@click.command()
@click.option(
    "-p",
    "--plan",
    "plan_paths",
    type=PATH,
    multiple=True,
    required=True,
    help="Plan whose trainings may become members; may be given often.",
)
@click.option(
    "--configuration",
    "configurations",
    multiple=True,
    help="One that may become a member; may be given often.  [default: all that are trained]",
)
@click.option(
    "--cache-gb",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    metavar="G",
    help="GB for probabilities of the dataset's cases, below the work folder; what does not fit is computed again for each pass.",
)
@click.option("--device", help="cpu, cuda, cuda:N.  [default: the best there is]")
@click.option("-d", "--dataset", type=PLACE, help="Where the dataset is, if it moved.")
@click.option("-o", "--output", type=OUTPUT, required=True, help="Model folder to make, which predict takes.")
@click.pass_obj
def command(settings: Settings, /, *, plan_paths: tuple[Path, ...], **options: Any) -> None:
    """Find the best combination of trained models on cases that they did not see, and make one model of it.

    Each case is predicted by the folds that held it out. Members, weights, thresholds and postprocessing are chosen on all parts of the
    cases but one, and measured on that one, in turn: what is gained is told with an interval, and claimed only where it holds.
    """
    from tumorseg.stages.opening.loaded import read_plan
    from tumorseg.stages.selection.select import SelectRequest, select
    from tumorseg.workers.pages import keep_freed_pages

    keep_freed_pages()
    plans = tuple(read_plan(path) for path in plan_paths)
    selected = select(SelectRequest(roots=roots_of(settings), plans=plans, **options))
    show(settings, _result(selected), _text(selected))


def _result(selected: "SelectedModel") -> dict[str, Any]:
    """Return what programs are told."""
    found = selected.selection
    return {
        "output": str(selected.output),
        "is_new": selected.is_new,
        "choice": found.choice.model_dump(mode="json"),
        "combination": found.combination.model_dump(mode="json"),
        "gain": found.gain.model_dump(mode="json"),
        "claim": found.claim,
    }


def _text(selected: "SelectedModel") -> str:
    """Return what people are told."""
    from tumorseg.reports.tables import terminal_table

    found = selected.selection
    rows = []
    for gain in found.gains:
        interval = f"{gain.ci95[0]:+.4f} to {gain.ci95[1]:+.4f}" if gain.ci95 else None
        figures = {"best single": gain.baseline, "chosen": gain.selected, "gain": f"{gain.gain:+.4f}"}
        rows.append({"name": gain.name or "mean", **figures, "95 % interval": interval})
    ending = "written to" if selected.is_new else "nothing to do; it was chosen before, and is in"
    lines = [terminal_table(rows), found.claim, f"chosen: {found.choice.text}", f"{ending} {selected.output}"]
    return "\n\n".join(lines)
