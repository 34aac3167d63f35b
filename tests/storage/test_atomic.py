import errno
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tumorseg.errors import InputError, StorageError
from tumorseg.storage.atomic import (
    require_file_name,
    require_replaceable,
    require_writable,
    storage_error,
    umask,
    write_bytes,
    write_parts,
    write_text,
)

# Writes 4096 bytes where no file may grow beyond 1024, as on a full disk; prints the error.
FAILING_WRITE = """
import resource, sys
from pathlib import Path
from tumorseg.errors import InputError, StorageError
from tumorseg.storage.atomic import write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
try:
    write_bytes(Path(sys.argv[1]), bytes(4096))
except StorageError as error:
    print(error)
"""


def fail_to_write(path):
    done = subprocess.run([sys.executable, "-c", FAILING_WRITE, str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    write_bytes(path, b"old")
    write_bytes(path, memoryview(b"new"))
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["a.bin"]


def test_others_may_read_what_was_written(tmp_path):
    write_text(tmp_path / "a.txt", "é")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "a.txt").read_bytes() == "é".encode()


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    message = fail_to_write(path)
    assert message.startswith(f"{path}: cannot write: File too large; nothing was changed; free disk space")
    assert re.search(r"\(4\.0 kB needed, [\d.]+ \wB free\)$", message)
    assert "\n" not in message
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_failing_first_write_leaves_nothing(tmp_path):
    assert "cannot write" in fail_to_write(tmp_path / "a.bin")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes(tmp_path / "file" / "a.bin", b"")


def test_a_folder_in_the_way_is_a_storage_error_that_leaves_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError, match=r"a: cannot write: is a folder, expected a file"):
        write_bytes(tmp_path / "a", b"x")
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_without_permission_is_a_storage_error():
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes(Path("/proc/tumorseg/a.bin"), b"x")


def test_new_files_are_withheld_as_the_user_asks(tmp_path):
    before = os.umask(0o077)
    try:
        write_bytes(tmp_path / "a", b"x")
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_new_files_are_withheld_as_before_when_several_threads_have_asked():
    def ask():
        for _ in range(20_000):
            umask()

    before, interval = umask(), sys.getswitchinterval()
    threads = [threading.Thread(target=ask) for _ in range(4)]
    # Threads change as often as they can.
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert umask() == before
    finally:
        sys.setswitchinterval(interval)
        os.umask(before)


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "free disk space"), (errno.EACCES, "right to write"), (errno.EEXIST, "check the path")],
)
def test_the_advice_fits_the_cause(tmp_path, number, advice):
    assert advice in str(storage_error(tmp_path, OSError(number, os.strerror(number))))


def test_where_a_folder_is_gone_only_what_is_needed_is_told(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    message = str(storage_error(tmp_path / "gone" / "a", full, num_bytes=2000))
    assert message.endswith("free disk space, or choose another folder (2.0 kB needed)")


def test_parts_are_written_one_after_the_other(tmp_path):
    write_parts(tmp_path / "a", (bytes([number]) * 2 for number in range(3)))
    assert (tmp_path / "a").read_bytes() == b"\0\0\1\1\2\2"


def test_a_part_that_cannot_be_made_leaves_the_old_file_and_nothing_else(tmp_path):
    def parts():
        yield b"new"
        raise InputError("no more")

    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(InputError, match="no more"):
        write_parts(tmp_path / "a", parts())
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    # Names of sockets have a hundred letters at most.
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path)


def make_link(path):
    os.mkfifo("elsewhere")
    os.symlink("elsewhere", path)


@pytest.mark.parametrize(
    ("make", "what"), [(os.mkfifo, "a pipe"), (make_socket, "a socket"), (make_link, "a pipe"), (os.mkdir, "a folder")]
)
def test_what_is_no_regular_file_is_never_replaced(in_folder, make, what):
    make("x.html")
    before = os.lstat("x.html")
    with pytest.raises(StorageError, match=f"^x.html: cannot write: is {what}, expected a file or nothing"):
        write_bytes(Path("x.html"), b"new")
    with pytest.raises((StorageError, InputError), match=what):
        require_file_name("--html", Path("x.html"), (".html",))
    assert os.path.samestat(os.lstat("x.html"), before)
    assert stat.S_IFMT(os.lstat("x.html").st_mode) == stat.S_IFMT(before.st_mode)
    assert not [name for name in os.listdir() if name.startswith(".")]


# No writing to these: were the check wrong, the machine's own would go.
@pytest.mark.parametrize("name", ["/dev/null", "/dev/stdout", "/dev/fd/1", "/dev/nothing", "/proc/self/fd/1"])
def test_names_of_the_system_are_no_outputs_whatever_they_lead_to(name):
    with pytest.raises(StorageError, match="expected a file or nothing"):
        require_replaceable(Path(name))


def test_a_link_to_a_file_and_one_to_nothing_are_replaced(in_folder):
    Path("a").write_bytes(b"old")
    os.symlink("a", "to_file")
    os.symlink("b", "to_nothing")
    for name in ("to_file", "to_nothing"):
        write_bytes(Path(name), b"new")
        assert Path(name).read_bytes() == b"new"
    assert Path("a").read_bytes() == b"old"


def test_a_null_byte_is_one_line(in_folder):
    for refuse in (require_replaceable, require_writable, lambda path: write_bytes(path, b"new")):
        with pytest.raises(StorageError, match="cannot write: can be no path") as refused:
            refuse(Path("a\0b"))
        assert str(refused.value).isprintable()
