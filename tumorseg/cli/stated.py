"""Options by which a user states what files leave open; the same in every verb that reads a dataset."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from tumorseg.stages.stated import Stated

F = TypeVar("F", bound=Callable[..., Any])

assume_orientation = click.option(
    "--assume-orientation",
    "assumed_orientation",
    metavar="CODE",
    help="Where axes x, y, z point to in files that do not say so, such as RAS or LPS.",
)
paint_order = click.option(
    "--paint-order",
    default="",
    metavar="A,B,C",
    help="Structures that overlap are painted in this order, the last on top.",
)
confirm_labels = click.option(
    "--confirm-labels", is_flag=True, help="The labels are meant, though they are doubtful, or some are in no case."
)
allow_outside = click.option(
    "--allow-outside", is_flag=True, help="Follow links and a dataset.json that lead out of the dataset's folder."
)


def stated_options(command: F) -> F:
    """Add all four options to a command."""
    return assume_orientation(paint_order(confirm_labels(allow_outside(command))))


def stated_of(options: dict[str, Any]) -> "Stated":
    """Take what the user states out of a command's options.

    Raises:
        click.UsageError: the orientation is no such code.
    """
    from tumorseg.cli.names import split_names
    from tumorseg.errors import InputError
    from tumorseg.schema.base import parse_record
    from tumorseg.stages.stated import Stated

    given = {name: options.pop(name) for name in Stated.model_fields if name in options}
    if "paint_order" in given:
        given["paint_order"] = split_names(given["paint_order"])
    return parse_record(Stated, given, source="options", error=InputError)
