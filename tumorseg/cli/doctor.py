"""`tumorseg doctor`."""

from pathlib import Path

import click

from tumorseg.cli.main import EXIT_FAILED, Settings
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import PATH


@click.command()
@click.option("-p", "--plan", type=PATH, help="A plan that is to be carried out here.")
@click.option("--mlflow", metavar="URI", envvar="TUMORSEG_MLFLOW", help="Where trainings are to be mirrored to.")
@click.pass_obj
def command(settings: Settings, /, *, plan: Path | None, mlflow: str | None) -> int:
    """Look for what would break or slow down a run on this machine: versions, cores, memory, GPU, disk, folders.

    Leaves with 1 if there is a blocker. With a plan: whether its memory, its disk and its dataset are there too.
    """
    from tumorseg.reports.doctor_table import doctor_text
    from tumorseg.stages.watching.doctor import DoctorRequest, doctor

    report = doctor(DoctorRequest(roots=roots_of(settings), plan=plan, mlflow=None if mlflow == "off" else mlflow))
    show(settings, report.model_dump(mode="json"), doctor_text(report))
    return EXIT_FAILED if report.has_blockers else 0
