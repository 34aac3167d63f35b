"""Files outside a dataset's folder: refused with a hint, or followed where the user allows it."""

from pathlib import Path

import numpy as np
import pytest

from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.sources.inputs import open_inputs, open_labels
from tumorseg.sources.layouts import find_layout
from tumorseg.sources.msd import read_msd
from tumorseg.sources.registry import open_dataset
from tumorseg.storage.images import read_images
from tumorseg.storage.layout import FETCHED

HINT = "or give --allow-outside if you trust this dataset.json"


def outside(tmp_path):
    for channel in range(2):
        layouts.save(tmp_path / "elsewhere" / f"x_{channel}.nii.gz", layouts.image(7, channel))
    layouts.save(tmp_path / "elsewhere" / "x_label.nii.gz", layouts.label(7))
    return tmp_path / "elsewhere"


def write_listed(tmp_path, *, is_absolute):
    """Write an nnU-Net folder whose key `dataset` names files elsewhere."""
    place = outside(tmp_path) if is_absolute else Path("..") / outside(tmp_path).name
    entry = {
        "images": [str(place / f"x_{channel}.nii.gz") for channel in range(2)],
        "label": str(place / "x_label.nii.gz"),
    }
    (tmp_path / "set").mkdir()
    return layouts.write_nnunet(tmp_path / "set", ids=(), dataset={"x": entry})


def write_linked(tmp_path, *, is_absolute):
    """Write an nnU-Net folder whose files are links to elsewhere."""
    place = outside(tmp_path) if is_absolute else Path("../..") / outside(tmp_path).name
    folder = layouts.write_nnunet(tmp_path / "set", ids=("x",))
    for channel in range(2):
        (folder / f"imagesTr/x_{channel:04d}.nii.gz").unlink()
        (folder / f"imagesTr/x_{channel:04d}.nii.gz").symlink_to(place / f"x_{channel}.nii.gz")
    return folder


def write_msd(tmp_path, *, is_absolute):
    """Write a Decathlon folder that names files elsewhere."""
    place = outside(tmp_path) if is_absolute else Path("..") / outside(tmp_path).name
    layouts.save(
        tmp_path / "elsewhere" / "x.nii.gz", np.stack([layouts.image(7, channel) for channel in range(2)], axis=-1)
    )
    pair = {"image": str(place / "x.nii.gz"), "label": str(place / "x_label.nii.gz")}
    (tmp_path / "set").mkdir()
    folder = layouts.write_msd(tmp_path / "set", ids=())
    return layouts.edit_json(folder, training=[pair])


@pytest.mark.parametrize("is_absolute", [True, False])
@pytest.mark.parametrize("write", [write_listed, write_linked, write_msd])
def test_files_outside_are_refused_with_a_hint_and_followed_where_that_is_allowed(tmp_path, write, is_absolute):
    folder = write(tmp_path, is_absolute=is_absolute)
    with pytest.raises(InputError, match=HINT):
        open_dataset(str(folder), tmp_path)
    with pytest.raises(InputError, match=HINT):
        find_layout(folder).list_cases(folder)
    (case,) = open_dataset(str(folder), tmp_path, allow_outside=True).cases
    assert [volume.array[0, 0, 0] for volume in read_images(case.images)] == [70, 71]
    assert find_layout(folder).list_cases(folder, allow_outside=True).cases == (case,)
    names = [channel.name for channel in open_dataset(str(folder), tmp_path, allow_outside=True).channels]
    refused = open_inputs([folder], names)
    assert not refused.cases
    assert [(one.case_id, HINT in one.message) for one in refused.refused] == [("x", True)]
    assert open_inputs([folder], names, allow_outside=True).cases == (case,)
    assert set(open_labels([folder], allow_outside=True).files) == {case.case_id}


@pytest.mark.parametrize("write", [write_listed, write_linked, write_msd])
def test_what_was_fetched_never_leads_outside(tmp_path, write):
    folder = write(tmp_path, is_absolute=False)
    (folder / FETCHED).write_text("{}")
    for opened in (folder, tmp_path / "link"):
        if opened != folder:
            opened.symlink_to(folder)
        with pytest.raises(InputError, match="`data fetch` unpacked this folder, and nothing in it may lead outside"):
            open_dataset(str(opened), tmp_path, allow_outside=True)
    (folder / FETCHED).unlink()
    (tmp_path / FETCHED).write_text("{}")  # a folder above it
    with pytest.raises(InputError, match="whatever --allow-outside says"):
        open_dataset(str(folder), tmp_path, allow_outside=True)


def test_a_whole_folder_of_images_may_be_a_link(tmp_path):
    folder = layouts.write_nnunet(tmp_path / "set")
    (folder / "imagesTr").rename(tmp_path / "images elsewhere")
    (folder / "imagesTr").symlink_to(tmp_path / "images elsewhere")
    with pytest.raises(InputError, match=f"6 problems(.|\n)*{HINT}"):
        open_dataset(str(folder), tmp_path)
    assert len(open_dataset(str(folder), tmp_path, allow_outside=True).cases) == 3


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("", "found the path ''"),
        ("a\0b.nii.gz", "found the path"),
        ("..\\b.nii.gz", "found the path"),
        ("${DATA}/b.nii.gz", "begins with an environment variable; write the path out"),
    ],
)
def test_what_is_no_path_is_refused_whatever_is_allowed(tmp_path, stated, message):
    folder = layouts.write_msd(tmp_path / "set")
    layouts.edit_json(folder, training=[{"image": "imagesTr/case_a.nii.gz", "label": stated}])
    with pytest.raises(InputError, match=message):
        read_msd(folder, allow_outside=True)


@pytest.mark.parametrize("write", [layouts.write_pairs, layouts.write_brats, layouts.write_hecktor, layouts.write_csv])
def test_layouts_without_a_dataset_json_open_alike_with_leave(tmp_path, write):
    folder = write(tmp_path / "set")
    assert open_dataset(str(folder), tmp_path, allow_outside=True) == open_dataset(str(folder), tmp_path)


@pytest.mark.parametrize(
    ("name", "fault", "is_allowed"),
    [
        ("x" * 300 + "/a", "is longer than a name can be", True),
        ("x" * 300 + "/a", "is longer than a name can be", False),
        # Outside of the folder its reader names it, rather than one look at each of 100,000 files when a dataset is opened.
        ("loop", "is a link to itself", False),
    ],
)
def test_a_path_that_can_be_none_is_named_and_stops_nothing_else(tmp_path, name, fault, is_allowed):
    folder = layouts.write_msd(tmp_path, ids=("a",))
    (folder / "loop").symlink_to("loop")
    layouts.edit_json(folder, training=[{"image": name, "label": name}])
    with pytest.raises(InputError, match=fault) as refused:
        read_msd(folder, allow_outside=is_allowed)
    assert all(line.isprintable() for line in str(refused.value).split("\n"))
