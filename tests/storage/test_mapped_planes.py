import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tumorseg.errors import StorageError
from tumorseg.storage.mapped_planes import MappedPlanes

KILLED = """
import os, signal, sys
from pathlib import Path
from tumorseg.storage.mapped_planes import MappedPlanes
planes = MappedPlanes(Path(sys.argv[1]), (4, 50, 70))
planes.array[:] = 7
print(os.listdir(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""
# No file may grow beyond 4096 bytes, as on a full disk.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tumorseg.errors import StorageError
from tumorseg.storage.mapped_planes import MappedPlanes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    MappedPlanes(Path(sys.argv[1]), (4, 50, 70))
except StorageError as error:
    print(error)
"""


def run(code, folder):
    return subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)


def test_what_is_written_along_one_axis_is_read_along_another(tmp_path):
    expected = np.random.default_rng(0).integers(0, 65536, (5, 2, 3, 7)).astype(np.uint16)
    with MappedPlanes(tmp_path, expected.shape) as planes:
        assert not planes.array.any()
        for row in range(3):
            planes.array[:, :, row] = expected[:, :, row]
        np.testing.assert_array_equal(planes.array, expected)
        assert os.listdir(tmp_path) == []


def test_without_a_folder_the_systems_own_for_temporary_files_is_taken():
    with MappedPlanes(None, (1, 2, 3)) as planes:
        planes.array[0, 1, 2] = 9
        assert planes.array.sum() == 9


def test_a_killed_process_leaves_nothing(tmp_path):
    killed = run(KILLED, tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert os.listdir(tmp_path) == []


def test_a_disk_without_room_is_a_storage_error_before_anything_is_written(tmp_path):
    told = run(FULL_DISK, tmp_path)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"{tmp_path}: cannot write: File too large; nothing was changed; free disk space")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        MappedPlanes(tmp_path / "none", (1, 5, 7))


def test_a_system_that_cannot_allocate_writes_the_zeros(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    with MappedPlanes(tmp_path, (3, 1000, 501)) as planes:
        planes.array[2, 999, 500] = 5
        assert planes.array.sum() == 5
