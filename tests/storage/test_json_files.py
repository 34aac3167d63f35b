import os
import tracemalloc
from pathlib import Path

import pytest

from tumorseg.errors import InputError, PlanError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage import json_files
from tumorseg.storage.json_files import read_json, read_record, write_record


def test_a_record_survives_the_round_trip(tmp_path):
    record = ImageFile(path="é.nii.gz", index=2)
    write_record(tmp_path / "new" / "a.json", record)
    assert read_record(ImageFile, tmp_path / "new" / "a.json") == record
    assert (tmp_path / "new" / "a.json").read_text(
        "utf-8"
    ) == '{\n  "index": 2,\n  "num_volumes": null,\n  "parts": [],\n  "path": "é.nii.gz"\n}\n'


def test_a_byte_order_mark_is_no_harm(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json", InputError) == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "not UTF-8 at position 0"),
        (b"{", "is not JSON"),
        (b"", "is not JSON"),
        (b'{"a": NaN}', "found NaN, which JSON does not know"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1e999]", "found 1e999"),
        (b"1" * 5000, "5000 digits"),
        (b'{"\\u009b31m": 1}', "holds control"),
        (b'["\\udc80"]', "half a character"),
        (b"[\xed\xa0\x80]", "not UTF-8 at position 1"),
    ],
)
def test_what_is_no_json_is_one_clear_line(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(PlanError, match=message) as error:
        read_json(tmp_path / "a.json", PlanError)
    assert str(error.value).startswith(str(tmp_path / "a.json"))
    assert "\n" not in str(error.value)


def test_missing_and_unreadable_files_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "none.json", InputError)
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path, InputError)


def test_an_unknown_key_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"path": "x", "colour": 1}')
    with pytest.raises(PlanError, match=r"a\.json: colour: unknown key"):
        read_record(ImageFile, tmp_path / "a.json", error=PlanError)


def test_a_key_that_stands_twice_is_refused_for_one_value_would_be_lost(tmp_path):
    (tmp_path / "f.json").write_text('{"labels": {"tumour": 1, "liver": 2, "tumour": 3}}')
    with pytest.raises(InputError, match=r"f\.json: is not JSON \(the key 'tumour' stands twice in one object\); mend"):
        read_json(tmp_path / "f.json", InputError)


def test_what_never_ends_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(InputError, match=r"cannot be read \(is a pipe, a socket or a device, expected a file\)"):
            read_json(path, InputError)


def test_no_more_is_set_aside_than_a_file_holds(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("[1]")
    tracemalloc.start()
    try:
        assert read_json(tmp_path / "a.json", InputError) == [1]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(json_files, "MOST_BYTES", 2)
    with pytest.raises(InputError, match=r"cannot be read \(more than"):
        read_json(tmp_path / "a.json", InputError)


def test_paths_that_can_be_none_are_one_line(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "loop", tmp_path / ("x" * 300), Path("a\0b")):
        with pytest.raises(InputError, match="cannot be read") as refused:
            read_json(path, InputError)
        assert str(refused.value).isprintable()
