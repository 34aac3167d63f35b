"""`tumorseg cross-evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumorseg.cli.main import EXIT_CHECKPOINTED, Settings, stoppable
from tumorseg.cli.measures import lesions_of, lesions_option, metrics_option, tolerance_option, tolerances_of
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import OUTPUT, PATH, PLACE
from tumorseg.cli.stated import allow_outside, assume_orientation, paint_order, stated_of

if TYPE_CHECKING:
    from tumorseg.schema.score_rules import ScoreRules


class ShardType(click.ParamType[tuple[int, int]]):
    """Option type for `i/n`, from 1/n to n/n."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return the number of the share, and how many there are."""
        if isinstance(value, tuple):
            return value
        number, _, count = str(value).partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            self.fail(f"{value!r} is no share; expected i/n with i from 1 to n, such as 1/4.", param, ctx)
        return int(number), int(count)


@click.command()
@click.option(
    "-m", "--model", "models", type=PATH, multiple=True, help="Model folder, or one fold's; may be given often."
)
@click.option(
    "-d",
    "--dataset",
    "datasets",
    type=PLACE,
    multiple=True,
    help="Dataset to test on, as everywhere; may be given often.",
)
@click.option(
    "--missing-channels",
    type=click.Choice(["refuse", "zero", "mean"]),
    default="refuse",
    show_default=True,
    help="Where a dataset lacks a channel: refuse the cell; or after normalisation put 0, or the mean of the others, in its place.",
)
@click.option("--labels", type=PATH, help="JSON file: which labels of the datasets are the same.")
@metrics_option
@tolerance_option
@lesions_option
@click.option(
    "--leave-out",
    type=click.Choice(["site", "dataset"]),
    help="Train without each site, or each dataset of a pool, and test on it; needs -p.",
)
@click.option("-p", "--plan", "plan_path", type=PATH, help="Plan of the whole dataset, for --leave-out.")
@click.option("--drop-channels", is_flag=True, help="Leave channels out in turn, to see what each is worth.")
@click.option(
    "--shard", type=ShardType(), metavar="I/N", help="This process's share of the cells; each starts with its own."
)
@click.option("--device", help="cpu, cuda, cuda:N.  [default: the best there is]")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes that read and score at most.")
@assume_orientation
@paint_order
@allow_outside
@click.option(
    "-o", "--output", type=OUTPUT, required=True, help="Folder for cross.json, cross.csv, report.html and cells."
)
@click.pass_obj
@stoppable
def command(settings: Settings, /, *, plan_path: Path | None, shard: tuple[int, int] | None, **options: Any) -> int:
    """Test every model on every dataset: channels and labels are matched by what they mean; done cells are left alone."""
    from tumorseg.reports.crossing_tables import crossing_text
    from tumorseg.stages.crossing.cross_evaluate import cross_evaluate
    from tumorseg.stages.crossing.request import CrossEvaluateRequest, Shard
    from tumorseg.stages.opening.loaded import read_plan
    from tumorseg.workers.pages import keep_freed_pages

    keep_freed_pages()
    stated = stated_of(options)
    scoring = _rules(options.pop("metrics"), options.pop("tolerances"), options.pop("lesions"))
    request = CrossEvaluateRequest(
        roots=roots_of(settings),
        plan=None if plan_path is None else read_plan(plan_path),
        shard=None if shard is None else Shard(number=shard[0], count=shard[1]),
        scoring=scoring,
        stated=stated,
        **options,
    )
    crossed = cross_evaluate(request)
    result = {
        "output": str(crossed.output),
        "num_waiting": crossed.num_waiting,
        "report": None if crossed.report is None else crossed.report.model_dump(mode="json"),
    }
    if crossed.report is not None:
        text = f"{crossing_text(crossed.report)}\n\nwritten to {crossed.output}"
    elif crossed.is_stopped:
        text = "stopped by a signal after a checkpoint; the same command goes on"
    else:
        text = f"{crossed.num_waiting} cells are left to other shards; the last one writes the report"
    show(settings, result, text)
    return EXIT_CHECKPOINTED if crossed.is_stopped else 0


def _rules(metrics: tuple[str, ...], tolerances: Any, lesions: str | None) -> "ScoreRules":
    """Return how masks are scored."""
    from tumorseg.schema.score_rules import ScoreRules

    chosen: dict[str, Any] = {"metrics": metrics} if metrics else {}
    return ScoreRules(**chosen, **tolerances_of(tolerances), **lesions_of(lesions))
