"""Files that are not what their name says, and paths where no file is."""

import gzip
import os
import socket

import nibabel
import numpy as np
import pytest

from tests.storage.headers import write_meta, write_nrrd
from tumorseg.errors import InputError, escaped
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.images import read_geometry, read_image


def packed(content):
    """Return content as gzip packs it, the same at any time: tests are known by their values."""
    return gzip.compress(content, mtime=0)


def nifti():
    return nibabel.Nifti1Image(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), np.eye(4)).to_bytes()


def refusal(path):
    with pytest.raises(InputError) as refused:
        read_image(ImageFile(path=str(path)))
    message = str(refused.value)
    start = escaped(f"{path}: ")
    assert message.startswith(start)
    assert "\n" not in message
    return message[len(start) :]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.nii.gz", nifti(), "is not compressed, though its name says so; rename it to x.nii"),
        (
            "x.nii",
            packed(nifti()),
            "is compressed with gzip, though its name does not say so; rename it to x.nii.gz",
        ),
        ("x.nii.gz", packed(packed(nifti())), "is compressed twice with gzip; unpack it once"),
        ("x.nii.gz", packed(bytes(128) + b"DICM" + bytes(900)), "is DICOM inside, not NIfTI"),
        (
            "x.nii",
            bytes(128) + b"DICM" + bytes(900),
            "is DICOM by its first bytes, not what its name says; rename it to .dcm",
        ),
        ("x.png", bytes(128) + b"DICM" + bytes(900), "is DICOM by its first bytes"),
        ("x.mha", bytes(128) + b"DICM" + bytes(900), "is DICOM by its first bytes"),
        ("x.nrrd", nifti(), "is NIfTI by its first bytes, not what its name says; rename it to .nii"),
        (
            "x.nii.gz",
            b"PK\x03\x04" + bytes(99),
            "is a zip archive by its first bytes, not what its name says; unpack it",
        ),
        ("x.nii.gz", b"<!DOCTYPE html><html>", "is a web page by its first bytes"),
        ("x.nii", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        ("x.nii", b"\x89PNG\r\n\x1a\n" + bytes(600), "is a PNG picture by its first bytes"),
        ("x.jpg", b"", "is empty; copy or download it again"),
        ("x.nii.gz", packed(nifti())[:90], "cannot be read as NIfTI"),
    ],
)
def test_a_file_that_is_something_else_is_called_what_it_is(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    found = refusal(tmp_path / name)
    assert message in found
    assert ("again" in found) == (not content or "cannot be read" in message)


def test_a_big_endian_file_is_known_too(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4), nibabel.Nifti1Header(endianness=">"))
    (tmp_path / "x.nii.gz").write_bytes(image.to_bytes())
    assert refusal(tmp_path / "x.nii.gz").startswith("is not compressed")


def test_formats_that_are_told_apart_by_their_first_bytes_are_read_under_each_others_names(tmp_path):
    assert read_geometry(write_nrrd(tmp_path / "a.mha")).shape == (6, 5, 4)
    assert read_geometry(write_meta(tmp_path / "a.nrrd")).shape == (6, 5, 4)


def test_a_link_that_leads_nowhere_is_called_one(tmp_path):
    (tmp_path / "x.nii.gz").symlink_to("gone.nii.gz")
    assert refusal(tmp_path / "x.nii.gz").startswith("is a link to gone.nii.gz, which is not there")
    (tmp_path / "y.nii.gz").symlink_to("y.nii.gz")
    assert refusal(tmp_path / "y.nii.gz").startswith("cannot be looked at")


def test_a_folder_of_a_files_name_is_called_one(tmp_path):
    (tmp_path / "x.nii.gz").mkdir()
    assert refusal(tmp_path / "x.nii.gz") == "is a folder, expected a file; remove it"
    (tmp_path / "x.nii.gz" / "x.nii").write_bytes(nifti())
    assert "name the file in it, such as x.nii" in refusal(tmp_path / "x.nii.gz")


def test_pipes_and_sockets_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.nii.gz")
    assert refusal(tmp_path / "x.nii.gz").startswith("is a pipe, a socket or a device")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(tmp_path / "y.png"))
        assert refusal(tmp_path / "y.png").startswith("is a pipe, a socket or a device")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_may_not_be_read_is_said_to_be_so(tmp_path):
    (tmp_path / "x.nii").write_bytes(nifti())
    (tmp_path / "x.nii").chmod(0)
    assert refusal(tmp_path / "x.nii").startswith("may not be read")
    (tmp_path / "shut").mkdir(mode=0)
    assert refusal(tmp_path / "shut" / "x.nii").startswith("cannot be looked at")


@pytest.mark.parametrize("name", ["none.nii", "none.dcm", "none/none.png", "no\0ne.nii"])
def test_only_what_is_not_there_is_said_not_to_be(tmp_path, name):
    message = refusal(tmp_path / name)
    assert message.startswith("no such file" if "\0" not in name else "cannot be looked at")


def test_a_path_below_a_file_is_not_there(tmp_path):
    (tmp_path / "x.nii").write_bytes(nifti())
    assert refusal(tmp_path / "x.nii" / "y.nii").startswith("no such file")
