from tests.docs.metrics_page import PAGE, PICTURE, lesion_rows, page, percentiles


def test_the_page_of_metrics_is_current():
    assert PAGE.read_text("utf-8") == page(), "run python -m tests.docs.metrics_page"
    assert PICTURE.stat().st_size > 10_000


def test_the_picture_shows_definitions_that_differ():
    found = percentiles()
    assert found["larger"] > 1.5 * found["pooled"]
    assert len(set(lesion_rows().values())) == 3
