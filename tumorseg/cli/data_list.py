"""`tumorseg data list`."""

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import show


@click.command()
@click.pass_obj
def command(settings: Settings, /) -> None:
    """List the datasets that `-d` knows by name, and where they are below the data root."""
    from tumorseg.sources.registry import list_registered

    listed = list_registered(settings.data_root)
    result = [{**entry._asdict(), "path": str(entry.path) if entry.path else None} for entry in listed]
    width = max(len(entry.name) for entry in listed)
    lines = [f"{entry.name:{width}}  {entry.path or f'not there: {entry.how_to_get}'}" for entry in listed]
    show(settings, {"datasets": result}, "\n".join(lines))
