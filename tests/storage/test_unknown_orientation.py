"""Files that do not state where their axes point to: what is assumed, said, and done with a stated orientation."""

import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from tests.storage.headers import DIRECTIONS, write_meta, write_nrrd
from tumorseg.errors import InputError
from tumorseg.ops.integrity import axis_code
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.file_warnings import captured_warnings
from tumorseg.storage.image_writing import write_segmentation
from tumorseg.storage.images import (
    read_geometry,
    read_image,
    read_images,
    read_label_values,
    read_reference,
    read_segmentation,
)

EDGES = (0.7, 0.9, 3.1)
SHAPE = (5, 6, 7)
OBLIQUE = np.array([[0, -0.9, 0, 4], [0.7, 0, 0, 5], [0, 0, 3.1, 6], [0, 0, 0, 1.0]])


def write(path, *, sform=0, qform=0, negative=(), shape=SHAPE, unit="mm", affine=OBLIQUE):
    """Write a NIfTI with these codes, and the voxel sizes of these axes made negative in the file."""
    voxels = np.random.default_rng(3).integers(0, 3, shape).astype(np.uint8)
    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units(unit)
    image.set_sform(affine, code=sform)
    image.set_qform(affine, code=qform)
    data = bytearray(image.to_bytes())
    for axis in negative:
        data[83 + 4 * axis] ^= 0x80  # the sign of pixdim[axis]
    path.write_bytes(data)
    return str(path)


def words(path):
    header = nibabel.Nifti1Header(Path(path).read_bytes()[:348], check=False)
    fields = ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "xyzt_units")
    return [*(np.asarray(header[field]).tolist() for field in fields), header["pixdim"][:4].tolist()]


def centre(path, code=None):
    geometry = read_geometry(path, code)
    return geometry.affine @ [*((np.array(geometry.shape[::-1]) - 1) / 2), 1]


