import pickle
from pathlib import Path

import pytest

from tumorseg.errors import InputError, PlanError, StorageError, escaped, escaped_lines, is_plain, quoted, with_advice


def test_the_text_begins_with_the_case_and_the_file():
    error = InputError("found no voxel; restore it", case_id="a", file=Path("images/a.nii"))
    assert str(error) == "case a: images/a.nii: found no voxel; restore it"
    assert (error.case_id, error.file, error.reason) == ("a", "images/a.nii", "found no voxel; restore it")


def test_what_the_reader_knows_already_is_left_out():
    error = InputError("is empty", case_id="a", file="a.nii")
    assert error.text(case_id="a") == "a.nii: is empty"
    assert error.text(case_id="a", file="a.nii") == "is empty"
    assert error.text(case_id="b", file="b.nii") == str(error)


@pytest.mark.parametrize("kind", [InputError, PlanError, StorageError])
def test_the_fields_survive_the_way_between_processes(kind):
    error = kind("is empty", case_id="a", file="a.nii", kind="unreadable_file", lines=["one", "two"])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert str(again) == "case a: a.nii: is empty\none\ntwo"


def test_advice_goes_on_the_line_or_below_the_list():
    one = with_advice(InputError("is empty", file="a.nii"), "or leave it out")
    many = with_advice(InputError("2 problems", file="a.json", lines=["  x", "  y"]), "or leave them out")
    assert str(one) == "a.nii: is empty; or leave it out"
    assert str(many) == "a.json: 2 problems\n  x\n  y\nor leave them out"


@pytest.mark.parametrize(
    "sign", ["\x1b", "\n", "\x7f", "\x9b", "\xad", "\u200b", "\u202e", "\u2028", "\u2029", "\udce9", "\U000e0041"]
)
def test_what_terminals_and_pages_obey_is_escaped_wherever_it_is_quoted(sign):
    error = InputError(f"found {sign}", case_id=f"a{sign}", file=f"b{sign}", lines=[f"  c{sign}"])
    # A line end in what was found becomes a blank, as libraries say things in several lines.
    assert str(error).count(sign.encode("unicode_escape").decode()) == (3 if sign == "\n" else 4)
    assert all(line.isprintable() for line in str(error).split("\n"))
    assert str(error).count("\n") == 1
    assert not is_plain(sign)


def test_other_signs_of_all_scripts_stay_and_nothing_is_escaped_twice():
    text = "Größe\xa05\u3000é日本🫁"
    assert escaped(text) == text
    assert escaped(escaped("a\x1b")) == escaped("a\x1b") == "a\\x1b"
    assert escaped_lines("a\x1b\nb") == "a\\x1b\nb"


def test_the_middle_of_a_text_without_end_is_left_out():
    path = "/" + "a" * 4096
    error = InputError(f"found {'y' * 70_000}, expected less; mend it", file=path, lines=["x" * 9000])
    first, second = str(error).split("\n")
    assert first.startswith(path)
    assert first.endswith("yyy, expected less; mend it")
    assert first.count("(... the middle is left out ...)") == 1
    assert len(first) < 6100
    assert len(second) < 6100


def test_a_text_of_millions_of_control_signs_is_quoted_without_looking_at_all_of_them():
    text = quoted("a" + "\0" * 5_000_000 + "z")
    assert text.startswith("a\\x00\\x00")
    assert text.endswith("\\x00z")
    assert len(text) < 6100
    assert quoted("a\x1b") == "a\\x1b"
