"""`tumorseg ensemble`."""

import math
from typing import TYPE_CHECKING, Any

import click

from tumorseg.cli.main import Settings, stoppable
from tumorseg.cli.output import show
from tumorseg.cli.paths import OUTPUT
from tumorseg.cli.prediction_options import (
    fields_of,
    files_options,
    models_option,
    predicted_json,
    predicted_text,
    prediction_options,
)

if TYPE_CHECKING:
    from tumorseg.stages.inference.ensemble import Combined


class Weights(click.ParamType[tuple[float, ...]]):
    """Option type for a list of weights."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Return the weights."""
        if isinstance(value, tuple):
            return value
        try:
            weights = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            weights = (math.nan,)
        if not all(0 <= weight < math.inf for weight in weights):
            self.fail(f"{value!r}: expected numbers of at least 0, separated by commas.", param, ctx)
        return weights


@click.command()
@models_option(
    "Model folder or fold's folder; may be given often. The first one leads: masks lie on the grid that it reads."
)
@files_options(required=False)
@click.option(
    "--method",
    type=click.Choice(["mean", "weighted", "vote", "staple"]),
    default="mean",
    show_default=True,
    help="Of probabilities the mean, or by weight; of each model's own decision the vote; of masks SimpleITK's STAPLE.",
)
@click.option(
    "--weights",
    type=Weights(),
    default=(),
    show_default=False,
    metavar="2,1",
    help="One for each model, for weighted and vote.  [default: weighted: out-of-fold DSC of each label; vote: all alike]",
)
@click.option(
    "--save", type=OUTPUT, metavar="MODEL", help="Keep the ensemble as one model, a folder that predict takes."
)
@prediction_options
@click.pass_obj
@stoppable
def command(settings: Settings, /, **options: Any) -> None:
    """Segment images with several models together, or keep these as one model; or both."""
    from tumorseg.stages.inference.ensemble import EnsembleRequest, ensemble
    from tumorseg.workers.pages import keep_freed_pages

    if bool(options["inputs"]) != (options["output"] is not None):
        raise click.UsageError("give both -i and -o, or neither of them and --save.")
    if options["output"] is None and options["save"] is None:
        raise click.UsageError("give -i and -o, or --save, or all of them.")
    keep_freed_pages()
    done = ensemble(EnsembleRequest(**fields_of(settings, options), **options))
    show(settings, _json(done), _text(done))


def _json(done: "Combined") -> dict[str, Any]:
    found = {"models": list(done.models), "combination": done.combination.model_dump(mode="json")}
    if done.saved is not None:
        found["saved"] = str(done.saved)
    return found if done.predicted is None else found | predicted_json(done.predicted)


def _text(done: "Combined") -> str:
    lines = [f"{done.combination.method} of {', '.join(done.models)}"]
    for name, weights in done.combination.weights.items():
        lines.append(f"{name}: weights {', '.join(f'{weight:.4g}' for weight in weights)}")
    if done.saved is not None:
        lines.append(f"saved as {done.saved}")
    if done.predicted is not None:
        lines.append(predicted_text(done.predicted))
    return "\n".join(lines)
