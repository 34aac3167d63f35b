"""Pages: one HTML file with everything inside it, which asks nothing of any network."""

import base64
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tumorseg.reports.tables import number_text


class Picture(NamedTuple):
    """A figure with its words."""

    caption: str
    png: bytes


def render_page(template: str, **values: Any) -> str:
    """Return a template of this folder as a page, every text in it escaped.

    Args:
        template: extends `base.html`.
        values: what it shows; `title` and `subtitle` stand at its head.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    """Return what templates are read with; kept, as each takes a tenth of a second to translate."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name in a template is an error, not an empty place
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(data_uri=data_uri, svg_uri=svg_uri, number=number_text)
    return environment


def data_uri(png: bytes) -> str:
    """Return PNG bytes as an address that holds them."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def svg_uri(svg: bytes) -> str:
    """Return SVG bytes as an address that holds them."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
