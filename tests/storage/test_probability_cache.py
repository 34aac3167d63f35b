import os

import numpy as np
import pytest

from tumorseg.errors import StorageError
from tumorseg.storage.probability_cache import (
    RECORD,
    VOLUMES,
    ProbabilityCache,
    StoredVolumes,
    affine_rows,
    write_volumes,
)

SHAPE = (21, 13, 17)
BOX = ((8, 19), (2, 13), (0, 5))
PLENTY = 1 << 30


def about(box=BOX, num_volumes=2):
    return StoredVolumes(
        shape=SHAPE,
        spacing_mm=(3.0, 0.7, 1.1),
        affine=affine_rows(np.diag([1.1, 0.7, 3.0, 1.0])),
        box=box,
        num_volumes=num_volumes,
    )


def some_volumes(seed=0, box=BOX, num_volumes=2):
    """Return whole volumes (N, Z, Y, X) that are 0 outside a box."""
    whole = np.zeros((num_volumes, *SHAPE), np.uint16)
    inside = tuple(slice(*axis) for axis in box)
    whole[(slice(None), *inside)] = np.random.default_rng(seed).integers(1, 65536, size=whole[:, *inside].shape)
    return whole


def cropped(whole, box=BOX):
    return [volume[tuple(slice(*axis) for axis in box)] for volume in whole]


def fill(cache, key, seed=0):
    with cache.partial(key) as folder:
        write_volumes(folder, about(), cropped(some_volumes(seed)))
        return cache.keep(folder, key)


def size_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize(
    "window",
    [((0, 21), (0, 13), (0, 17)), ((8, 16), (2, 13), (0, 5)), ((3, 9), (0, 4), (4, 17)), ((0, 8), (0, 2), (5, 9))],
)
def test_a_window_holds_what_was_written_and_0_outside_the_box(tmp_path, window):
    whole = some_volumes()
    volumes = write_volumes(tmp_path, about(), cropped(whole))
    inside = tuple(slice(*axis) for axis in window)
    assert np.array_equal(volumes.read(window), whole[(slice(None), *inside)])


def test_an_empty_box_is_all_zeros_and_takes_no_file(tmp_path):
    volumes = write_volumes(tmp_path, about(((0, 0), (0, 0), (0, 0))), iter(()))
    assert not volumes.read(((0, 21), (0, 13), (0, 17))).any()
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


def test_what_is_kept_is_found_again_by_another_process(tmp_path):
    assert fill(ProbabilityCache(tmp_path, PLENTY), "one")
    found = ProbabilityCache(tmp_path, PLENTY).find("one")
    assert np.array_equal(found.read(((0, 21), (0, 13), (0, 17))), some_volumes())
    assert found.about.spacing_mm == (3.0, 0.7, 1.1)


def test_what_is_not_kept_is_gone_and_never_found(tmp_path):
    cache = ProbabilityCache(tmp_path, 0)
    assert not fill(cache, "one")
    assert cache.is_full
    assert cache.find("one") is None
    assert list(tmp_path.iterdir()) == []


def test_unfinished_folders_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / ".partial-one-abc").mkdir(parents=True)
    (tmp_path / ".partial-one-abc" / VOLUMES).write_bytes(b"half")
    ProbabilityCache(tmp_path, PLENTY)
    assert list(tmp_path.iterdir()) == []


def spoil_bytes(folder):
    data = bytearray((folder / VOLUMES).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / VOLUMES).write_bytes(data)


def cut_off(folder):
    (folder / VOLUMES).write_bytes((folder / VOLUMES).read_bytes()[:100])


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_bytes,
        cut_off,
        lambda folder: (folder / VOLUMES).unlink(),
        lambda folder: (folder / RECORD).write_text("{"),
        lambda folder: (folder / RECORD).write_text((folder / RECORD).read_text().replace("0.7", "0.9", 1)),
    ],
)
def test_damaged_folders_count_as_missing_and_can_be_made_anew(tmp_path, spoil):
    fill(ProbabilityCache(tmp_path, PLENTY), "one")
    spoil(tmp_path / "one")
    cache = ProbabilityCache(tmp_path, PLENTY)
    assert cache.find("one") is None
    assert fill(cache, "one")
    assert np.array_equal(cache.find("one").read(BOX), np.stack(cropped(some_volumes())))


