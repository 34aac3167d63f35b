import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tumorseg.errors import StorageError
from tumorseg.storage.plane_scratch import PlaneScratch

WHOLE = (slice(0, 5), slice(0, 7))
# Keeps a slice, and then is killed.
KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from tumorseg.storage.plane_scratch import PlaneScratch
scratch = PlaneScratch(Path(sys.argv[1]), (4, 50, 70))
noise = np.random.default_rng(0).integers(0, 65536, (2, 50, 70)).astype(np.uint16)
scratch.add(1, (slice(0, 50), slice(0, 70)), noise)
print(os.listdir(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""
# Keeps slices where no file may grow beyond 4096 bytes, as on a full disk.
FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from tumorseg.errors import StorageError
from tumorseg.storage.plane_scratch import PlaneScratch
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
with PlaneScratch(Path(sys.argv[1]), (4, 50, 70)) as scratch:
    try:
        scratch.add(0, (slice(0, 50), slice(0, 70)), np.random.default_rng(0).integers(0, 65536, (1, 50, 70)).astype(np.uint16))
    except StorageError as error:
        print(error)
"""


def planes(seed, count=3, shape=(5, 7)):
    return np.random.default_rng(seed).integers(0, 65536, (count, *shape)).astype(np.uint16)


def run(code, folder):
    return subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)


def test_volumes_are_the_planes_of_all_slices_whatever_their_order(tmp_path):
    slices = {position: planes(position) for position in (2, 0, 3, 1)}
    with PlaneScratch(tmp_path, (4, 5, 7)) as scratch:
        for position, kept in slices.items():
            scratch.add(position, WHOLE, kept)
        for number in (2, 0, 1):
            expected = np.stack([slices[position][number] for position in range(4)])
            np.testing.assert_array_equal(scratch.volume(number, outside=9), expected)


def test_what_no_slice_covers_is_outside_and_empty_planes_are_zeros(tmp_path):
    kept = planes(0, count=2, shape=(3, 2))
    kept[1] = 0
    with PlaneScratch(tmp_path, (4, 5, 7)) as scratch:
        scratch.add(2, (slice(1, 4), slice(5, 7)), kept)
        first, second = scratch.volume(0, outside=65535), scratch.volume(1, outside=9)
    np.testing.assert_array_equal(first[2, 1:4, 5:7], kept[0])
    assert (first == 65535).sum() == first.size - 6
    assert (second == 0).sum() == 6
    assert (second == 9).sum() == second.size - 6


def test_a_slice_that_comes_again_replaces_the_one_before(tmp_path):
    with PlaneScratch(tmp_path, (1, 5, 7)) as scratch:
        for seed in (0, 1):
            scratch.add(0, WHOLE, planes(seed))
        np.testing.assert_array_equal(scratch.volume(2, outside=0)[0], planes(1)[2])


def test_a_killed_process_leaves_nothing(tmp_path):
    killed = run(KILLED, tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_a_storage_error(tmp_path):
    told = run(FULL_DISK, tmp_path)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"{tmp_path}: cannot write: File too large; nothing was changed; free disk space")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        PlaneScratch(tmp_path / "none", (1, 5, 7))
