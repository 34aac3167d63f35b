import pytest

from tumorseg.schema.quantities import GB
from tumorseg.stages.watching.checks.folders import (
    FolderFacts,
    check_data_root,
    check_tracking,
    check_work_folder,
)

FINE = FolderFacts("runs", free_bytes=500 * GB, free_entries=10**9)


def found(**fields):
    return [(check.name, check.grade) for check in check_work_folder(FINE._replace(**fields))]


def test_a_folder_that_can_hold_a_run_is_one_line():
    assert found() == [("disk", "ok")]


@pytest.mark.parametrize(
    ("fields", "grade"),
    [
        ({"failure": "cannot write: Permission denied"}, "blocker"),
        ({"has_atomic_rename": False}, "blocker"),
        ({"has_locks": False}, "warning"),
        ({"is_case_sensitive": False}, "note"),
        ({"skew_s": -90.0}, "note"),
    ],
)
def test_what_its_file_system_cannot_do_is_told(fields, grade):
    assert found(**fields)[0] == ("work folder", grade)


@pytest.mark.parametrize(
    ("fields", "grade"),
    [
        ({"free_bytes": GB // 2}, "blocker"),
        ({"free_bytes": 5 * GB}, "warning"),
        ({"free_entries": 10}, "warning"),
        ({"free_entries": None}, "ok"),
        ({"free_bytes": None}, "note"),
    ],
)
def test_room_is_judged_in_bytes_and_files(fields, grade):
    assert found(**fields) == [("disk", grade)]


@pytest.mark.parametrize(("is_there", "is_readable", "grade"), [(1, 1, "ok"), (1, 0, "blocker"), (0, 0, "note")])
def test_the_data_root_need_not_be_there_but_readable(is_there, is_readable, grade):
    assert check_data_root("data", is_there=bool(is_there), is_readable=bool(is_readable)).grade == grade


def test_a_database_that_cannot_be_written_is_a_warning():
    assert check_tracking("sqlite:///x", "").grade == "ok"
    check = check_tracking("sqlite:///x", "database is locked")
    assert check.grade == "warning"
    assert "database is locked" in check.found
