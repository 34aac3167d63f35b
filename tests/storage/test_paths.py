import os

import pytest

from tumorseg.storage.paths import impossible_path, impossible_text


def test_what_can_be_no_path_is_told_in_words(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert impossible_path(f"{tmp_path}/loop") == "is a link to itself, or leads to one"
    assert impossible_path(f"{tmp_path}/loop/a.json") == "is a link to itself, or leads to one"
    assert impossible_path("x" * 256) == "is longer than a name can be"
    assert impossible_path("a\0b") == "holds a null byte"
    assert impossible_path(os.fsdecode(b"caf\xe9")) == "holds bytes that are not UTF-8"


@pytest.mark.parametrize("path", ["", "x" * 255, "nowhere/x", "/dev/null/x", "é"])
def test_nothing_need_be_there(path):
    assert impossible_path(path) is None


def test_what_a_document_names_is_judged_without_the_system(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setattr(os, "stat", None)
    assert impossible_text(f"{tmp_path}/loop") is None
    assert impossible_text("é" * 127) is None
    assert impossible_text("é" * 128) == "is longer than a name can be"
    assert impossible_text("a/" * 2048) == "is longer than a name can be"
    assert impossible_text("a\0b") == "holds a null byte"
    assert impossible_text("caf\udce9") == "holds bytes that are not UTF-8"
