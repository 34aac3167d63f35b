import signal

import pytest

from tumorseg.workers.worker import describe_exit


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (-signal.SIGSEGV, "was killed by signal 11 (SIGSEGV)"),
        (-signal.SIGKILL, "was killed by signal 9 (SIGKILL, out of memory?)"),
        (-200, "was killed by signal 200 (unknown)"),
        (1, "ended with exit code 1"),
        (None, "closed its pipe without ending"),
    ],
)
def test_an_exit_is_told_in_words(code: int | None, expected: str) -> None:
    assert describe_exit(code) == expected
