import time

import pytest

from tumorseg.errors import StorageError
from tumorseg.storage import probes
from tumorseg.storage.file_system_time import file_system_now
from tumorseg.storage.probes import nearest, probe_folder


def test_a_folder_is_tried_out_and_left_as_it_was(tmp_path):
    traits = probe_folder(tmp_path)
    assert (traits.has_locks, traits.has_atomic_rename, traits.is_case_sensitive) == (True, True, True)
    assert abs(traits.skew_s) < 5
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_is_an_error(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        probe_folder(tmp_path / "none")


def test_a_file_system_without_locks_or_renaming_is_found_out(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(probes.FileLock, "acquire", refuse)
    assert not probes._has_locks(tmp_path)
    monkeypatch.setattr(probes.Path, "replace", lambda *_: (_ for _ in ()).throw(OSError()))
    assert not probes._has_atomic_rename(tmp_path)


def test_the_nearest_folder_that_is_there_is_found(tmp_path):
    assert nearest(tmp_path / "a" / "b") == tmp_path
    assert nearest(tmp_path) == tmp_path


def test_the_file_system_tells_the_time(tmp_path):
    assert abs(file_system_now(tmp_path) - time.time()) < 5
    assert list(tmp_path.iterdir()) == []
    assert abs(file_system_now(tmp_path / "none") - time.time()) < 5
