"""`tumorseg networks`."""

import click

from tumorseg.cli.lazy import lazy_group

VERBS = {
    "list": "every network that a plan can name, or what all cost for a patch or a budget",
    "describe": "what the networks of a plan cost, their stages and a picture",
}
"""Verb to what it does; the module `networks_<verb>` holds `command`."""


@click.group(cls=lazy_group("tumorseg.cli.networks_", VERBS))
def command() -> None:
    """Look up networks and what they cost."""
