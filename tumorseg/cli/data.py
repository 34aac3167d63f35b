"""`tumorseg data`: verbs about datasets as such."""

import click

from tumorseg.cli.lazy import lazy_group

VERBS = {
    "list": "datasets that are known by name, and where they are",
    "fetch": "download datasets by name",
    "check": "every problem of every case of a dataset, in one table",
    "import": "write a dataset as an nnU-Net raw folder, or from there in another layout",
    "merge": "pool datasets into one manifest, with the channels and labels that all have",
}
"""Verb to what it does; the module `data_<verb>` holds `command`."""


@click.group(cls=lazy_group("tumorseg.cli.data_", VERBS))
def command() -> None:
    """Find, fetch, check and convert datasets."""
