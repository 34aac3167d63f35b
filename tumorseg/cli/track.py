"""`tumorseg track`."""

import os
from pathlib import Path
from typing import Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import roots_of, show

LOWEST_PRIORITY = 19


@click.command()
@click.option("-m", "--model", type=click.Path(path_type=Path), required=True, help="A model folder, or one fold's.")
@click.option(
    "--mlflow", metavar="URI", envvar="TUMORSEG_MLFLOW", help="Where to.  [default: mlflow.db in the work folder]"
)
@click.option("-d", "--dataset", help="Where the dataset is, if it moved.")
@click.option("--follow", type=int, hidden=True, help="Id of the process that trains, to be mirrored until it ends.")
@click.pass_obj
def command(settings: Settings, /, *, follow: int | None, **options: Any) -> None:
    """Send to MLflow what it lacks of a model's trainings; twice is once."""
    if follow is not None:
        _stand_back()  # before the seconds that importing MLflow takes
    from tumorseg.stages.tracking import track as tracking
    from tumorseg.tracking.mlflow_runs import without_password

    if options["mlflow"] == "off":
        options["mlflow"] = None  # a whole shell mirrors nothing by itself; here it is asked for
    request = tracking.TrackRequest(roots=roots_of(settings), **options)
    if follow is not None:
        tracking.follow(request, follow)
        return
    found = tracking.track(request)
    uri = without_password(request.uri)
    result = [{"folder": str(one.folder), **one.sent._asdict()} for one in found]
    lines = []
    for one in found:
        state = "finished" if one.sent.is_finished else "not finished"
        lines.append(f"{one.folder}: {one.sent.num_epochs} epochs, {state}, run {one.sent.run}")
    show(settings, {"uri": uri, "folds": result}, "\n".join([*lines, f"sent to {uri}"]))


def _stand_back() -> None:
    """Take only the processor time that a training leaves: threads of a step wait for each other, so that one delays all."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or not allowed
        os.nice(LOWEST_PRIORITY)
