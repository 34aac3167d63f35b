import pytest

from tumorseg.errors import StorageError
from tumorseg.storage.disk import byte_text, require_room


def test_room_is_granted_or_refused_with_both_figures(tmp_path):
    require_room(tmp_path, 1, what="a file")
    with pytest.raises(StorageError, match=r"a file needs 1073741824\.0 GB, \d+\.\d \w+ are free; nothing was written"):
        require_room(tmp_path, 2**60, what="a file")


def test_a_disk_that_cannot_be_asked_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        require_room(tmp_path / "none", 1, what="a file")


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (0, None, "0 bytes"),
        (1023, None, "1023 bytes"),
        (1536, None, "1.5 kB"),
        (0, 0, "0/0 bytes"),
        (5, 2 * 2**20, "0.0/2.0 MB"),
        (27 * 2**30, 27 * 2**30, "27.0/27.0 GB"),
    ],
)
def test_bytes_are_written_in_one_unit(done, total, text):
    assert byte_text(done, total) == text
