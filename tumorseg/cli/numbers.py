"""Numbers on the command line: finite, and of a size that means something."""

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A range of floats that `nan` and `inf` are not in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number.

        Raises:
            click.BadParameter: it is no finite number, or outside the range.
        """
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


# Eleven years, and 100 TB: what is above is a slip.
HOURS = FiniteRange(min=0, min_open=True, max=100_000)
GIGABYTES = FiniteRange(min=0, min_open=True, max=100_000)
MILLIMETRES = FiniteRange(min=0)