def read_loudly(caplog, path, code=None):
    """Return what was read, and the lines at info and above."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "tumorseg.storage"):
        volume = read_image(ImageFile(path=path), code)
    return volume, [(record.levelno, record.getMessage()) for record in caplog.records]


OPEN = {
    "no codes": (lambda folder: write(folder / "a.nii"), "sform_code is 0 and qform_code 0", "L, A, S"),
    "flat": (lambda folder: write(folder / "a.nii", shape=(5, 6)), "sform_code is 0 and qform_code 0", "L, A, S"),
    "no codes, negative": (lambda folder: write(folder / "a.nii", negative=(1,)), "pixdim is negative", "L, A, S"),
    "qform, negative": (
        lambda folder: write(folder / "a.nii", qform=1, negative=(1, 3)),
        "pixdim is negative",
        "A, L, S",
    ),
    "NRRD": (lambda folder: write_nrrd(folder / "a.nrrd", "spacings: 0.7 0.9 3.1"), "names no space", "L, P, S"),
    "NRRD of a space": (
        lambda folder: write_nrrd(folder / "a.nrrd", "space dimension: 3", DIRECTIONS),
        "no space",
        "L, P, S",
    ),
    "NRRD, no directions": (
        lambda folder: write_nrrd(folder / "a.nrrd", "space: RAS"),
        "no space directions",
        "R, A, S",
    ),
    "MetaImage": (
        lambda folder: write_meta(folder / "a.mha", "ElementSpacing = 0.7 0.9 3.1"),
        "TransformMatrix",
        "L, P, S",
    ),
    "letters alone": (
        lambda folder: write_meta(folder / "a.mha", "AnatomicalOrientation = ASL"),
        "read in two ways",
        "L, P, S",
    ),
}


@pytest.mark.parametrize("name", OPEN)
def test_without_a_stated_orientation_what_is_assumed_is_said_once_with_the_files_name(tmp_path, caplog, name):
    make, missing, letters = OPEN[name]
    path = make(tmp_path)
    volume, lines = read_loudly(caplog, path)
    assert not volume.is_placed
    ((level, line),) = lines
    assert level == logging.WARNING
    assert line.startswith(f"{path}: ")
    assert missing in line
    assert f"axes x, y, z to be {letters}" in line
    assert line.endswith("state it with --assume-orientation CODE or in a manifest")
    assert letters == ", ".join(axis_code(volume.affine))


@pytest.mark.parametrize("name", OPEN)
@pytest.mark.parametrize("code", ["RAS", "LPS", "PIR", "ILA"])
def test_a_stated_orientation_is_that_of_the_axes_and_the_grid_is_centred(tmp_path, caplog, name, code):
    path = OPEN[name][0](tmp_path)
    plain = read_geometry(path)
    volume, lines = read_loudly(caplog, path, code)
    assert not volume.is_placed
    assert axis_code(volume.affine) == code
    assert (np.count_nonzero(volume.affine[:3, :3], axis=0) == 1).all()
    np.testing.assert_allclose(
        *(np.linalg.norm(one[:3, :3], axis=0) for one in (volume.affine, plain.affine)), rtol=1e-6
    )
    np.testing.assert_allclose(centre(path, code), [0, 0, 0, 1], atol=1e-6)
    ((level, line),) = lines
    assert (level, line.startswith(path), "as stated" in line) == (logging.INFO, True, True)


def test_edges_are_those_of_the_header_in_its_unit(tmp_path):
    for code in (None, "PIR"):
        small = read_geometry(write(tmp_path / "a.nii", unit="micron"), code)
        np.testing.assert_allclose(np.linalg.norm(small.affine[:3, :3], axis=0), np.multiply(EDGES, 1e-3), rtol=1e-6)
        flat = read_geometry(write(tmp_path / "b.nii", unit="meter", shape=(5, 6)), code)
        np.testing.assert_allclose(np.linalg.norm(flat.affine[:3, :3], axis=0), (700, 900, 1), rtol=1e-6)


def test_nibabels_reading_is_kept_where_nothing_is_stated(tmp_path):
    path = write(tmp_path / "a.nii")
    np.testing.assert_allclose(read_geometry(path).affine, nibabel.load(path).affine)
    np.testing.assert_allclose(centre(path), [0, 0, 0, 1], atol=1e-6)


def test_files_that_say_where_they_lie_heed_no_stated_orientation(tmp_path, caplog):
    for number, path in enumerate(
        [
            write(tmp_path / "s.nii", sform=1),
            write(tmp_path / "q.nii", qform=1),
            write_nrrd(tmp_path / "a.nrrd", "space: LAS", DIRECTIONS),
            write_meta(tmp_path / "a.mha", "TransformMatrix = 1 0 0 0 1 0 0 0 1"),
            write_meta(tmp_path / "b.mha", "AnatomicalOrientation = RAI"),
        ]
    ):
        volume, lines = read_loudly(caplog, path, "PIR")
        assert (volume.is_placed, lines) == (True, []), number
        np.testing.assert_array_equal(volume.affine, read_geometry(path).affine)


def test_pictures_know_no_world_and_nothing_is_said(tmp_path, caplog):
    Image.fromarray(np.zeros((6, 5), np.uint8)).save(tmp_path / "a.png")
    volume, lines = read_loudly(caplog, str(tmp_path / "a.png"), "PIR")
    assert (volume.is_placed, lines) == (True, [])
    np.testing.assert_array_equal(volume.affine, np.eye(4))


@pytest.mark.parametrize("qform", [0, 1])
def test_beside_a_negative_voxel_size_the_sform_counts_and_the_contradiction_is_said(tmp_path, caplog, qform):
    path = write(tmp_path / "a.nii", sform=2, qform=qform, negative=(2,))
    volume, lines = read_loudly(caplog, path)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-6)
    assert volume.is_placed
    ((level, line),) = lines
    assert level == logging.WARNING
    assert "pixdim is negative, which contradicts the sform; assumes axes x, y, z to be A, L, S" in line
    confirmed, lines = read_loudly(caplog, path, "ALS")
    np.testing.assert_array_equal(confirmed.affine, volume.affine)
    assert [level for level, _ in lines] == [logging.INFO]


def test_a_stated_orientation_that_differs_from_such_an_sform_is_heeded(tmp_path, caplog):
    path = write(tmp_path / "a.nii", sform=2, negative=(1,))
    volume, lines = read_loudly(caplog, path, "RAS")
    assert not volume.is_placed
    np.testing.assert_allclose(volume.affine[:3, :3], np.diag(EDGES), rtol=1e-6)
    np.testing.assert_allclose(centre(path, "RAS"), [0, 0, 0, 1], atol=1e-6)
    ((level, line),) = lines
    assert level == logging.INFO
    assert "contradicts the sform; takes axes x, y, z to be R, A, S, as stated" in line


def test_codes_that_mean_nothing_are_none(tmp_path, caplog):
    path = write(tmp_path / "a.nii")
    with Path(path).open("r+b") as file:
        file.seek(254)
        file.write((77).to_bytes(2, "little"))
    volume, lines = read_loudly(caplog, path)
    assert not volume.is_placed
    assert [line for _, line in lines if "sform_code is 77 and qform_code 0" in line]


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-right-handed", "3D-left-handed"])
def test_spaces_other_than_the_patients_are_read_only_where_the_orientation_is_stated(tmp_path, space):
    path = write_nrrd(tmp_path / "a.nrrd", f"space: {space}", DIRECTIONS)
    with pytest.raises(
        InputError, match=f"space is {space.lower()}, which is not the patient's; state it with --assume"
    ):
        read_image(ImageFile(path=path))
    volume = read_image(ImageFile(path=path), "LPS")
    np.testing.assert_allclose(np.diag(volume.affine), (-0.7, -0.9, 3.1, 1))
    assert read_label_values(path) == set(range(120))
    assert not read_geometry(path).is_placed


def test_only_reading_warns_once_a_file(tmp_path, caplog):
    path = write(tmp_path / "a.nii", shape=(5, 6, 7, 3))
    with caplog.at_level(logging.INFO, "tumorseg"):
        read_geometry(path)
        read_geometry(path, "RAS")
        assert read_label_values(write(tmp_path / "b.nii")) == {0, 1, 2}
        assert not caplog.records
        read_images([ImageFile(path=path, index=index) for index in (2, 0, 1)])
        assert len(caplog.records) == 1


def test_labels_are_read_as_images_are(tmp_path, caplog):
    path = write(tmp_path / "a.nii")
    for code, level in ((None, logging.WARNING), ("PIR", logging.INFO)):
        caplog.clear()
        with caplog.at_level(logging.INFO, "tumorseg.storage"):
            found = read_segmentation(path, code)
        assert [record.levelno for record in caplog.records] == [level]
        np.testing.assert_array_equal(found.affine, read_geometry(path, code).affine)
        assert not found.is_placed
    reference = read_reference([path], read_geometry(path), {}, CaseReading(assumed_orientation="PIR"))
    assert axis_code(reference.affine) == "PIR"


def test_what_is_assumed_can_be_captured(tmp_path):
    path = write(tmp_path / "a.nii")
    with captured_warnings() as captured:
        read_image(ImageFile(path=path))
    assert [warning.file for warning in captured] == [path]


@pytest.mark.parametrize(
    "how", [{}, {"negative": (1, 3)}, {"qform": 1, "negative": (2,)}, {"sform": 1, "negative": (1,)}, {"shape": (5, 6)}]
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_result_has_the_header_words_and_the_voxel_order_of_its_image(tmp_path, how, ending):
    like = write(tmp_path / "like.nii", **how)
    labels = np.random.default_rng(1).integers(0, 4, read_geometry(like).shape)
    write_segmentation(tmp_path / f"out{ending}", labels, like=ImageFile(path=like))
    written = str(tmp_path / f"out{ending}")
    np.testing.assert_array_equal(read_segmentation(written).array, labels)
    if ending == ".nii":
        assert words(written) == words(like)
    for code in (None, "ALS"):
        np.testing.assert_array_equal(read_geometry(written, code).affine, read_geometry(like, code).affine)
        assert read_geometry(written).is_placed == read_geometry(like).is_placed
