"""docs/api.md says what the public names say."""

from tests.docs.api_page import PAGE, page


def test_the_page_is_what_the_docstrings_say():
    assert PAGE.read_text() == page()
