"""`tumorseg data import`."""

from typing import TYPE_CHECKING, Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import OUTPUT_FOLDER, PLACE
from tumorseg.cli.stated import stated_of, stated_options

if TYPE_CHECKING:
    from tumorseg.stages.datasets.convert import Converted

LAYOUTS = ("nnunet", "msd", "manifest")
MOST_CHANGES = 8
"""Label values that the text reports; the others are in the JSON result."""


@click.command()
@click.option(
    "-d", "--dataset", type=PLACE, required=True, help="Registered name, folder, name below the data root, or manifest."
)
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FOLDER,
    required=True,
    help="Folder to write; nnU-Net wants it called DatasetNNN_Name.",
)
@click.option("--to", type=click.Choice(LAYOUTS), default="nnunet", show_default=True, help="Layout to write.")
@stated_options
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: as many as the machine holds]")
@click.pass_obj
def command(settings: Settings, /, **options: Any) -> None:
    """Write a dataset of any layout as an nnU-Net v2 raw folder, or from there in another layout.

    Voxels stay as they are, where they are in the world. What is written already is left alone.
    """
    from tumorseg.stages.datasets.convert import ConvertRequest, convert

    written = convert(ConvertRequest(roots=roots_of(settings), stated=stated_of(options), **options))
    result = {**written._asdict(), "folder": str(written.folder)}
    show(settings, result, _text(written))


def _text(written: "Converted") -> str:
    """Return what was written, for people."""
    counts = f"{written.num_training} training and {written.num_tests} test cases"
    changes = [f"{name} {old} → {new}" for name, (old, new) in written.new_values.items()]
    more = f", and {len(changes) - MOST_CHANGES} more" if len(changes) > MOST_CHANGES else ""
    values = f"label values: {', '.join(changes[:MOST_CHANGES])}{more}" if changes else "label values are unchanged"
    return "\n".join([f"{written.name}: {counts}", values, f"in {written.folder}"])
