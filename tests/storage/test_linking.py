import tempfile
from pathlib import Path

import pytest

from tumorseg.errors import StorageError
from tumorseg.storage.linking import link_folder


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    return path


def test_files_are_linked_under_their_names(source, tmp_path):
    link_folder(tmp_path / "kept" / "one", {"fold_0/latest.ckpt": source, "plan.json": source})
    assert (tmp_path / "kept" / "one" / "fold_0" / "latest.ckpt").samefile(source)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["one"]


def test_a_link_keeps_its_content_when_its_source_is_replaced(source, tmp_path):
    link_folder(tmp_path / "kept", {"a": source})
    other = tmp_path / "other"
    other.write_bytes(b"new")
    other.replace(source)
    assert (tmp_path / "kept" / "a").read_bytes() == b"weights"


def test_a_symbolic_link_is_followed(source, tmp_path):
    (tmp_path / "link").symlink_to(source)
    link_folder(tmp_path / "kept", {"a": tmp_path / "link"})
    assert not (tmp_path / "kept" / "a").is_symlink()
    assert (tmp_path / "kept" / "a").read_bytes() == b"weights"


def test_a_folder_that_is_there_stays_as_it_is(source, tmp_path):
    (tmp_path / "kept").mkdir()
    link_folder(tmp_path / "kept", {"a": source})
    assert not list((tmp_path / "kept").iterdir())


def test_another_file_system_gets_copies(source, tmp_path):
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        link_folder(Path(folder) / "kept", {"a": source})
        copy = Path(folder) / "kept" / "a"
        assert copy.read_bytes() == b"weights"
        assert not copy.samefile(source)


def test_a_missing_file_leaves_nothing_behind(source, tmp_path):
    with pytest.raises(StorageError, match="one: cannot write: No such file"):
        link_folder(tmp_path / "kept" / "one", {"a": source, "b": tmp_path / "gone"})
    assert not list((tmp_path / "kept").iterdir())


def test_further_files_hold_what_is_stated_and_come_with_the_links(source, tmp_path):
    link_folder(tmp_path / "kept", {"members/0/latest.ckpt": source}, {"ensemble.json": b"{}", "a/b.txt": b"text"})
    assert (tmp_path / "kept" / "ensemble.json").read_bytes() == b"{}"
    assert (tmp_path / "kept" / "a" / "b.txt").read_bytes() == b"text"
    assert (tmp_path / "kept" / "members" / "0" / "latest.ckpt").samefile(source)
