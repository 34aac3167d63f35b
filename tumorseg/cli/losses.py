"""`tumorseg losses`."""

import click

from tumorseg.cli.lazy import lazy_group

VERBS = {"list": "every loss and preset that a plan can name, with parameters, formula and source"}
"""Verb to what it does; the module `losses_<verb>` holds `command`."""


@click.group(cls=lazy_group("tumorseg.cli.losses_", VERBS))
def command() -> None:
    """Look up what a plan's loss can be made of."""
