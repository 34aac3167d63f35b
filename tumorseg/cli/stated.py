"""Options by which a user states what files leave open; the same in every verb that reads a dataset."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from tumorseg.stages.opening.stated import Stated


class Orientation(click.ParamType[str]):
    """Option type for the directions of a file's axes, such as RAS."""

    name = "code"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the code in capitals."""
        from tumorseg.schema.dataset import check_orientation

        try:
            return check_orientation(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}.", param, ctx)


F = TypeVar("F", bound=Callable[..., Any])

assume_orientation = click.option(
    "--assume-orientation",
    "assumed_orientation",
    type=Orientation(),
    metavar="CODE",
    help="Where axes x, y, z point to in files that do not say so, such as RAS or LPS.",
)
paint_order = click.option(
    "--paint-order",
    default="",
    metavar="A,B,C",
    help="Structures that overlap are painted in this order, the last on top; a name with a comma in double quotes.",
)
confirm_labels = click.option(
    "--confirm-labels", is_flag=True, help="The labels are meant, though they are doubtful, or some are in no case."
)
exclude = click.option(
    "--exclude",
    multiple=True,
    metavar="CASE|FILE",
    help="Leave out a case, or those of a file: text of one id a line, or a JSON list; may be given often.",
)
allow_outside = click.option(
    "--allow-outside", is_flag=True, help="Follow links and a dataset.json that lead out of the dataset's folder."
)


def stated_options(command: F) -> F:
    """Add all four options to a command."""
    # Decorators work from the inside out; help lists the outermost first.
    return assume_orientation(paint_order(confirm_labels(allow_outside(command))))


def stated_of(options: dict[str, Any]) -> "Stated":
    """Take what the user states out of a command's options."""
    from tumorseg.cli.names import split_names
    from tumorseg.stages.opening.stated import Stated

    given = {name: options.pop(name) for name in Stated.model_fields if name in options}
    if "paint_order" in given:
        given["paint_order"] = split_names(given["paint_order"])
    return Stated(**given)
