"""Options that every verb has which trains a fold, and what becomes of them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tumorseg.cli.main import EXIT_CHECKPOINTED, Settings, tell_stopped
from tumorseg.cli.numbers import HOURS
from tumorseg.cli.output import metrics_json, metrics_text, roots_of, show
from tumorseg.cli.paths import PATH, PLACE

if TYPE_CHECKING:
    from tumorseg.schema.plan import Plan
    from tumorseg.stages.training.request import Trained, TrainRequest

F = TypeVar("F", bound=Callable[..., Any])

OVERRIDES = ("epochs", "iterations", "max_hours", "seed")

GIVEN = (
    click.option("-p", "--plan", "plan_path", type=PATH, required=True, help="The plan."),
    click.option("--fold", required=True, help="Number of the fold, or all: every case, no validation."),
    click.option("--configuration", help="[default: the plan's]"),
    click.option(
        "--epochs",
        type=click.IntRange(min=1),
        help="Instead of the plan's; more than a finished training has make it longer.",
    ),
    click.option("--iterations", type=click.IntRange(min=1), help="Steps in an epoch, instead of the plan's."),
    click.option("--max-hours", type=HOURS, help="Instead of a number of epochs."),
    click.option("--seed", type=click.IntRange(min=0, max=2**63 - 1), help="Instead of the plan's."),
    click.option("--device", help="cpu, cuda, cuda:N.  [default: the best there is]"),
    click.option("--validation", type=click.Choice(["full", "none"]), default="full", show_default=True),
    click.option("--num-gpus", type=click.IntRange(min=1), help="Processes that train together; on the CPU too."),
    click.option(
        "--init",
        type=PATH,
        help="Begin with the weights of a model (ours or nnU-Net's), or of a file (.ckpt, .pth, .pt, .safetensors).",
    ),
    click.option("--restart", is_flag=True, help="Move an earlier training aside and start again."),
    click.option("-d", "--dataset", type=PLACE, help="Where the dataset is, if it moved."),
    click.option(
        "--mlflow",
        metavar="URI",
        envvar="TUMORSEG_MLFLOW",
        help="MLflow to mirror it to.  [default: mlflow.db in the work folder]",
    ),
    click.option("--no-mlflow", is_flag=True, help="Do not mirror it to MLflow."),
    click.option("--jobs", type=click.IntRange(min=1), help="Processes for preprocessing at most."),
    click.option(
        "--num-workers",
        type=click.IntRange(min=0),
        help="Threads that read and augment beside the steps; 0: each batch when it is needed.  [default: as many as cores and memory allow]",
    ),
)


def training_options(command: F) -> F:
    """Give a verb the options of a training."""
    # The last one is applied first, so that help lists them in their order.
    for option in reversed(GIVEN):
        command = option(command)
    return command


def is_launched(settings: Settings, options: dict[str, Any]) -> int | None:
    """Start the processes of a training and return its exit code; None in the one that trains. Takes `num_gpus` out of the options."""
    from tumorseg.stages.training.launching import launch
    from tumorseg.stages.training.ranks import is_member

    num_processes = options.pop("num_gpus")
    if (num_processes or 1) > 1 and not is_member():
        return launch(settings.arguments, num_processes)
    return None


def train_request(settings: Settings, plan: "Plan", options: dict[str, Any]) -> "TrainRequest":
    """Return what the options of a training ask for."""
    from tumorseg.stages.opening.fold_folders import TrainOptions
    from tumorseg.stages.tracking.mirror import default_uri
    from tumorseg.stages.training.request import TrainRequest
    from tumorseg.workers.pages import keep_freed_pages

    keep_freed_pages()
    # Taken out, so that what is left are fields of the request.
    own = TrainOptions(**{name: options.pop(name) for name in OVERRIDES})
    validation, is_mirrored = options.pop("validation"), not options.pop("no_mlflow")
    if not is_mirrored or options["mlflow"] == "off":
        options["mlflow"] = None
    elif options["mlflow"] is None:
        options["mlflow"] = default_uri(settings.work)
    has_validation = validation == "full"
    return TrainRequest(roots=roots_of(settings), plan=plan, options=own, has_validation=has_validation, **options)


def show_trained(settings: Settings, trained: "Trained") -> int:
    """Show how a training ended, and return the exit code."""
    # There are no scores after `--validation none`, `--fold all` or a signal.
    scores = [] if trained.metrics is None else [metrics_text(trained.metrics)]
    state = "trained" if trained.is_finished else "not finished"
    if trained.kept:
        tell_stopped(trained.kept)
    result = {
        "folder": str(trained.folder.root),
        "is_finished": trained.is_finished,
        "metrics": None if trained.metrics is None else metrics_json(trained.metrics),
    }
    show(settings, result, "\n".join([*scores, f"{state}: {trained.folder.root}"]))
    return 0 if trained.is_finished else EXIT_CHECKPOINTED
