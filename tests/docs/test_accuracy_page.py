"""docs/accuracy.md says what the rows of the benchmarks say."""

from benchmarks.training_study_scores import CHANGES
from tests.docs.accuracy_page import PAGE, WORDS, page


def test_the_tables_are_what_the_rows_come_to():
    text = PAGE.read_text()
    assert page(text) == text


def test_every_change_has_its_words():
    assert WORDS.keys() == CHANGES.keys()
