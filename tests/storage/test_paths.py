import os

import pytest

from tumorseg.storage.paths import path_fault


def test_what_can_be_no_path_is_told_in_words(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert path_fault(f"{tmp_path}/loop") == "is a link to itself, or leads to one"
    assert path_fault(f"{tmp_path}/loop/a.json") == "is a link to itself, or leads to one"
    assert path_fault("x" * 256) == "is longer than a name can be"
    assert path_fault("a\0b") == "holds a null byte"
    assert path_fault(os.fsdecode(b"caf\xe9")) == "holds bytes that are not UTF-8"


@pytest.mark.parametrize("path", ["", "x" * 255, "nowhere/x", "/dev/null/x", "é"])
def test_nothing_need_be_there(path):
    assert path_fault(path) is None
