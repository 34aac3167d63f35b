from tumorseg.workers.outcomes import Failure, failure_table


def test_failures_become_a_table_of_one_line_each() -> None:
    failures = [Failure("case_10", "two\nlines"), Failure("a", "killed by signal 9", "Traceback …")]
    assert failure_table(failures) == "a        killed by signal 9\ncase_10  two lines"


def test_no_failures_make_an_empty_table() -> None:
    assert failure_table([]) == ""
