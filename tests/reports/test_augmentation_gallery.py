import io
import re

import matplotlib.image
import numpy as np
import pytest

from tests.reports.markup import Balance
from tumorseg.errors import InputError
from tumorseg.reports.augmentation_page import Gallery, Group, Tile, gallery_html
from tumorseg.reports.augmentation_sheet import GAP, LEAST_WIDTH, MARGIN, NEVER, gallery_png, placed
from tumorseg.reports.thumbnails import numbered_png

ATTACK = '<img src=x onerror="alert(1)">'


def tile(name, *lines, level=200, shape=(60, 90)):
    return Tile(name, lines, np.full((*shape, 3), level, np.uint8))


@pytest.fixture
def gallery():
    tiles = (tile("original"), tile("draw 1", "gammas 0.8", level=90), tile("draw 2", "gammas 1.4", level=140))
    shown = Group("gamma", "probability 0.3; gamma 0.7 to 1.5", ("T1", "T2"), tiles)
    never = Group("contrast", "probability 0", ("T1",), ())
    samples = Group("all together", "patches", ("T1",), tuple(tile(f"sample {n}", "words " * 20) for n in range(5)))
    return Gallery(
        "Augmentation of Toy", "case a", (("core", "#0072B2"), ("$shell$", "#E69F00")), (shown, never), samples
    )


def test_the_page_holds_everything_and_asks_nothing_of_any_network(gallery):
    page = gallery_html(gallery)
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    for text in ("gammas 0.8", "probability 0.3; gamma 0.7 to 1.5", "rows: T1, T2", "never applied", "$shell$"):
        assert text in page
    assert page.count("data:image/png;base64,") == 8
    assert 'alt="gamma, draw 1; gammas 0.8"' in page
    assert re.findall(r"https?:|//[a-z]|url\(|@import|<script|<link", re.sub(r"base64,[^\"]+", "", page)) == []


def test_hostile_names_cannot_write_markup(gallery):
    group = Group(ATTACK, ATTACK, (ATTACK, ATTACK), (tile(ATTACK, ATTACK),))
    page = gallery_html(gallery._replace(title=ATTACK, legend=((ATTACK, "#000000"),), groups=(group,)))
    assert "<img src=x" not in page


def test_the_sheet_shows_each_picture_pixel_by_pixel(gallery):
    pixels = (255 * matplotlib.image.imread(io.BytesIO(gallery_png(gallery)))).round().astype(int)[..., :3]
    assert pixels.shape[1] == 2 * MARGIN + 4 * LEAST_WIDTH + 3 * GAP
    for level in (90, 140):
        rows, columns = np.nonzero((pixels == level).all(axis=-1))
        # Letters in the same gray are no block.
        block = pixels[rows.min() : rows.min() + 60, columns.min() : columns.min() + 90]
        assert (block == level).all()
    # The original of the first group, and five samples.
    assert (pixels == 200).all(axis=-1).sum() >= 6 * 60 * 90


def test_nothing_on_the_sheet_overlaps(gallery):
    many = tuple((f"a structure with number {number}", "#E69F00") for number in range(30))
    sheet = placed(gallery._replace(legend=many))
    assert len({line.y for line in sheet.lines if "structure" in line.text}) > 3
    assert all(line.x + 6 * len(line.text) < sheet.width for line in sheet.lines)
    texts = [line.text for line in sheet.lines]
    assert NEVER in texts
    tops = [(line.x, line.y) for line in sheet.lines]
    assert len(set(tops)) == len(tops)
    for x, y, shown in sheet.pictures:
        height, width = shown.pixels.shape[:2]
        assert not any(x <= left < x + width and y - 8 < top < y + height for left, top in tops)
        assert x + width <= sheet.width - MARGIN
        assert y + height <= sheet.height
    assert max(line.y + line.type.line for line in sheet.lines) <= sheet.height


def test_more_than_a_picture_holds_is_for_a_page(gallery):
    tall = gallery._replace(groups=gallery.groups * 400)
    with pytest.raises(
        InputError, match=r"would be \d+ pixels high, a PNG of it is up to 65535; write a page \(.html\)"
    ):
        placed(tall)


@pytest.mark.parametrize("num_colors", [2, 256, 257])
def test_a_png_of_numbered_colours_is_the_same_picture(num_colors):
    numbers = np.arange(4 * num_colors) % num_colors
    pixels = np.stack((numbers % 256, numbers // 256, 255 - numbers % 256), axis=-1).astype(np.uint8)
    pixels = pixels.reshape(4, num_colors, 3)
    read = matplotlib.image.imread(io.BytesIO(numbered_png(pixels)))[..., :3]
    assert np.array_equal((read * 255).round(), pixels)
