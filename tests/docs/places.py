"""Tables in pages that are else written by hand."""

import re
from collections.abc import Mapping


def filled(text: str, tables: Mapping[str, str]) -> str:
    """Return a page with each table at its place: between `<!-- table NAME -->` and `<!-- end -->`, once."""
    for name, table in tables.items():
        place = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = place.subn(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)
        assert count == 1, f"the page has {count} places for the table {name}"
    return text
