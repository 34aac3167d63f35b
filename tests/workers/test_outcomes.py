from tumorseg.workers.outcomes import Failure, failure_lines


def test_failures_become_one_line_each() -> None:
    failures = [Failure("case_10", "two\nlines"), Failure("a", "killed by signal 9", "Traceback …")]
    assert failure_lines(failures) == ["a        killed by signal 9", "case_10  two lines"]


def test_no_failures_make_no_lines() -> None:
    assert failure_lines([]) == []
