import io
import os
import random
import resource
import shutil
import tarfile
from pathlib import Path

import pytest

from tumorseg.errors import InputError, StorageError
from tumorseg.storage.downloads.archives import remove_unpacking, unpacked
from tumorseg.storage.layout import FetchFiles

CONTENT = bytes(range(256)) * 9


def member(name, content=CONTENT, kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content) if kind == tarfile.REGTYPE else 0
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def folder(name):
    return member(name, kind=tarfile.DIRTYPE)


GOOD = [
    folder("Task/"),
    member("._Task", b"mac"),
    member("Task/dataset.json", b"{}"),
    member("Task/._dataset.json", b"mac"),
    member("Task/.DS_Store", b"mac"),
    folder("Task/imagesTr"),
    member("Task/imagesTr/a.nii.gz"),
    member("Task/imagesTr/._a.nii.gz", b"mac"),
    member("./Task/imagesTr//é b.nii.gz", b""),
    member("Task/labelsTr/a.nii.gz", mode=0o6777, uid=12345, mtime=1),
]


def tar_bytes(members, **options):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return buffer.getvalue()


@pytest.fixture
def files(tmp_path):
    return FetchFiles(tmp_path / "Task")


def unpack(files, members, watch=lambda *_: None, **options):
    files.archive.write_bytes(members if isinstance(members, bytes) else tar_bytes(members, **options))
    with unpacked(files.archive, files, watch=watch) as found:
        assert not files.target.exists() or os.listdir(files.target) == []
        return sorted(path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file())


def left(files):
    return sorted(os.listdir(files.target.parent))


