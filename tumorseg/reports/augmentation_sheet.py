"""The gallery of `augment` as one PNG."""

import textwrap
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tumorseg.errors import InputError
from tumorseg.reports.augmentation_page import Gallery, Group, Tile
from tumorseg.reports.thumbnails import Pixels, pixels_png

DPI = 110
"""Pixels of an inch, by which letters have their size."""
COLUMNS = 4
"""Pictures beside each other."""
MARGIN, GAP = 24, 14
"""Pixels around everything, and between pictures."""
LEAST_WIDTH = 240
"""Pixels that a column has at least, for what is written beneath a narrow picture."""
MOST_PIXELS = 2**16 - 1
"""Of an edge that matplotlib draws."""
BACK, INK, SOFT = "#0e1116", "#e4e8ed", "#96a1ad"


class Type(NamedTuple):
    """A size of letters."""

    points: float
    line: int
    """Pixels from one line to the next."""
    letter: float
    """Pixels of a letter's width, roughly: to break lines by."""


TITLE, HEADING, TEXT = Type(14, 30, 11.5), Type(10.5, 24, 8.6), Type(7.5, 16, 6.2)
NEVER = "no draw does anything: this transform is never applied"


class Line(NamedTuple):
    """A line of text, in pixels from the upper left."""

    x: float
    y: float
    text: str
    type: Type
    color: str


class Sheet:
    """What stands where, placed from top to bottom."""

    def __init__(self, column_width: int) -> None:
        """Begin with columns of so many pixels, or more."""
        self.column = max(column_width, LEAST_WIDTH)
        self.width = 2 * MARGIN + COLUMNS * self.column + (COLUMNS - 1) * GAP
        self.height = MARGIN
        self.lines: list[Line] = []
        self.pictures: list[tuple[int, int, Tile]] = []

    def write(self, text: str, letters: Type = TEXT, color: str = SOFT) -> None:
        """Add text over the whole width."""
        self.height += self._write_at(MARGIN, self.height, text, self.width - 2 * MARGIN, (letters, color))

    def show(self, tiles: Sequence[Tile]) -> None:
        """Add a row of pictures with their words beneath."""
        tallest, lowest = max(tile.pixels.shape[0] for tile in tiles), 0
        for number, tile in enumerate(tiles):
            x = MARGIN + number * (self.column + GAP)
            self.pictures.append((x, self.height, tile))
            y = self.height + tallest + 4
            y += self._write_at(x, y, tile.name, self.column, (TEXT, INK))
            for line in tile.lines:
                y += self._write_at(x, y, line, self.column, (TEXT, SOFT))
            lowest = max(lowest, y)
        self.height = lowest + GAP

    def _write_at(self, x: int, y: int, text: str, width: int, style: tuple[Type, str]) -> int:
        """Add text and return its height."""
        letters, color = style
        broken = textwrap.wrap(text, int(width / letters.letter))
        for number, line in enumerate(broken):
            self.lines.append(Line(x, y + number * letters.line, line, letters, color))
        return len(broken) * letters.line


def gallery_png(gallery: Gallery) -> bytes:
    """Return the gallery as a picture, for which everything is placed first.

    Raises:
        InputError: there are so many transforms that it would be too high.
    """
    sheet = placed(gallery)
    pixels = _written(sheet)
    for x, y, tile in sheet.pictures:
        height, width = tile.pixels.shape[:2]
        # Pixel by pixel, as outlines are one pixel wide.
        pixels[y : y + height, x : x + width] = tile.pixels
    return pixels_png(pixels)


def placed(gallery: Gallery) -> Sheet:
    """Return what stands where.

    Raises:
        InputError: as from `gallery_png`.
    """
    groups = (*gallery.groups, gallery.samples)
    tiles = chain.from_iterable(group.tiles for group in groups)
    sheet = Sheet(max((tile.pixels.shape[1] for tile in tiles), default=0))
    sheet.write(gallery.title, TITLE, INK)
    sheet.write(gallery.subtitle)
    _write_legend(sheet, gallery)
    for group in groups:
        sheet.height += GAP
        _add(sheet, group)
    sheet.height += MARGIN - GAP
    if sheet.height > MOST_PIXELS:
        raise InputError(
            f"--output: the gallery would be {sheet.height} pixels high, a PNG of it is up to {MOST_PIXELS}; write a page (.html)"
        )
    return sheet


def _write_legend(sheet: Sheet, gallery: Gallery) -> None:
    x, y = float(MARGIN), sheet.height
    for name, color in gallery.legend:
        width = (len(name) + 5) * TEXT.letter
        if x + width > sheet.width - MARGIN and x > MARGIN:
            x, y = MARGIN, y + TEXT.line
        sheet.lines.append(Line(x, y, f"■ {name}", TEXT, color))
        x += width
    sheet.height = y + TEXT.line if gallery.legend else y


def _add(sheet: Sheet, group: Group) -> None:
    sheet.write(group.name, HEADING, INK)
    for remark in group.remarks:
        sheet.write(remark)
    sheet.height += 4
    if not group.tiles:
        sheet.write(NEVER)
    for start in range(0, len(group.tiles), COLUMNS):
        sheet.show(group.tiles[start : start + COLUMNS])


def _written(sheet: Sheet) -> Pixels:
    """Return the sheet with its text alone."""
    # Half a pixel more, as matplotlib rounds down.
    figure = Figure(figsize=((sheet.width + 0.5) / DPI, (sheet.height + 0.5) / DPI), dpi=DPI, facecolor=BACK)
    for line in sheet.lines:
        place = line.x / sheet.width, 1 - line.y / sheet.height
        # Names of labels and channels may hold dollars, which are no formulas.
        figure.text(
            *place, line.text, fontsize=line.type.points, color=line.color, va="top", ha="left", parse_math=False
        )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
