from pathlib import Path

from tumorseg.reports.results.page import Page, ResultsInput, results_page
from tumorseg.reports.results.viewer import INLINE_BYTES
from tumorseg.reports.results.volumes import ViewerCase
from tumorseg.reports.results.writing import write_page


def test_files_of_an_earlier_page_go_and_those_of_others_stay(tmp_path: Path) -> None:
    first, second, third = (f"report_files/case_{digit * 16}.js" for digit in "0af")
    write_page(tmp_path / "report.html", Page("old", {first: b"0", second: b"1"}))
    (tmp_path / "report_files" / "case_notes.js").write_text("mine")
    write_page(tmp_path / "report.html", Page("new", {second: b"1", third: b"2"}))
    left = {f"report_files/{path.name}": path.read_text() for path in (tmp_path / "report_files").iterdir()}
    assert left == {second: "1", third: "2", "report_files/case_notes.js": "mine"}
    assert (tmp_path / "report.html").read_text() == "new"


def test_the_files_that_a_page_names_are_those_that_an_earlier_one_leaves(
    tmp_path: Path, small_content: ResultsInput, small_volume: ViewerCase
) -> None:
    for letter in (b"1", b"2"):
        volume = small_volume._replace(layers={"image": letter * (INLINE_BYTES + 1)})
        page = results_page(small_content._replace(volumes=[volume]))
        write_page(tmp_path / "report.html", page)
        assert [f"report_files/{path.name}" for path in (tmp_path / "report_files").iterdir()] == list(page.files)


def test_a_page_alone_makes_no_folder(tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", Page("alone", {}))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
