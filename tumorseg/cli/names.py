"""Lists of names in an option."""

import csv


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a list separated by commas, read as CSV: a name with a comma stands in double quotes."""
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return tuple(name.strip() for row in rows for name in row if name.strip())
