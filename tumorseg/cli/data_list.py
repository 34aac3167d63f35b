"""`tumorseg data list`."""

from typing import TYPE_CHECKING

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import show

if TYPE_CHECKING:
    from tumorseg.sources.registry import Listed


@click.command()
@click.pass_obj
def command(settings: Settings, /) -> None:
    """List the datasets that `-d` knows by name: where they are below the data root, or how to get them."""
    from tumorseg.sources.registry import list_registered

    listed = list_registered(settings.data_root)
    result = []
    for entry in listed:
        path = str(entry.path) if entry.path else None
        result.append({**entry._asdict(), "path": path})
    width = max(len(entry.name) for entry in listed)
    lines = [f"{entry.name:{width}}  {_state(entry)}" for entry in listed]
    show(settings, {"datasets": result}, "\n".join(lines))


def _state(entry: "Listed") -> str:
    if entry.path is None:
        does = "gets it" if entry.can_fetch else "says how to get it (registration needed)"
        return f"not there; `tumorseg data fetch {entry.name}` {does}"
    if entry.problem is not None:
        # The first line has the first problem; `data check` lists them all.
        return f"{entry.path}, but cannot be opened: {entry.problem.splitlines()[0]}"
    return f"{entry.path}, {entry.num_cases} cases"
