"""`tumorseg track`."""

import os
from typing import TYPE_CHECKING, Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import PATH, PLACE

if TYPE_CHECKING:
    from tumorseg.stages.tracking.track import TrackRequest

LOWEST_PRIORITY = 19


@click.command()
@click.option("-m", "--model", type=PATH, required=True, help="A model folder, one fold's, or a study's.")
@click.option(
    "--mlflow", metavar="URI", envvar="TUMORSEG_MLFLOW", help="Where to.  [default: mlflow.db in the work folder]"
)
@click.option("-d", "--dataset", type=PLACE, help="Where the dataset is, if it moved.")
@click.option("--follow", type=int, hidden=True, help="Id of the process that trains, to be mirrored until it ends.")
@click.pass_obj
def command(settings: Settings, /, *, follow: int | None, **options: Any) -> None:
    """Send to MLflow what it lacks of a model's trainings, or of a study's trials; twice is once."""
    if follow is not None:
        _stand_back()  # before the seconds that importing MLflow takes
    from tumorseg.stages.tracking import study_track, track

    if options["mlflow"] == "off":
        options["mlflow"] = None  # a whole shell mirrors nothing by itself; here it is asked for
    request = track.TrackRequest(roots=roots_of(settings), **options)
    is_study = study_track.is_study(request.model)
    if follow is None:
        (_show_study if is_study else _show_folds)(settings, request)
    elif is_study:
        study_track.follow_study(request)
    else:
        track.follow(request, follow)


def _show_folds(settings: Settings, request: "TrackRequest") -> None:
    """Send trainings and tell what is there."""
    from tumorseg.stages.tracking.track import track
    from tumorseg.tracking.mlflow_runs import without_password

    found = track(request)
    uri = without_password(request.uri)
    result = [{"folder": str(one.folder), **one.sent._asdict()} for one in found]
    lines = []
    for one in found:
        state = "finished" if one.sent.is_finished else "not finished"
        lines.append(f"{one.folder}: {one.sent.num_epochs} epochs, {state}, run {one.sent.run}")
    show(settings, {"uri": uri, "folds": result}, "\n".join([*lines, f"sent to {uri}"]))


def _show_study(settings: Settings, request: "TrackRequest") -> None:
    """Send a study and tell what is there."""
    from tumorseg.stages.tracking.study_track import track_study
    from tumorseg.tracking.mlflow_runs import without_password

    sent = track_study(request)
    uri = without_password(request.uri)
    state = "finished" if sent.is_finished else "not finished"
    text = f"{request.model}: {sent.num_trials} trials, {state}, run {sent.run}\nsent to {uri}"
    show(settings, {"uri": uri, "study": {"folder": str(request.model), **sent._asdict()}}, text)


def _stand_back() -> None:
    """Take only the processor time that a training leaves: threads of a step wait for each other, so that one delays all."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or not allowed
        os.nice(LOWEST_PRIORITY)
