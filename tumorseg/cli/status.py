"""`tumorseg status`."""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tumorseg.cli.main import EXIT_INTERRUPTED, Settings
from tumorseg.cli.output import show
from tumorseg.cli.paths import PATH
from tumorseg.errors import escaped_lines

if TYPE_CHECKING:
    from tumorseg.schema.standing import StatusReport

LOOK_EVERY_S = 2.0
"""Between two looks with --watch."""


@click.command()
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=PATH)
@click.option("--watch", is_flag=True, help="Look again every 2 s, until Ctrl-C.")
@click.pass_obj
def command(settings: Settings, /, *, folders: tuple[Path, ...], watch: bool) -> int:
    """List all trainings below the work folder: what each does or how it ended, scores, time left, last sign of life.

    DIR is another work folder, or any folder in one, down to one fold's. Nothing is written into the folders of trainings. A training
    on another machine that shares the folder is known by its signs of life alone.
    """
    from tumorseg.reports.status_table import status_text
    from tumorseg.stages.watching.status import watch_trainings

    if watch and settings.is_json:
        raise click.UsageError("--watch shows a table over and over, --json prints one object; leave one of them out.")
    reports = watch_trainings(folders or (settings.work,))
    if watch:
        return _watch(reports)
    report = next(reports)
    show(settings, report.model_dump(mode="json"), status_text(report))
    return 0


def _watch(reports: Iterator["StatusReport"]) -> int:
    """Show a table that is drawn over on a terminal; elsewhere a new one below whenever something changed."""
    from tumorseg.reports.status_table import status_text

    shown = ""
    try:
        for report in reports:
            text = escaped_lines(status_text(report))
            if sys.stdout.isatty():
                _draw(text)
            elif (key := _key(report)) != shown:
                shown = key
                click.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}\n")
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        # The way to end it: nothing was interrupted that would have to go on.
        click.echo(err=True)
    return EXIT_INTERRUPTED


def _key(report: "StatusReport") -> str:
    """Return what tells apart whether something has happened: signs of life alone are nothing new."""
    told = [(one.folder, one.state, one.epoch, one.note) for one in report.trainings]
    return repr(told)


def _draw(text: str) -> None:
    """Draw a text over the one before, cut to the terminal: what wraps or scrolls cannot be drawn over."""
    size = shutil.get_terminal_size()
    lines = [line[: size.columns] for line in text.splitlines()]
    # The last lines are those that count the trainings.
    if len(lines) >= size.lines:
        lines = [*lines[: size.lines - 3], "…", lines[-1]]
    # To the corner; each line is wiped to its end, and what is left below too.
    body = "".join(f"{line}\x1b[K\n" for line in lines)
    click.echo(f"\x1b[H{body}\x1b[J", nl=False)
