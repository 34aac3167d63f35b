"""The process that decodes packed pixels: whatever becomes of it, a file is named, and the next one is read."""

import gc
import os
import resource
import signal
import sys
import threading

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless

from tests.dicoms import write_series
from tumorseg.errors import InputError, StorageError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.dicom import decoder, decoder_process
from tumorseg.storage.images import read_image


@pytest.fixture
def packed(tmp_path):
    array = np.random.default_rng(3).integers(-900, 900, (1, 16, 16)).astype(np.int16)
    (path,) = write_series(tmp_path / "series", array)
    dataset = pydicom.dcmread(path)
    dataset.compress(JPEGLSLossless)
    dataset.save_as(path)
    return ImageFile(path=str(path)), array


def end_decoder():
    decoder._running.clear()
    gc.collect()


def status_of_fork(action):
    """Return how a process ended that was forked from this one and did something."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_it_may_be_killed_between_two_files_and_during_one_and_runs_no_code_of_the_folder(
    tmp_path, monkeypatch, packed
):
    file, array = packed
    assert np.array_equal(read_image(file).array, array)
    process = decoder._running[0].process
    process.kill()
    process.wait()
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setattr("sys.path", ["", *sys.path])
    # what libraries print is no answer
    monkeypatch.setattr(decoder, "_START", 'print("d" * 99, flush=True); ' + decoder._START)
    assert np.array_equal(read_image(file).array, array)

    process = decoder._running[0].process
    os.kill(process.pid, signal.SIGSTOP)
    threading.Timer(0.2, process.kill).start()
    with pytest.raises(InputError, match=r"series/.*its pixels, in JPEG-LS .*, stop the decoder \(signal 9\)"):
        read_image(file)
    assert np.array_equal(read_image(file).array, array)


def test_a_forked_process_leaves_it_to_its_owner(packed):
    file, array = packed
    read_image(file)
    process, end = decoder._running[0].process, decoder._running[0].end

    def act():
        end()  # as at the end of each process
        os._exit(0 if not decoder._running and decoder._lock.acquire(blocking=False) else 1)

    with decoder._lock:
        assert status_of_fork(act) == 0
    assert np.array_equal(read_image(file).array, array)
    assert decoder._running[0].process is process


def test_where_it_does_not_start_no_file_is_called_damaged(monkeypatch, packed):
    end_decoder()
    monkeypatch.setattr(decoder, "_START", "raise SystemExit(3)")
    with pytest.raises(StorageError, match=r"did not start \(exit code 3\)"):
        read_image(packed[0])
    monkeypatch.setattr(decoder.os, "pipe", lambda: (_ for _ in ()).throw(OSError(24, "Too many open files")))
    with pytest.raises(StorageError, match=r"no room for a process that decodes DICOM \(Too many open files\)"):
        read_image(packed[0])


def test_the_system_ends_it_after_its_time_and_its_memory(monkeypatch):
    monkeypatch.setattr(decoder_process, "WAITING", 10_000)  # the machine may be busy
    signals = signal.SIGPROF, signal.SIGALRM

    def compute():
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        decoder_process.bound(None, 0.01)
        while True:
            pass

    def fill():
        # Other tests may have left addresses behind that nothing lies at.
        most = decoder_process._num_addresses() + (64 << 20)
        decoder_process.bound(most, 60.0)
        try:
            np.ones(128 << 20, np.uint8)
        except MemoryError:
            os._exit(resource.getrlimit(resource.RLIMIT_AS)[0] != most)

    assert status_of_fork(compute) == -signal.SIGPROF
    assert status_of_fork(fill) == 0
