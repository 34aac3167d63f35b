import re

import numpy as np
import pytest

from tests.reports.markup import Balance
from tumorseg.reports.check_page import check_html
from tumorseg.reports.overlays import OverlayInput
from tumorseg.reports.page import Picture
from tumorseg.reports.tables import findings_text
from tumorseg.reports.thumbnails import SIZE, thumbnail_png
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.findings import CheckReport, finding, order_of

ATTACK = '<img src=x onerror="alert(1)">'


def report_of(*findings):
    ordered = sorted(findings, key=order_of)
    return CheckReport(
        source="Set",
        dataset=DatasetDescription(name="Set", channels=("CT",), labels={"background": 0}),
        num_cases=9,
        counts={s: sum(f.severity == s for f in ordered) for s in ("error", "warning", "note")},
        findings=tuple(ordered),
        facts={"Dataset": (("Cases", "9"),)},
    )


@pytest.fixture
def report():
    many = tuple(f"case_{number}" for number in range(7))
    return report_of(
        finding("oblique", "7 of 9 cases are oblique", cases=many),
        finding("missing_file", "no such file", cases=("a",), file="/data/a.nii.gz"),
        finding("empty_label", "holds nothing", cases=("b",), file="/data/b.nii.gz"),
        finding("many_labels", "found 30 labels"),
    )


def test_the_page_holds_every_finding_and_asks_nothing_of_any_network(report):
    page = check_html(report, [Picture("a: missing file", b"png")])
    balance = Balance()
    balance.feed(re.sub(r"<input[^>]*>", "", page))
    assert balance.open == []
    for found in report.findings:
        assert found.message in page
        assert f'<td class="kind">{found.kind}</td>' in page
    assert "case_0, case_1, case_2, case_3, case_4, case_5, case_6" in page
    assert page.count("data:image/png;base64,") == 1
    assert re.findall(r"https?:|//[a-z]|url\(|@import|<script|<link", re.sub(r"base64,[^\"]+", "", page)) == []


def test_hostile_names_cannot_write_markup():
    hostile = report_of(finding("unknown_label", ATTACK, cases=(ATTACK,) * 5, file=f"/data/{ATTACK}.nii"))
    hostile = hostile.model_copy(update={"facts": {ATTACK: ((ATTACK, ATTACK),)}, "dataset": None, "source": ATTACK})
    page = check_html(hostile, [Picture(ATTACK, b"png")])
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x") >= 12


def test_a_page_without_findings_says_so(report):
    page = check_html(report_of(), [])
    assert "Nothing was found." in page
    assert "the dataset is sound" in page
    assert "Flagged cases" not in page
    assert "the dataset has to be mended" in check_html(report, [])


def test_the_text_names_cases_in_short_and_leaves_paths_out(report):
    lines = findings_text(report).splitlines()
    assert lines[2].split() == ["error", "missing_file", "a", "a.nii.gz", "no", "such", "file"]
    assert "case_0, case_1, case_2 and 4 more" in lines[-3]
    assert lines[-1] == "Set: 1 error, 2 warnings, 1 note in 9 cases"
    assert findings_text(report_of()) == "Set: 0 errors, 0 warnings, 0 notes in 9 cases"


def test_a_thumbnail_shows_the_fullest_slice_in_the_worlds_proportions(overlay):
    pixels = decode(thumbnail_png(overlay))
    assert max(pixels.shape[:2]) == SIZE
    assert pixels.shape[0] / pixels.shape[1] == pytest.approx(60 * 1.0 / (52 * 1.2), abs=0.01)
    colors = {tuple(color) for color in pixels.reshape(-1, 3).tolist() if len(set(color)) > 1}
    assert len(colors) == 2  # one outline a class
    assert thumbnail_png(overlay) == thumbnail_png(overlay)


def test_a_thumbnail_of_a_label_at_the_edge_closes_its_outline_and_bad_voxels_are_black():
    image = np.full((1, 8, 8), 5, np.float32)
    image[0, 0, 0] = np.nan
    labels = np.zeros((1, 8, 8), np.int16)
    labels[0, :4] = 1
    pixels = decode(thumbnail_png(OverlayInput("a", image, (1.0, 1.0, 1.0), labels)))
    is_colored = pixels.max(axis=2) != pixels.min(axis=2)
    assert is_colored[-1].all()
    assert is_colored[SIZE // 2 + 1 :, 0].all()
    assert not is_colored[: SIZE // 2 - 1].any()
    plain = decode(thumbnail_png(OverlayInput("a", image, (1.0, 1.0, 1.0))))
    assert (plain.max(axis=2) == plain.min(axis=2)).all()


def decode(png):
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)))
