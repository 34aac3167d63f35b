"""Groups whose verbs are imported when they are called, so that `--help` loads nothing."""

import importlib
from collections.abc import Mapping

import click


def lazy_group(prefix: str, verbs: Mapping[str, str]) -> type[click.Group]:
    """Return a group's class.

    Args:
        prefix: what precedes a verb in its module's name, in which `_` stands for `-`; the module holds `command`.
        verbs: verb to what it does, in the order in which help lists them.
    """

    class LazyGroup(click.Group):
        """A group of verbs."""

        def list_commands(self, ctx: click.Context) -> list[str]:
            """Return the verbs in order."""
            return list(verbs)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            """Import a verb."""
            if cmd_name not in verbs:
                return None
            command: click.Command = importlib.import_module(prefix + cmd_name.replace("-", "_")).command
            return command

        def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            """Write the list of verbs without importing them."""
            with formatter.section("Verbs"):
                formatter.write_dl(list(verbs.items()))

    return LazyGroup
