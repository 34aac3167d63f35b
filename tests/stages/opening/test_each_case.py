import pytest

from tumorseg.errors import InputError
from tumorseg.stages.opening.each_case import Steps, each_case


def halve(number: int) -> int:
    if number % 2:
        raise InputError("is odd", case_id=str(number))
    return number // 2


def tasks(*numbers: int) -> list[tuple[str, int]]:
    return [(str(number), number) for number in numbers]


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_taken_and_failures_returned(jobs):
    results: dict[str, int] = {}
    failures = each_case(
        halve, tasks(8, 7, 6), results.__setitem__, num_cases=3, expected_bytes=0, jobs=jobs, steps=None
    )
    assert results == {"8": 4, "6": 3}
    assert [(failure.case_id, failure.message) for failure in failures] == [("7", "is odd")]


def test_what_is_known_is_taken_without_work_and_counted(capsys):
    results: dict[str, int] = {}
    each_case(
        halve,
        tasks(7, 6),
        results.__setitem__,
        num_cases=2,
        expected_bytes=0,
        jobs=1,
        steps=Steps("halve", 3, 1),
        known=lambda number: 0 if number == 7 else None,
    )
    assert results == {"7": 0, "6": 3}
    assert capsys.readouterr().err.splitlines()[-1].startswith("halve: 3/3, took ")


def test_finished_cases_are_named_where_that_is_asked_for(capsys):
    each_case(halve, tasks(2), num_cases=1, expected_bytes=0, jobs=1, steps=Steps("halve", 1, are_named=True))
    assert capsys.readouterr().err.endswith("  2\n")
