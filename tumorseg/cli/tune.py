"""`tumorseg tune`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tumorseg.cli.main import EXIT_CHECKPOINTED, Settings
from tumorseg.cli.names import split_names
from tumorseg.cli.numbers import HOURS
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import OUTPUT, PATH, PLACE

if TYPE_CHECKING:
    from tumorseg.schema.tuning import TuningResult
    from tumorseg.stages.tuning.tune import Tuned

POSITIVE = click.IntRange(min=1)
OBJECTIVES = ("dsc", "nsd", "hd95", "seconds")
OF_A_WORKER = ("worker", "device", "dataset")
"""Options that go with --worker; whatever else shapes a study stands in its folder."""
OF_A_GAIN = ("gain", "95 % interval", "adjusted p", "is a gain")
"""Columns of which the plan as it was has nothing."""


class Objectives(click.ParamType[tuple[str, ...]]):
    """Option type for a list of objectives."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the objectives, each once."""
        if isinstance(value, tuple):
            return value
        names = split_names(str(value))
        if not names or set(names) - set(OBJECTIVES) or len(set(names)) < len(names):
            self.fail(
                f"{value!r}: expected some of {', '.join(OBJECTIVES)}, each once, separated by commas.", param, ctx
            )
        return names


class Folds(click.ParamType[tuple[int, ...]]):
    """Option type for a list of folds by number."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers, each once."""
        if isinstance(value, tuple):
            return value
        names = split_names(str(value))
        numbers = tuple(int(name) for name in names if name.isdecimal())
        if not names or len(numbers) < len(names) or len(set(numbers)) < len(numbers):
            self.fail(f"{value!r}: expected numbers of folds, each once, such as 1 or 0,1.", param, ctx)
        return numbers


@click.command()
@click.option("-p", "--plan", "plan_path", type=PATH, help="The plan to refine.")
@click.option("--configuration", help="[default: the plan's]")
@click.option("--trials", type=POSITIVE, help="Trials at most; this or --hours, or both.")
@click.option("--hours", type=HOURS, help="Time for all of it, the final trainings that judge included.")
@click.option(
    "--objectives",
    type=Objectives(),
    default="dsc",
    show_default=True,
    metavar="A,B",
    help="Some of dsc, nsd, hd95 and seconds (of predicting a case); the first decides about the new plan.",
)
@click.option(
    "--sampler",
    type=click.Choice(["tpe", "gp", "nsga2", "random"]),
    default="tpe",
    show_default=True,
    help="Who draws.",
)
@click.option(
    "--pruner",
    type=click.Choice(["median", "hyperband", "none"]),
    default="median",
    show_default=True,
    help="Who stops trials that fall behind.",
)
@click.option(
    "--space",
    default="loss,optimizer,augmentation,sampling",
    show_default=True,
    metavar="A,B|FILE",
    help="What may change: some of loss, optimizer, augmentation, network and sampling, or a JSON file of your own.",
)
@click.option(
    "--proxy-iterations",
    type=POSITIVE,
    help="Steps of a trial.  [default: what the time allows, else a hundredth of the planned steps]",
)
@click.option(
    "--final-iterations",
    type=POSITIVE,
    help="Steps of each training that judges.  [default: twice as many, but no more than planned]",
)
@click.option("--study", metavar="NAME", help="[default: the plan's name]")
@click.option(
    "--storage", metavar="URL", help="Database for the study, such as postgresql://…  [default: a file in its folder]"
)
@click.option("--jobs", type=POSITIVE, default=1, show_default=True, help="Workers on this machine.")
@click.option(
    "--folds",
    "judges",
    type=Folds(),
    metavar="1,2",
    help="Folds whose held-out cases judge in the end, and enter no trial.  [default: 1; 0 where there is no other]",
)
@click.option(
    "--spare",
    "spared",
    type=Folds(),
    default=(),
    show_default=False,
    metavar="0",
    help="Folds whose held-out cases enter no trial either.",
)
@click.option("--seed", type=click.IntRange(min=0, max=2**32 - 1), default=0, show_default=True, help="Of the study.")
@click.option("--device", help="cpu, cuda, cuda:N.  [default: the best there is]")
@click.option("-d", "--dataset", type=PLACE, help="Where the dataset is, if it moved.")
@click.option(
    "--mlflow",
    metavar="URI",
    envvar="TUMORSEG_MLFLOW",
    help="MLflow to mirror it to.  [default: mlflow.db in the work folder]",
)
@click.option("--no-mlflow", is_flag=True, help="Do not mirror it to MLflow.")
@click.option(
    "-o", "--output", type=OUTPUT, metavar="PLAN", help="The new plan.  [default: beside PLAN, <its name>__tuned.json]"
)
@click.option("--force", is_flag=True, help="Replace whatever the new plan's file holds.")
@click.option(
    "--worker",
    type=PATH,
    metavar="STUDY_FOLDER",
    help="Work for a study that another process runs, on any machine that shares its folder.",
)
@click.pass_context
def command(context: click.Context, /, *, worker: Path | None, **options: Any) -> int:
    """Refine a plan's loss, optimizer, augmentation and more by short trainings, and write a child plan.

    What the trials found is trained again and judged against the plan as it was, on cases that no trial has seen: the child plan has
    new values only where they gained. The same command goes on after an interruption.
    """
    settings: Settings = context.obj
    if worker is not None:
        _refuse_others(context)
        return _work(settings, worker, options["device"], options["dataset"])
    return _tune(settings, options)


