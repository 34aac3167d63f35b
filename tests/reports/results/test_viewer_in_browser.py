import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.chromium import PROGRAM, Chromium
from tests.reports.results.browsing import CASE, FIRST, SLIDERS, STATE, WORDS, columns_like, pixels, ready_ms
from tumorseg.reports.results import viewer
from tumorseg.reports.results.page import Page, ResultsInput, results_page
from tumorseg.reports.results.volumes import ViewerCase, ViewerInput, viewer_case
from tumorseg.reports.results.writing import write_page

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")]


def decoded_mask(head: ViewerInput, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a mask as the viewer holds it, (x, y, z) in RAS order."""
    case = viewer_case(head._replace(reference=mask, prediction=None))
    return np.asarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(case.layers["reference"])).dataobj)


def test_a_case_opens_in_the_viewer_from_the_table_with_its_overlays(
    browser: Chromium, page: Path, tmp_path: Path
) -> None:
    browser.open(page)
    ready_ms(browser)
    assert browser.evaluate("typeof niivue") == "undefined"
    browser.type("#cases input[type=search]", "case_0003")
    browser.click(f"{FIRST} button")
    browser.wait(f"{STATE} === 'loaded' || {STATE} === 'failed'")
    assert browser.evaluate(STATE) == "loaded"
    assert browser.evaluate("document.getElementById('viewer').dataset.layers") == "4"
    assert len(columns_like(pixels(browser, tmp_path), (230, 159, 0))) > 100
    browser.choose("#viewer label:nth-of-type(2) select", "image")
    assert len(columns_like(pixels(browser, tmp_path), (230, 159, 0))) < 20
    assert browser.complaints() == []
    assert {address.split(":")[0] for address in browser.requests()} <= {"file", "data", "blob"}


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_viewer_shows_the_patients_left_on_the_right_whatever_the_file_s_order(
    browser: Chromium, tmp_path: Path, head: ViewerInput, small_content: ResultsInput, sign: float
) -> None:
    affine = np.diag([sign * 1.2, 1.0, 2.2, 1.0])
    # The lump lies at high x: on the left side of the patient where x points to the left.
    only_core = np.where(head.prediction == 2, 2, 0)
    case = viewer_case(head._replace(affine=affine, prediction=only_core))
    path = tmp_path / "side.html"
    write_page(path, results_page(small_content._replace(volumes=[case])))
    browser.open(path)
    ready_ms(browser)
    browser.choose(CASE, "0")
    browser.wait(f"{STATE} === 'loaded'")
    browser.choose("#viewer label:nth-of-type(3) select", "0")
    places = columns_like(pixels(browser, tmp_path), (230, 159, 0))
    assert len(places) > 50
    is_on_the_right = bool(places.mean() > 0.5)
    assert is_on_the_right == (sign < 0)
    # The slider from the patient's right to the left stands where the cross is.
    slider = float(browser.evaluate("document.querySelector('#viewer input[type=range]').value"))
    assert (slider > 0.5) == is_on_the_right


def test_volumes_beside_the_page_are_read_when_a_case_is_opened(
    browser: Chromium, tmp_path: Path, small_content: ResultsInput, small_volume: ViewerCase
) -> None:
    noise = np.random.default_rng(0).bytes(viewer.INLINE_BYTES)
    large = ViewerCase("noise", (), {"image": noise})
    path = tmp_path / "report.html"
    html, files = results_page(small_content._replace(volumes=[small_volume, large]))
    write_page(path, Page(html, files))
    browser.open(path)
    ready_ms(browser)
    assert not any("report_files" in address for address in browser.requests())
    browser.choose(CASE, "0")
    browser.wait(f"{STATE} === 'loaded' || {STATE} === 'failed'")
    assert browser.evaluate(STATE) == "loaded"
    read = [address for address in browser.requests() if "report_files" in address]
    assert [Path(address).name for address in read] == [Path(next(iter(files))).name]
    assert browser.complaints() == []


def test_a_file_that_is_missing_beside_the_page_is_told(
    browser: Chromium, tmp_path: Path, small_content: ResultsInput
) -> None:
    large = ViewerCase("noise", (), {"image": bytes(viewer.INLINE_BYTES + 1)})
    html, (name,) = results_page(small_content._replace(volumes=[large]))
    (tmp_path / "report.html").write_text(html, "utf-8")
    browser.open(tmp_path / "report.html")
    ready_ms(browser)
    browser.choose(CASE, "0")
    browser.wait(f"{STATE} === 'failed'")
    assert f"{name} is not beside the page" in browser.evaluate(WORDS)


def test_a_file_of_another_page_under_the_name_that_is_asked_for_is_refused(
    browser: Chromium, tmp_path: Path, small_content: ResultsInput
) -> None:
    pages = []
    for letter in (b"1", b"2"):
        large = ViewerCase("noise", (), {"image": letter * (viewer.INLINE_BYTES + 1)})
        pages.append(results_page(small_content._replace(volumes=[large])))
    (name,), (content,) = pages[0].files, pages[1].files.values()
    write_page(tmp_path / "report.html", Page(pages[0].html, {name: content}))
    browser.open(tmp_path / "report.html")
    ready_ms(browser)
    browser.choose(CASE, "0")
    browser.wait(f"{STATE} === 'failed'")
    assert f"{name} is not the one that this page was written with" in browser.evaluate(WORDS)


def test_of_several_cases_the_last_that_was_chosen_is_shown_however_long_the_others_take(
    browser: Chromium, tmp_path: Path, small_content: ResultsInput, small_volume: ViewerCase
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 130, 140)).astype(np.float32)
    large = viewer_case(ViewerInput("noise", noise, np.eye(4)))
    path = tmp_path / "report.html"
    write_page(path, results_page(small_content._replace(volumes=[large, small_volume])))
    browser.open(path)
    ready_ms(browser)
    # All at once, while nothing has been started yet.
    browser.evaluate("void [0, 1, 0, 1].forEach((number) => window.report.openCase(number))")
    browser.wait(f"{STATE} === 'loaded'")
    # Long enough for the others to end as well.
    browser.evaluate("new Promise((resolve) => setTimeout(resolve, 1500))")
    assert browser.evaluate(WORDS) == "case_0003, radiological display"
    assert browser.evaluate(f"document.querySelector({CASE!r}).value") == "1"
    assert browser.evaluate("document.getElementById('viewer').dataset.layers") == "4"
    assert browser.evaluate("document.head.querySelectorAll('script').length") == 1
    assert browser.complaints() == []


def test_a_case_that_cannot_be_shown_hides_the_picture_of_the_one_before(
    browser: Chromium, tmp_path: Path, small_content: ResultsInput, small_volume: ViewerCase
) -> None:
    damaged = ViewerCase("damaged", (), {"image": b"no volume"})
    path = tmp_path / "report.html"
    write_page(path, results_page(small_content._replace(volumes=[small_volume, damaged])))
    browser.open(path)
    ready_ms(browser)
    browser.choose(CASE, "0")
    browser.wait(f"{STATE} === 'loaded'")
    is_hidden = "document.querySelector('.stage').offsetHeight === 0"
    assert not browser.evaluate(is_hidden)
    browser.choose(CASE, "1")
    browser.wait(f"{STATE} === 'failed'")
    assert browser.evaluate(is_hidden)
    assert browser.evaluate("document.querySelectorAll('#viewer .legend li').length") == 0
    browser.choose(CASE, "0")
    browser.wait(f"{STATE} === 'loaded'")
    assert not browser.evaluate(is_hidden)
    # None chosen, none shown.
    browser.choose(CASE, "")
    assert browser.evaluate(is_hidden)
    assert browser.evaluate(STATE) == "ready"


@pytest.mark.parametrize("layer", ["reference", "prediction"])
def test_the_cross_stands_in_a_structure_that_was_missed_or_invented(
    browser: Chromium, tmp_path: Path, head: ViewerInput, small_content: ResultsInput, layer: str
) -> None:
    # Two lumps of different sizes: their common middle is in neither.
    lumps = np.zeros(head.image.shape, np.uint8)
    lumps[4:8, 10:16, 4:9] = 1
    lumps[10:13, 30:33, 28:31] = 1
    empty = np.zeros_like(lumps)
    nothing = head._replace(reference=empty, prediction=empty)
    found = nothing._replace(reference=lumps) if layer == "reference" else nothing._replace(prediction=lumps)
    path = tmp_path / "report.html"
    write_page(path, results_page(small_content._replace(volumes=[viewer_case(found), viewer_case(nothing)])))
    browser.open(path)
    ready_ms(browser)
    browser.choose(CASE, "0")
    browser.wait(f"{STATE} === 'loaded'")
    shares = browser.evaluate(SLIDERS)
    held = decoded_mask(head, lumps)
    # Of the sliders the first runs from the patient's right, files in RAS order from the left.
    voxel = [int(share * size) for share, size in zip((1 - shares[0], *shares[1:]), held.shape, strict=True)]
    assert held[tuple(voxel)] == 1
    browser.choose(CASE, "1")
    browser.wait(f"{STATE} === 'loaded'")
    assert browser.evaluate(SLIDERS) == pytest.approx([0.5] * 3, abs=0.01)


def test_the_cross_is_seen_in_large_images_too(browser: Chromium, tmp_path: Path, small_content: ResultsInput) -> None:
    # A pixel of the screen is more than a voxel, and so would be a cross as wide as a voxel.
    dark = np.full((3, 700, 700), 10, np.float32)
    dark[0] = 100
    dark[0, 0, 0] = 0
    case = viewer_case(ViewerInput("wide", dark, np.diag([0.45, 0.45, 80, 1])))
    path = tmp_path / "report.html"
    write_page(path, results_page(small_content._replace(volumes=[case])))
    browser.open(path)
    ready_ms(browser)
    browser.choose(CASE, "0")
    browser.wait(f"{STATE} === 'loaded'")
    for view in ("0", "1", "2"):
        browser.choose("#viewer label:nth-of-type(3) select", view)
        shown = pixels(browser, tmp_path).mean(axis=2)
        height, width = shown.shape
        # Beside the middle, through which both lines go.
        upright = shown[height // 2 + 20 : height // 2 + 60, width // 2 - 8 : width // 2 + 8]
        level = shown[height // 2 - 8 : height // 2 + 8, width // 2 + 20 : width // 2 + 60]
        for across in (upright.mean(axis=0), level.mean(axis=1)):
            bright = across - np.median(across)
            assert 100 < bright.sum() < 600


def test_without_webgl_the_page_says_so(tmp_path: Path, page: Path) -> None:
    with Chromium(tmp_path / "other", options=("--disable-3d-apis",)) as browser:
        browser.open(page)
        ready_ms(browser)
        browser.choose(CASE, "0")
        browser.wait(f"{STATE} === 'no-webgl'")
        assert "no WebGL 2" in browser.evaluate("document.querySelector('#viewer [role=status]').textContent")
        assert browser.complaints() == []
