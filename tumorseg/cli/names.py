"""Lists of names in an option."""

import csv
from itertools import chain


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a list separated by commas, read as CSV: a name with a comma stands in double quotes."""
    # A quote opens a name only right after the comma, unless blanks there are skipped.
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    names = map(str.strip, chain.from_iterable(rows))
    return tuple(filter(None, names))
