import pickle
from pathlib import Path

import pytest

from tumorseg.errors import InputError, PlanError, StorageError, with_advice


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
