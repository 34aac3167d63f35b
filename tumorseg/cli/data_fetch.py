"""`tumorseg data fetch`."""

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import roots_of, show


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--keep-archive", is_flag=True, help="Leave the archive beside the dataset's folder.")
@click.pass_obj
def command(settings: Settings, /, *, names: tuple[str, ...], keep_archive: bool) -> None:
    """Download datasets by name, check and unpack them below the data root.

    What is there already is left alone; an interrupted fetch goes on where it stopped. `tumorseg data list` shows the names.
    """
    from tumorseg.stages.datasets.fetch import FetchRequest, fetch

    fetched = fetch(FetchRequest(roots=roots_of(settings), names=names, keep_archive=keep_archive))
    result = [{**entry._asdict(), "path": str(entry.path)} for entry in fetched]
    lines = []
    for entry in fetched:
        remark = " (was there)" if entry.was_there else ""
        lines.append(f"{entry.name}: {entry.num_cases} cases in {entry.path}{remark}")
    show(settings, {"datasets": result}, "\n".join(lines))
