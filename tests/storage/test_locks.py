import os
import threading

import pytest

from tumorseg.errors import StorageError
from tumorseg.storage.locks import briefly_alone, held_parts, hold_folder, hold_part


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


def hold_shard(folder, number, num=2):
    return hold_part(
        folder, f"shard-{number}-of-{num}", fits=lambda other: other.endswith(f"-of-{num}"), error=StorageError
    )


def test_parts_of_one_division_are_held_side_by_side_and_nothing_else_beside_them(tmp_path):
    folder = tmp_path / "out"
    with hold_shard(folder, 1), hold_shard(folder, 2):
        assert held_parts(folder) == ["shard-1-of-2", "shard-2-of-2"]
        for refused in (hold_shard(folder, 1), hold_shard(folder, 3, num=4), hold(folder)):
            with pytest.raises(
                StorageError, match="being written to as shard-1-of-2 by another process; wait"
            ) as caught:
                refused.__enter__()
            assert "\n" not in str(caught.value)
    assert held_parts(folder) == []
    with hold(folder), pytest.raises(StorageError, match="out is being written to by another process"):
        hold_shard(folder, 1).__enter__()
    with hold_shard(folder, 3, num=4):
        assert held_parts(folder) == ["shard-3-of-4"]


def test_a_folder_that_is_called_like_the_part_of_another_is_held_by_itself(tmp_path):
    with hold_shard(tmp_path / "out", 1), hold(tmp_path / "out.shard-1-of-2"), hold(tmp_path / "out.lock.shard-1-of-2"):
        assert held_parts(tmp_path / "out") == ["shard-1-of-2"]


def test_another_folder_that_is_called_as_a_part_is_none(tmp_path):
    (tmp_path / "shard-1-of-2").mkdir()
    assert held_parts(tmp_path / "out") == []
    assert [path.name for path in tmp_path.iterdir()] == ["shard-1-of-2"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_locks_in_a_folder_that_cannot_be_listed_are_a_storage_error(tmp_path):
    (tmp_path / "shut").mkdir(mode=0o300)
    with pytest.raises(StorageError, match="shut: cannot be listed"):
        held_parts(tmp_path / "shut" / "out")
    (tmp_path / "shut").chmod(0o755)


def test_what_is_first_done_to_a_part_is_done_before_others_see_it(tmp_path):
    folder = tmp_path / "out"
    seen = []

    def take_other():
        with hold_shard(folder, 2):
            seen.append(held_parts(folder))

    thread = threading.Thread(target=take_other)

    def first():
        thread.start()
        thread.join(0.2)
        seen.append(held_parts(folder))

    with hold_part(folder, "shard-1-of-2", fits=lambda other: True, error=StorageError, first=first):
        thread.join(10)
    assert seen == [["shard-1-of-2"], ["shard-1-of-2", "shard-2-of-2"]]


def test_whoever_writes_what_parts_share_is_waited_for(tmp_path):
    order = []

    def add(name):
        with briefly_alone(tmp_path / "out"):
            order.append(name)

    with briefly_alone(tmp_path / "out"):
        thread = threading.Thread(target=add, args=["second"])
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
