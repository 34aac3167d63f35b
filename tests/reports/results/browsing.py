"""What tests look at in a page that a browser has opened."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tests.chromium import Chromium
from tumorseg.types import FloatArray

FIRST = "#cases tbody tr:first-child"
STATE = "document.getElementById('viewer').dataset.state"
CASE = "#viewer label:nth-of-type(1) select"
WORDS = "document.querySelector('#viewer [role=status]').textContent"
SLIDERS = "[...document.querySelectorAll('#viewer input[type=range]')].map((slider) => Number(slider.value))"
ROWS = "document.querySelectorAll('#cases tbody tr').length"
STATUS = "document.querySelector('#cases .pages [role=status]').textContent"


def column(number: int) -> str:
    """Return an expression for the texts of a column of the table of cases."""
    return f"[...document.querySelectorAll('#cases tbody tr > :nth-child({number})')].map(e => e.textContent)"


def ready_ms(browser: Chromium) -> int:
    browser.wait("document.documentElement.dataset.readyMs")
    return int(browser.evaluate("document.documentElement.dataset.readyMs"))


def opens_within(browser: Chromium, page: Path, most_ms: int) -> bool:
    """Return whether a page is ready in time, once of three times: others may keep the machine busy."""
    for _ in range(3):
        browser.open(page)
        if ready_ms(browser) < most_ms:
            return True
    return False


def pixels(browser: Chromium, folder: Path) -> FloatArray:
    """Return what the viewer shows, (rows, columns, 3)."""
    browser.evaluate("document.querySelector('.stage').scrollIntoView({block: 'center'})")
    x, y, width, height = browser.evaluate(
        "(() => { const r = document.querySelector('.stage').getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; })()"
    )
    # What was changed is drawn with the next frame.
    browser.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    browser.screenshot(folder / "shot.png")
    shot = Image.open(io.BytesIO((folder / "shot.png").read_bytes())).convert("RGB")
    return np.asarray(shot.crop((int(x), int(y), int(x + width), int(y + height))), dtype=np.float64)


def columns_like(shown: FloatArray, color: tuple[int, int, int]) -> FloatArray:
    """Return the columns of all pixels of about this hue, as shares of the width."""
    unit = np.array(color) / np.linalg.norm(color)
    # Without its grey, which is the image's that shines through.
    chroma = shown - shown.min(axis=2, keepdims=True)
    size = np.linalg.norm(chroma, axis=2)
    is_alike = (chroma @ unit > 0.985 * size) & (size > 40)
    return np.nonzero(is_alike)[1] / shown.shape[1]
