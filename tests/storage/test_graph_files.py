import pytest

from tumorseg.errors import InputError, StorageError
from tumorseg.storage.graph_files import find_graph, keep_graph


def write(file, weights=b"weights"):
    file.write_bytes(b"<net/>")
    file.with_suffix(".bin").write_bytes(weights)


def never(file):
    raise AssertionError("written again")


def test_what_was_kept_is_found_and_not_written_again(tmp_path):
    folder = tmp_path / "engines" / "0a"
    assert find_graph(folder) is None

    file = keep_graph(folder, write)

    assert find_graph(folder) == keep_graph(folder, never) == file
    assert file.read_bytes() == b"<net/>"
    assert file.with_suffix(".bin").read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["graph.xml", "graph.bin", "whole.json"])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_damage_is_said_and_what_is_damaged_is_replaced(tmp_path, name, damage):
    folder = tmp_path / "0a"
    keep_graph(folder, write)
    if damage == "cut":
        (folder / name).write_bytes((folder / name).read_bytes()[:-3])
    else:
        (folder / name).unlink()

    with pytest.raises(StorageError, match="is damaged"):
        find_graph(folder)
    assert keep_graph(folder, write) == find_graph(folder) == folder / "graph.xml"


def test_what_a_killed_process_left_half_written_is_no_graph_and_goes(tmp_path):
    folder, unfinished = tmp_path / "0a", tmp_path / ".0a.unfinished"
    unfinished.mkdir()
    write(unfinished / "graph.xml", weights=b"wei")

    assert find_graph(folder) is None
    assert keep_graph(folder, write).with_suffix(".bin").read_bytes() == b"weights"
    assert not unfinished.exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), InputError("cannot be converted")])
def test_a_failure_while_writing_leaves_nothing(tmp_path, error):
    def fail(file):
        write(file)
        raise error

    folder = tmp_path / "0a"
    with pytest.raises(StorageError if isinstance(error, OSError) else InputError, match=r"No space left|cannot be"):
        keep_graph(folder, fail)
    assert [path.name for path in tmp_path.iterdir()] == [".0a.lock"]
