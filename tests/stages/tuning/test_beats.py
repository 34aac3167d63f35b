import time

import pytest

from tests.stages.tuning.synthetic import write_study
from tumorseg.errors import StorageError
from tumorseg.stages.tuning.beats import Silences, beating
from tumorseg.storage.study_workers import read_beats


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def silences(clock):
    return Silences(60.0, clock)


def look(silences, clock, beats, seconds=10.0):
    clock.now += seconds
    silences.look(beats)


def test_a_worker_lives_once_it_has_counted_and_is_gone_after_the_lease(silences, clock):
    look(silences, clock, {"w": "1"})
    assert (silences.alive(), silences.gone()) == ([], [])
    look(silences, clock, {"w": "2"})
    for _ in range(5):
        look(silences, clock, {"w": "2"})
        assert silences.alive() == ["w"]
    look(silences, clock, {"w": "2"})
    assert (silences.alive(), silences.gone()) == ([], ["w"])
    look(silences, clock, {"w": "3"})
    assert (silences.alive(), silences.gone()) == (["w"], [])


def test_a_file_that_was_left_over_never_lives(silences, clock):
    for _ in range(6):
        look(silences, clock, {"w": "1"})
        assert silences.alive() == []
    look(silences, clock, {"w": "1"})
    assert silences.gone() == ["w"]
    look(silences, clock, {})
    assert silences.gone() == []


def test_a_look_counts_a_quarter_of_the_lease_at_most(silences, clock):
    look(silences, clock, {"w": "1"})
    for _ in range(3):
        look(silences, clock, {"w": "1"}, seconds=1e6)
        assert silences.gone() == []
    look(silences, clock, {"w": "1"}, seconds=1e6)
    assert silences.gone() == ["w"]


def test_a_worker_whose_counter_goes_has_left_and_one_that_never_had_one_is_waited_for(silences, clock):
    look(silences, clock, {"left": "1", "unknown": ""})
    look(silences, clock, {"left": "2", "unknown": ""})
    for _ in range(2):
        look(silences, clock, {"left": "", "unknown": ""})
        assert silences.left() == ["left"]
        assert silences.alive() == []
    for _ in range(3):
        look(silences, clock, {"left": "", "unknown": ""})
    assert silences.gone() == ["unknown"]


def counter(folder):
    return int(read_beats(folder)["w"])


def wait_for(is_so):
    ends = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < ends, "it took too long"
        time.sleep(0.005)


def test_a_worker_counts_until_it_leaves_also_after_a_disk_was_full(tmp_path, caplog):
    folder = write_study(tmp_path / "study")
    with beating(folder, "w", 0.01):
        assert counter(folder) >= 0
        wait_for(lambda: counter(folder) > 1)
        folder.workers.rename(tmp_path / "aside")
        folder.workers.write_text("in the way")
        wait_for(lambda: "no sign of life could be given" in caplog.text)
        folder.workers.unlink()
        wait_for(lambda: "w" in read_beats(folder))
    assert read_beats(folder) == {}


def test_a_worker_that_cannot_show_that_it_lives_does_not_begin(tmp_path):
    folder = write_study(tmp_path / "study")
    folder.workers.write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"), beating(folder, "w", 0.01):
        pass
