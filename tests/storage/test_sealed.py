import errno
import json
import zlib
from pathlib import Path

import pytest

from tumorseg.errors import StorageError
from tumorseg.schema.base import Record
from tumorseg.storage import sealed
from tumorseg.storage.sealed import (
    FileSeal,
    is_intact,
    read_sealed,
    require_readable,
    seal_of,
    seal_of_file,
    write_sealed,
)


class Note(Record):
    """Something that is kept."""

    number: float
    names: tuple[str, ...] = ()


NOTE = Note(number=0.1, names=("a", "é"))
SEALS = {"a.bin": FileSeal(num_bytes=3, crc32=7)}


def test_a_record_and_what_it_says_of_files_come_back(tmp_path):
    write_sealed(tmp_path / "note.json", NOTE, key="k", files=SEALS)
    found = read_sealed(Note, tmp_path / "note.json", key="k")
    assert found.record == NOTE
    assert found.files == SEALS


def test_the_layout_of_the_file_does_not_matter(tmp_path):
    path = tmp_path / "note.json"
    write_sealed(path, NOTE, key="k")
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert read_sealed(Note, path, key="k").record == NOTE


@pytest.mark.parametrize(
    ("before", "after"), [("0.1", "0.2"), ('"a"', '"b"'), ("3", "2"), ("7", "6"), ("a.bin", "b.bin")]
)
def test_what_was_changed_is_told(tmp_path, before, after):
    path = tmp_path / "note.json"
    write_sealed(path, NOTE, key="k", files=SEALS)
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(StorageError, match=r"note\.json: "):
        read_sealed(Note, path, key="k")


def test_another_key_no_seal_and_no_object_are_told(tmp_path):
    path = tmp_path / "note.json"
    write_sealed(path, NOTE, key="k")
    with pytest.raises(StorageError, match="copied from elsewhere"):
        read_sealed(Note, path, key="other")
    for text in (json.dumps({"number": 0.1, "names": []}), "[]", "{"):
        path.write_text(text)
        with pytest.raises(StorageError):
            read_sealed(Note, path, key="k")


def test_a_file_is_intact_if_its_bytes_are_those_that_were_written(tmp_path):
    path, data = tmp_path / "a.bin", bytes(range(256)) * 9000
    path.write_bytes(data)
    assert seal_of(data) == seal_of_file(path)
    assert seal_of(data).crc32 == zlib.crc32(data)
    path.write_bytes(data[:-1] + b"x")
    assert is_intact(path, seal_of(data), in_full=False)
    assert not is_intact(path, seal_of(data), in_full=True)
    path.write_bytes(data[:-1])
    assert not is_intact(path, seal_of(data), in_full=False)
    assert not is_intact(tmp_path / "none", seal_of(data), in_full=False)


def test_a_drive_that_fails_says_nothing_of_a_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")

    def fail(*_args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(StorageError, match=r"a\.bin: cannot be read \(Input/output error\); check the drive"):
        is_intact(path, seal_of(b"abc"), in_full=True)
    with pytest.raises(StorageError, match="check the drive"):
        require_readable(path)


def test_a_file_is_read_once_in_a_process_unless_it_changes(tmp_path, monkeypatch):
    path, looks = tmp_path / "a.bin", []
    monkeypatch.setattr(sealed, "crc32_of", lambda _file, num_bytes: looks.append(num_bytes) or num_bytes)
    path.write_bytes(b"abc")
    for _ in range(3):
        seal_of_file(path)
    path.write_bytes(b"abcd")
    seal_of_file(path)
    assert looks == [3, 4]


class LaterNote(Note):
    """The same with one more field, as a later version has it."""

    unit: str = "mm"


def test_a_later_field_with_a_default_leaves_a_seal_whole(tmp_path):
    write_sealed(tmp_path / "note.json", NOTE, key="k")
    assert read_sealed(LaterNote, tmp_path / "note.json", key="k").record.unit == "mm"