def test_a_file_that_goes_while_it_is_read_is_an_error_that_says_what_to_do(tmp_path):
    cache = ProbabilityCache(tmp_path, PLENTY)
    fill(cache, "one")
    found = cache.find("one")
    (tmp_path / "one" / VOLUMES).unlink()
    with pytest.raises(StorageError, match="give the command again"):
        found.read(BOX)


def fill_aged(folder, *keys):
    """Keep something under each key, the first the oldest."""
    cache = ProbabilityCache(folder, PLENTY)
    for age, key in enumerate(keys):
        fill(cache, key, seed=age)
        os.utime(folder / key / RECORD, (1000 + age, 1000 + age))


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_what_is_beyond_a_smaller_limit_is_removed_what_nobody_wants_first(tmp_path):
    fill_aged(tmp_path, "mine", "mine too", "other", "newer other")
    room_for_three = sum(size_of(tmp_path / key) for key in ("mine", "mine too", "newer other"))
    ProbabilityCache(tmp_path, room_for_three, ["mine", "mine too"])
    assert names(tmp_path) == {"mine", "mine too", "newer other"}
    cache = ProbabilityCache(tmp_path, size_of(tmp_path / "mine too"), ["mine", "mine too"])
    assert names(tmp_path) == {"mine too"}
    assert cache.num_bytes == size_of(tmp_path / "mine too")


def test_a_limit_of_0_keeps_nothing_new_and_leaves_what_is_there(tmp_path):
    fill_aged(tmp_path, "mine", "other")
    cache = ProbabilityCache(tmp_path, 0, ["mine", "now"])
    assert not fill(cache, "now")
    assert names(tmp_path) == {"mine", "other"}
    assert cache.find("mine") is not None


def test_nothing_gives_way_to_what_would_not_fit_even_then(tmp_path):
    fill_aged(tmp_path, "mine", "other")
    room = size_of(tmp_path / "mine") + size_of(tmp_path / "other")
    cache = ProbabilityCache(tmp_path, room, ["mine", "large"])
    with cache.partial("large") as folder:
        (folder / VOLUMES).write_bytes(bytes(room - size_of(tmp_path / "mine") + 1))
        assert not cache.keep(folder, "large")
    assert names(tmp_path) == {"mine", "other"}


def test_two_cases_of_the_same_files_made_side_by_side_are_kept_once(tmp_path):
    cache = ProbabilityCache(tmp_path, PLENTY)
    with cache.partial("one") as first, cache.partial("one") as second:
        for folder in (first, second):
            write_volumes(folder, about(), cropped(some_volumes()))
            assert cache.keep(folder, "one")
    assert names(tmp_path) == {"one"}
    assert cache.num_bytes == size_of(tmp_path / "one")
    assert np.array_equal(cache.find("one").read(BOX), np.stack(cropped(some_volumes())))


def test_the_limit_counts_what_is_there_already(tmp_path):
    fill(ProbabilityCache(tmp_path, PLENTY), "one")
    room_for_one = size_of(tmp_path / "one") + 10
    cache = ProbabilityCache(tmp_path, room_for_one, ["one", "two"])
    assert not fill(cache, "two", seed=2)
    assert cache.find("one") is not None
    assert cache.num_bytes == size_of(tmp_path / "one")


def test_the_oldest_that_nobody_wants_gives_way_and_what_is_wanted_stays(tmp_path):
    first = ProbabilityCache(tmp_path, PLENTY)
    for age, key in enumerate(["wanted", "older", "newer"]):
        fill(first, key, seed=age)
        os.utime(tmp_path / key / RECORD, (1000 + age, 1000 + age))
    room = sum(size_of(tmp_path / key) for key in ("wanted", "older", "newer"))
    cache = ProbabilityCache(tmp_path, room, ["wanted", "now"])
    assert fill(cache, "now", seed=1)
    assert {path.name for path in tmp_path.iterdir()} == {"wanted", "newer", "now"}


def test_the_same_volumes_give_the_same_bytes(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        write_volumes(tmp_path / name, about(), cropped(some_volumes()))
    assert (tmp_path / "a" / VOLUMES).read_bytes() == (tmp_path / "b" / VOLUMES).read_bytes()
