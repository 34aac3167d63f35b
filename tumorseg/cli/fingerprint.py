"""`tumorseg fingerprint`."""

from pathlib import Path
from typing import Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import OUTPUT_FILE, PLACE
from tumorseg.cli.stated import exclude, stated_of, stated_options


@click.command()
@click.option(
    "-d", "--dataset", type=PLACE, required=True, help="Registered name, folder, name below the data root, or manifest."
)
@click.option("--channels", default="", help="Channels to use, in this order, separated by commas.")
@click.option("--regions", type=PLACE, help="brats, none, or a JSON file of regions.")
@click.option(
    "--common-with",
    type=PLACE,
    multiple=True,
    metavar="DATASET",
    help="Measure the channels and regions that this dataset has too; may be given often.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Processes at most.  [default: one per core; never more than memory holds]",
)
@exclude
@stated_options
@click.option("-o", "--output", type=OUTPUT_FILE, help="Where to write the JSON too.")
@click.pass_obj
def command(settings: Settings, /, *, channels: str, output: Path | None, jobs: int | None, **options: Any) -> None:
    """Measure spacing, shape and intensities of every case."""
    from tumorseg.cli.names import split_names
    from tumorseg.stages.planning.fingerprint import FingerprintRequest, measure
    from tumorseg.storage.json_files import write_record
    from tumorseg.storage.layout import work_folder

    stated = stated_of(options)
    names = split_names(channels)
    request = FingerprintRequest(roots=roots_of(settings), channels=names, stated=stated, jobs=jobs, **options)
    found = measure(request).fingerprint
    # `measure` has written it into the work folder already, where later verbs look for it.
    path = output or work_folder(settings.work, found.dataset.name).fingerprint
    if output is not None:
        write_record(output, found)
    text = f"{found.dataset.name}: {len(found.cases)} cases measured\nwritten to {path}"
    show(settings, {"path": str(path), "num_cases": len(found.cases), "content_hash": found.content_hash}, text)