@pytest.mark.parametrize("style", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_an_archive_becomes_a_folder_without_hidden_files(files, style):
    told = []
    found = unpack(files, GOOD, lambda done, total, text: told.append((done, total)), format=style)
    assert found == ["dataset.json", "imagesTr/a.nii.gz", "imagesTr/é b.nii.gz", "labelsTr/a.nii.gz"]
    assert (files.target / "imagesTr" / "a.nii.gz").read_bytes() == CONTENT
    assert told[-1] == (2 + 2 * len(CONTENT), 2 + 2 * len(CONTENT))
    assert left(files) == ["Task", "Task.tar"]


def test_files_have_the_users_rights_and_not_the_archives(files):
    unpack(files, GOOD)
    state = (files.target / "labelsTr" / "a.nii.gz").stat()
    assert (state.st_mode & 0o7777, state.st_uid) == (0o644, os.getuid())
    assert state.st_mtime > 1


def test_folders_need_no_entries_of_their_own_and_may_have_two(files):
    assert unpack(files, [member("Task/a/b/c", b"x"), folder("./"), folder("Task"), folder("Task/")]) == ["a/b/c"]


BAD = {
    "parent": [member("Task/../../evil")],
    "parent at the start": [member("../evil")],
    "parent in the middle": [member("Task/a/../b")],
    "parent folder": [folder("Task/..")],
    "absolute": [member("/tmp/evil")],
    "absolute with two": [member("//tmp/evil")],
    "backslash": [member("Task\\..\\evil")],
    "line break": [member("Task/a\nb")],
    "symbolic link": [member("Task/a", kind=tarfile.SYMTYPE, linkname="/etc/passwd")],
    "link inside": [member("Task/a", kind=tarfile.SYMTYPE, linkname="dataset.json")],
    "link for the top": [member("Task", kind=tarfile.SYMTYPE, linkname="/tmp")],
    "hard link": [member("Task/a", kind=tarfile.LNKTYPE, linkname="Task/dataset.json")],
    "character device": [member("Task/a", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "block device": [member("Task/a", kind=tarfile.BLKTYPE)],
    "pipe": [member("Task/a", kind=tarfile.FIFOTYPE)],
    "sparse": [member("Task/a", kind=tarfile.GNUTYPE_SPARSE)],
    "other top": [member("Other/a")],
    "other top folder": [folder("Other")],
    "file beside": [member("README")],
    "longer top": [member("Task2/a")],
    "unnamed": [member("")],
    "top is a file": [member("Task")],
    "twice": [member("Task/a"), member("Task/a", b"other")],
    "twice by another path": [member("Task/a"), member("Task/./a")],
    "twice but for case": [member("Task/a"), member("Task/A")],
    "file and folder": [member("Task/a"), folder("Task/a")],
    "file below a file": [member("Task/a"), member("Task/a/b")],
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("place", ["first", "last"])
def test_an_archive_with_anything_else_is_refused_whole(files, name, place):
    good = [member("Task/dataset.json"), member("Task/imagesTr/x")]
    members = [*BAD[name], *good] if place == "first" else [*good, *BAD[name]]
    with pytest.raises(InputError, match=r"nothing was unpacked") as error:
        unpack(files, members)
    assert "\n" not in str(error.value)
    assert str(files.archive) in str(error.value)
    assert left(files) == ["Task.tar"]
    assert not Path("/tmp/evil").exists()
    assert not (files.target.parent.parent / "evil").exists()


def test_a_name_with_a_null_byte_is_refused(files):
    info, _ = member("Task/a", b"")
    info.pax_headers = {"path": "Task/a\0b"}
    with pytest.raises(InputError, match="is no plain path"):
        unpack(files, [(info, b"")], format=tarfile.PAX_FORMAT)


@pytest.mark.parametrize("members", [[], [folder("Task")], [member("Task/._a")]])
def test_an_archive_without_files_is_refused(files, members):
    with pytest.raises(InputError, match="holds no file, expected the folder Task"):
        unpack(files, members)


@pytest.mark.parametrize("content", [b"", b"<html>" * 999, tar_bytes(GOOD)[:9000], tar_bytes(GOOD)[:1300]])
def test_what_is_no_whole_tar_is_one_line(files, content):
    with pytest.raises(InputError, match=r"Task\.tar: (is no sound tar archive|holds no file)") as error:
        unpack(files, content)
    assert "\n" not in str(error.value)
    assert left(files) == ["Task.tar"]


def test_compressed_archives_are_not_read(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(member("Task/a")[0], io.BytesIO(CONTENT))
    with pytest.raises(InputError, match="is no sound tar archive"):
        unpack(files, buffer.getvalue())


def test_damaged_archives_never_end_in_another_error(files):
    whole, chance = bytearray(tar_bytes(GOOD, format=tarfile.PAX_FORMAT)), random.Random(0)
    for _ in range(100):
        damaged = whole.copy()
        for _ in range(3):
            damaged[chance.randrange(len(damaged))] = chance.choice(b"0179 =\0\xff\x80LKSxg-")
        for start in range(0, len(damaged), 512):
            if damaged[start + 257 : start + 262] == b"ustar":
                damaged[start + 148 : start + 156] = b" " * 8
                damaged[start + 148 : start + 156] = b"%06o\0 " % sum(damaged[start : start + 512])
        try:
            unpack(files, bytes(damaged))
        except (InputError, StorageError):
            assert left(files) == ["Task.tar"]
        else:
            shutil.rmtree(files.target)


def test_an_archive_that_announces_more_than_the_disk_holds_is_refused(files):
    info, _ = member("Task/big", b"")
    info.size = shutil.disk_usage(files.target.parent).free + 2**40
    content = info.tobuf(tarfile.GNU_FORMAT)
    files.archive.write_bytes(content)
    os.truncate(files.archive, len(content) + info.size + 1024)  # a hole, which takes no room
    with (
        pytest.raises(StorageError, match=r"unpacking Task\.tar needs .* are free"),
        unpacked(files.archive, files, watch=lambda *_: None),
    ):
        pass
    assert left(files) == ["Task.tar"]


def test_an_archive_that_announces_more_than_it_holds_is_refused(files):
    for size in (10**5, 10**13, 10**17):
        info, _ = member("Task/big", b"")
        info.size = size
        with pytest.raises(InputError, match="is no sound tar archive"):
            unpack(files, info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        assert left(files) == ["Task.tar"]


def test_what_the_block_refuses_is_not_put_in_place(files):
    files.archive.write_bytes(tar_bytes(GOOD))

    def refuse():
        with unpacked(files.archive, files, watch=lambda *_: None) as found:
            assert (found / "dataset.json").is_file()
            raise InputError("no")

    with pytest.raises(InputError, match="no"):
        refuse()
    assert left(files) == ["Task.tar"]


def test_a_disk_that_fills_up_leaves_nothing(files):
    files.archive.write_bytes(tar_bytes(GOOD))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with (
            pytest.raises(StorageError, match="cannot write: File too large; nothing was changed; free disk space"),
            unpacked(files.archive, files, watch=lambda *_: None),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left(files) == ["Task.tar"]


def test_an_interrupt_leaves_nothing(files):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(files, GOOD, interrupt)
    assert left(files) == ["Task.tar"]


def test_what_a_killed_run_left_is_replaced(files):
    (files.unpacking / "Task" / "imagesTr").mkdir(parents=True)
    (files.unpacking / "Task" / "old").write_bytes(b"half")
    assert "old" not in unpack(files, GOOD)
    assert left(files) == ["Task", "Task.tar"]


def test_a_link_in_the_place_of_leftovers_is_not_followed(files, tmp_path):
    (tmp_path / "precious").mkdir()
    files.unpacking.symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError, match="cannot write"):
        remove_unpacking(files)
    assert (tmp_path / "precious").is_dir()


def test_an_empty_folder_is_filled_and_another_is_never_touched(files):
    files.target.mkdir()
    unpack(files, GOOD)
    (files.target / "mine").write_bytes(b"mine")
    files.archive.write_bytes(tar_bytes(GOOD))
    with (
        pytest.raises(StorageError, match="cannot write: Directory not empty"),
        unpacked(files.archive, files, watch=lambda *_: None),
    ):
        pass
    assert (files.target / "mine").read_bytes() == b"mine"
    assert left(files) == ["Task", "Task.tar"]


def test_a_missing_archive_is_one_line(files):
    with pytest.raises(InputError, match="No such file"), unpacked(files.archive, files, watch=lambda *_: None):
        pass
