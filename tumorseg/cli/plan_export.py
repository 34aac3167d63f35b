"""`tumorseg plan export`."""

from pathlib import Path

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import show
from tumorseg.cli.paths import FILE, OUTPUT_FOLDER


@click.command("export")
@click.argument("plan", type=FILE)
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FOLDER,
    required=True,
    help="nnU-Net's folder of the dataset: nnUNet_preprocessed/DatasetNNN_Name.",
)
@click.pass_obj
def command(settings: Settings, /, *, plan: Path, output: Path) -> None:
    """Write a plan as nnUNetPlans.json, splits_final.json and dataset.json of nnU-Net v2.

    They hold preprocessing and networks; loss, optimizer, augmentation and length of training are nnU-Net's trainer's.
    """
    from tumorseg.stages.planning.export_plan import PlanExportRequest, export_nnunet_plan

    folder = export_nnunet_plan(PlanExportRequest(plan=plan, output=output))
    files = {"plans": str(folder.plans), "dataset": str(folder.dataset)}
    show(settings, files, f"{folder.plans} and {folder.dataset}: run nnU-Net on what `tumorseg data import` wrote")
