import pytest

from tumorseg.errors import StorageError
from tumorseg.storage.disk import require_room


def test_room_is_granted_or_refused_with_both_figures(tmp_path):
    require_room(tmp_path, 1, what="a file")
    with pytest.raises(StorageError, match=r"a file needs 1073741824\.0 GB, \d+\.\d \w+ are free; nothing was written"):
        require_room(tmp_path, 2**60, what="a file")


def test_a_disk_that_cannot_be_asked_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        require_room(tmp_path / "none", 1, what="a file")