def _refuse_others(context: click.Context) -> None:
    """Refuse options that a worker would ignore."""
    given = []
    for parameter in context.command.params:
        name = str(parameter.name)
        if name not in OF_A_WORKER and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            given.append(max(parameter.opts, key=len))
    if given:
        raise click.UsageError(
            f"--worker takes all but --device and --dataset from the study; leave out {', '.join(given)}."
        )


def _work(settings: Settings, folder: Path, device: str | None, dataset: str | None) -> int:
    from tumorseg.stages.tuning.tune import work_on
    from tumorseg.workers.pages import keep_freed_pages

    keep_freed_pages()
    return work_on(folder, roots=roots_of(settings), device=device, dataset=dataset)


def _tune(settings: Settings, options: dict[str, Any]) -> int:
    if options["plan_path"] is None:
        raise click.UsageError("give -p PLAN, or --worker STUDY_FOLDER.")
    if options["trials"] is None and options["hours"] is None:
        raise click.UsageError("give --trials or --hours, or both.")
    from tumorseg.stages.opening.loaded import read_plan
    from tumorseg.stages.tuning.child import child_path
    from tumorseg.stages.tuning.request import TuneRequest
    from tumorseg.stages.tuning.tune import tune
    from tumorseg.workers.pages import keep_freed_pages

    keep_freed_pages()
    plan_path: Path = options.pop("plan_path")
    plan = read_plan(plan_path)
    options["space"] = _space(options["space"])
    options["mlflow"] = _mlflow(settings, options["mlflow"], is_off=options.pop("no_mlflow"))
    options["output"] = options["output"] or child_path(plan_path)
    tuned = tune(TuneRequest(roots=roots_of(settings), plan=plan, **options))
    show(settings, _json(tuned), _text(tuned))
    return 0 if tuned.is_finished else EXIT_CHECKPOINTED


def _space(text: str) -> Any:
    """Return names of families as they are, and what a file holds as JSON."""
    from tumorseg.errors import PlanError
    from tumorseg.storage.json_files import read_json

    is_file = text.lower().endswith(".json") or os.path.isfile(text)  # noqa: PTH113 (names may be no path at all)
    return read_json(Path(text), PlanError) if is_file else text


def _mlflow(settings: Settings, uri: str | None, *, is_off: bool) -> str | None:
    from tumorseg.stages.tracking.mirror import default_uri

    if is_off or uri == "off":
        return None
    return uri or default_uri(settings.work)


def _json(tuned: "Tuned") -> dict[str, Any]:
    """Return what programs are told."""
    found: dict[str, Any] = {"is_finished": tuned.is_finished, "output": None, "report": None}
    if tuned.result is None:
        return found
    told = {"judged", "verdicts", "chosen", "claim", "seconds", "pareto"}
    states = [trial.state for trial in tuned.result.trials]
    counts = {state: states.count(state) for state in ("finished", "pruned", "failed")}
    found |= {"output": str(tuned.output), "report": str(tuned.report), "trials": counts}
    return found | tuned.result.model_dump(mode="json", include=told)


def _text(tuned: "Tuned") -> str:
    """Return what people are told."""
    from tumorseg.reports.tables import terminal_table

    if tuned.result is None:
        return "stopped by a signal after a checkpoint; the same command goes on"
    written = f"child plan written to {tuned.output}\nreport written to {tuned.report}"
    columns = ("plan", tuned.result.study.objectives[0], *OF_A_GAIN)
    table = terminal_table(_rows(tuned.result), columns)
    return "\n\n".join(filter(None, [table, tuned.result.claim, written]))


def _rows(result: "TuningResult") -> list[dict[str, object]]:
    """Return a row for the plan as it was, and one for each candidate."""
    from tumorseg.reports.tuning_words import difference_text, value_text

    first = result.study.objectives[0]
    verdicts = {verdict.number: verdict for verdict in result.verdicts}
    rows: list[dict[str, object]] = []
    for judged in result.judged:
        row: dict[str, object] = {"plan": judged.title, first: value_text(first, judged.mean)}
        verdict = verdicts.get(judged.number)
        if verdict is not None:
            bounds = [difference_text(first, bound) for bound in verdict.ci95 or ()]
            row |= {"gain": difference_text(first, verdict.gain), "95 % interval": " to ".join(bounds) or None}
            row |= {"adjusted p": verdict.p_holm, "is a gain": "yes" if verdict.is_gain else "no"}
        rows.append(row)
    return rows
