import os

import pytest

from tumorseg.errors import StorageError
from tumorseg.storage.locks import hold_folder


def hold(folder):
    return hold_folder(folder, doing="written to", error=StorageError)


def test_a_folder_is_held_once_whatever_it_is_called_and_free_again_afterwards(tmp_path):
    folder = tmp_path / "out"
    with hold(folder):
        with pytest.raises(StorageError, match="out is being written to by another process") as caught:
            hold(tmp_path / "." / "out").__enter__()
        assert "\n" not in str(caught.value)
        with hold(tmp_path / "other"):
            pass
    with hold(folder):
        assert not folder.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_beside_which_nothing_can_be_written_is_held_from_inside(tmp_path):
    folder = tmp_path / "mounted" / "out"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o555)
    with hold(folder), pytest.raises(StorageError, match="is being written to"):
        hold(folder).__enter__()
    folder.parent.chmod(0o755)
