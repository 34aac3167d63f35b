import re

import pytest

from tumorseg.stages.watching.checks.packages import KNOWN_BAD, check_known_bad, check_packages, check_python


def test_versions_that_fit_are_one_line():
    requirements = [
        "torch!=2.9.*,>=2.6",
        "numpy>=1.26",
        'pytest>=8; extra == "test"',
        'winreg; sys_platform == "win32"',
    ]
    (check,) = check_packages({"torch": "2.13.0+cpu", "numpy": "2.4.6"}, requirements)
    assert (check.grade, check.found) == ("ok", "2 packages in the versions that are required")


def test_a_version_that_does_not_fit_and_a_package_that_is_missing_are_blockers():
    checks = list(check_packages({"torch": "2.9.1"}, ["torch!=2.9.*,>=2.6", "numpy", "scipy>=1.12"]))
    assert [check.grade for check in checks] == ["blocker"] * 3
    assert checks[0].found == "torch 2.9.1; expected !=2.9.*,>=2.6"
    assert checks[0].advice == "pip install 'torch!=2.9.*,>=2.6'"
    assert checks[1].found == "numpy missing; expected any version"


def test_run_from_a_folder_nothing_is_known():
    (check,) = check_packages({}, None)
    assert check.grade == "note"


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        ({"torch": "2.8.0", "cudnn": "9.10.2"}, ["cudnn 9.10.2", "cudnn 9.10.2"]),
        ({"cudnn": "9.15.0"}, ["cudnn 9.15.0"]),
        ({"torch": "2.13.0+cpu", "cudnn": "9.21.0"}, []),
        ({}, []),
    ],
)
def test_versions_that_are_known_to_be_bad_are_named_with_their_source(installed, found):
    checks = list(check_known_bad(installed))
    assert [check.found.partition(":")[0] for check in checks] == found
    assert all("github.com/" in check.found and check.advice for check in checks)


@pytest.mark.parametrize("bad", KNOWN_BAD)
def test_every_known_problem_has_a_source_and_a_remedy(bad):
    assert re.search(r"[a-z]+\.[a-z]+/", bad.source)
    assert bad.advice
    assert list(check_known_bad({bad.package: re.search(r"\d[\d.]*\d", bad.versions)[0]}, [bad]))


def test_an_old_python_is_a_blocker():
    assert check_python((3, 11, 7), ">=3.11").grade == "ok"
    assert check_python((3, 12, 0), None).grade == "ok"
    check = check_python((3, 10, 2), ">=3.11")
    assert (check.grade, check.found) == ("blocker", "3.10.2; expected >=3.11")
