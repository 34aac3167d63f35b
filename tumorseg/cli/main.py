"""The command `tumorseg`: global options, verbs that are imported on use, errors as one line."""

import copy
import functools
import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar, cast

import click

from tumorseg import __version__
from tumorseg.cli.lazy import lazy_group
from tumorseg.cli.paths import FOLDER, check_path
from tumorseg.errors import Stopped, TumorsegError, escaped_lines, quoted
from tumorseg.tracking.progress import set_quiet

F = TypeVar("F", bound=Callable[..., Any])

VERBS = {
    "demo": "the whole job on a small built-in phantom dataset, in minutes on two CPU cores",
    "data": "find, fetch, check and convert datasets",
    "fingerprint": "measure a dataset",
    "plan": "decide everything for a dataset and write the plan",
    "preprocess": "fill the case store",
    "augment": "show on a case what augmentation does",
    "train": "train a fold, or go on where it stopped",
    "distill": "train a fold that learns from trained models too",
    "validate": "predict and score a fold's held-out cases",
    "predict": "segment images with a trained model",
    "ensemble": "segment images with several models together, or keep these as one model",
    "select": "find the best combination of trained models on cases that they did not see",
    "tune": "refine a plan by short trainings, and write a child plan with what gained",
    "evaluate": "score segmentations against references",
    "cross-evaluate": "test models on datasets that they were not made for",
    "status": "list all trainings, what each does or how it ended",
    "doctor": "look for what would break a run on this machine, before it starts",
    "track": "send a model's trainings, or a study's trials, to MLflow",
    "losses": "look up what a plan's loss can be made of",
    "networks": "look up networks, what they cost and what they look like",
}
"""Verb to what it does; the module of the same name holds `command`."""

SPINS = "10000"
"""Turns that a thread of GNU OpenMP waits before it sleeps; it takes 300,000 by itself."""
# 75 is EX_TEMPFAIL of sysexits.h (try again); 130 is what shells report of SIGINT, 128 + 2.
EXIT_FAILED, EXIT_CHECKPOINTED, EXIT_INTERRUPTED = 1, 75, 130


class Settings(NamedTuple):
    """The global options."""

    data_root: Path
    work: Path
    is_json: bool
    arguments: tuple[str, ...] = ()
    """All arguments of the command, as given."""


@click.group(
    cls=lazy_group("tumorseg.cli.", VERBS),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option(
    "--data-root",
    type=FOLDER,
    default=Path("data"),
    show_default=True,
    envvar="TUMORSEG_DATA",
    help="Folder below which datasets are looked for.",
)
@click.option(
    "--work",
    type=FOLDER,
    default=Path("runs"),
    show_default=True,
    envvar="TUMORSEG_WORK",
    help="Folder for everything that is derived: case store, models.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings, errors and the result.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one JSON object on stdout.")
@click.version_option(__version__, package_name="tumorseg")
@click.pass_context
def cli(context: click.Context, *, data_root: Path, work: Path, verbose: bool, quiet: bool, is_json: bool) -> None:
    """Self-configuring segmentation of 3D and 2D medical images.

    A dataset is measured once (fingerprint), decided once (plan), and every later verb carries the plan out.
    """
    if verbose:
        level = logging.DEBUG
    elif quiet:
        level = logging.WARNING
    else:
        level = logging.INFO
    # Libraries may only warn; what was asked for is the level of this package. Forced, so that a command that is called
    # from Python a second time writes to the present stderr.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Escaping("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("tumorseg").setLevel(level)
    set_quiet(quiet)
    # Documents name files by their absolute paths.
    with suppress(FileNotFoundError):  # a folder that was removed meanwhile
        check_path(os.getcwd())  # noqa: PTH109 (no path yet)
    context.obj = Settings(data_root, work, is_json, tuple(context.obj or ()))


class Escaping(logging.Formatter):
    """Formatter that escapes what messages quote, names of files above all."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or the lines that whoever logs has set; a line end within what is quoted makes none."""
        if not isinstance(record.args, tuple):
            return escaped_lines(super().format(record))
        # A copy, as other handlers get the record too.
        shown = copy.copy(record)
        shown.args = tuple(map(_shown, record.args))
        return escaped_lines(super().format(shown))


class _OneLine(str):
    """Text with its control characters escaped; `%r` shows that of which it was made, which escapes them itself."""

    _made_of: object

    def __new__(cls, value: object) -> Self:
        """Return the text of a value."""
        made = super().__new__(cls, quoted(str(value)))
        made._made_of = value
        return made

    def __repr__(self) -> str:
        return repr(self._made_of)


def _shown(value: object) -> object:
    """Return text on one line; all else stays what it is, numbers of any kind and errors of ours, which set their lines themselves."""
    is_text = isinstance(value, str | os.PathLike | BaseException) and not isinstance(value, TumorsegError)
    return _OneLine(value) if is_text else value


def tell_stopped(kept: str) -> None:
    """Say on stderr that a signal stopped the command, and what it did not lose."""
    click.echo(f"stopped by a signal: {kept}; the same command goes on", err=True)


def stoppable(command: F) -> F:
    """Let SIGTERM and SIGUSR1 stop a verb at the next moment at which nothing is lost, from its first import on."""

    @functools.wraps(command)
    def stopping(*arguments: Any, **options: Any) -> Any:
        from tumorseg.stages.opening.stopping import stop_on_signal

        with stop_on_signal():
            return command(*arguments, **options)

    return cast(F, stopping)


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Have torch's threads give up a core instead of turning idly on it, unless the user has said how they wait.

    Where other processes want the cores too, a thread that waits for the next one by turning takes the core from it: beside two busy
    processes a step of 0.7 s on two cores took up to ten times as long, and takes 1.4 s so; alone it takes 0.7 s either way. To be called before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)


def run(arguments: list[str]) -> int:
    """Run the command line.

    Returns:
        0, 1 failed, 2 usage, 75 checkpointed on a signal, 130 interrupted.
    """
    share_cores(os.environ)
    try:
        # Standalone, click would end the process itself and know nothing of these errors and codes.
        result = cli.main(args=arguments, prog_name="tumorseg", standalone_mode=False, obj=arguments)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except TumorsegError as error:
        click.echo(f"error: {error}", err=True)
        return EXIT_FAILED
    except Stopped as stopped:
        tell_stopped(str(stopped))
        return EXIT_CHECKPOINTED
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; the same command goes on where it stopped", err=True)
        return EXIT_INTERRUPTED
    # Verbs return a code only where there is more than one way to end.
    return result if isinstance(result, int) else 0
