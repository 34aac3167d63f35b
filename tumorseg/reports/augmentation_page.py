"""The gallery of `augment` as one HTML page, readable on a phone."""

from typing import NamedTuple

from tumorseg.reports.page import render_page
from tumorseg.reports.thumbnails import Pixels, numbered_png


class Tile(NamedTuple):
    """A patch as it was read, or as one draw makes it."""

    name: str
    """`original`, `draw 1`, …"""
    lines: tuple[str, ...]
    """What was drawn; empty if nothing was."""
    pixels: Pixels

    @property
    def text(self) -> str:
        """Return everything that is said of it."""
        return "; ".join((self.name, *self.lines))


class Group(NamedTuple):
    """One transform's draws, or the samples of all of them."""

    name: str
    settings: str
    """The transform's parameters, or what is shown."""
    rows: tuple[str, ...]
    """What each row of a picture shows."""
    tiles: tuple[Tile, ...]
    """Beginning with the original where there is one; empty if no draw did anything."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what stands beneath the name."""
        rows = [f"rows: {', '.join(self.rows)}"] if len(self.rows) > 1 else []
        return tuple(filter(None, (self.settings, *rows)))


class Gallery(NamedTuple):
    """Everything that a gallery shows."""

    title: str
    subtitle: str
    legend: tuple[tuple[str, str], ...]
    """Name and colour of each label."""
    groups: tuple[Group, ...]
    """Transforms in the order in which they are applied."""
    samples: Group


def gallery_html(gallery: Gallery) -> str:
    """Return the gallery as a page with everything inside it."""
    groups = []
    for group in (*gallery.groups, gallery.samples):
        groups.append((group, [numbered_png(tile.pixels) for tile in group.tiles]))
    return render_page(
        "augmentation.html",
        title=gallery.title,
        subtitle=gallery.subtitle,
        legend=gallery.legend,
        groups=groups,
    )
