import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.stages.opening.reading import describe_forms, warn_of_forms
from tumorseg.storage.formats.nifti_headers import form_mismatch, is_stored_as_integers, mend_grid

AFFINE = np.array([[-0.7, 0, 0, 3.0], [0, 0.9, 0, -5.0], [0, 0, 2.5, 8.0], [0, 0, 0, 1]])


def write(path, sform=AFFINE, qform=AFFINE, shape=(7, 6, 5), unit="mm", codes=(1, 1)):
    image = nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), None)
    image.set_sform(sform, code=codes[0])
    image.set_qform(qform, code=codes[1])
    image.header.set_xyzt_units(unit)
    image.to_filename(path)
    return str(path)


def turned(degrees):
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ AFFINE


def test_files_whose_forms_agree_or_that_have_one_only_are_in_order(tmp_path):
    assert form_mismatch(write(tmp_path / "a.nii.gz")) is None
    moved = AFFINE + np.array([[0, 0, 0, 50.0]] + [[0] * 4] * 3)
    assert form_mismatch(write(tmp_path / "b.nii", AFFINE, moved, codes=(1, 0))) is None
    assert form_mismatch(write(tmp_path / "c.nii", AFFINE, moved, codes=(0, 1))) is None


def test_less_than_a_tenth_of_a_voxel_is_agreement(tmp_path):
    for offset, agrees in ((0.06, True), (0.08, False)):
        moved = AFFINE + np.array([[0, 0, 0, offset]] + [[0] * 4] * 3)
        assert (form_mismatch(write(tmp_path / "a.nii", AFFINE, moved)) is None) == agrees


def test_distance_is_in_mm_whatever_the_unit_and_angle_in_degrees(tmp_path):
    found = form_mismatch(write(tmp_path / "a.nii", AFFINE, turned(90)))
    assert found.angle_deg == pytest.approx(90, abs=1e-3)
    assert not found.is_mirrored
    corners = np.array([[x, y, z, 1] for x in (0, 6) for y in (0, 5) for z in (0, 4)]).T
    worst = np.linalg.norm(((turned(90) - AFFINE) @ corners)[:3], axis=0).max()
    assert found.distance_mm == pytest.approx(worst, rel=1e-5)
    metres = np.diag([1e-3, 1e-3, 1e-3, 1])
    small = form_mismatch(write(tmp_path / "b.nii", metres @ AFFINE, metres @ turned(90), unit="meter"))
    assert small.distance_mm == pytest.approx(worst, rel=1e-4)


def test_a_mirror_image_is_called_one(tmp_path):
    path = write(tmp_path / "a.nii.gz", AFFINE, AFFINE @ np.diag([-1, 1, 1, 1]))
    assert form_mismatch(path).is_mirrored
    assert "mirror image" in describe_forms(path)


def test_flat_images_have_forms_too(tmp_path):
    assert form_mismatch(write(tmp_path / "a.nii", shape=(7, 6))) is None
    assert form_mismatch(write(tmp_path / "b.nii", AFFINE, turned(90), shape=(7, 6))) is not None


def test_reading_warns_once_per_file(tmp_path, caplog):
    good, bad = write(tmp_path / "a.nii"), write(tmp_path / "b.nii.gz", AFFINE, turned(90))
    images = (ImageFile(path=good), ImageFile(path=bad, index=0), ImageFile(path=bad, index=1))
    with caplog.at_level(logging.WARNING):
        warn_of_forms(Case(case_id="one", images=images, label=str(tmp_path / "none.nii")))
    (record,) = caplog.records
    assert record.getMessage().startswith(f"case one: {bad}: sform and qform")
    assert "the sform is used" in record.getMessage()


def test_what_is_no_nifti_has_no_forms(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no")
    assert describe_forms(str(tmp_path / "a.nii.gz")) is None
    assert describe_forms(str(tmp_path / "a.nrrd")) is None
    with pytest.raises(InputError):
        form_mismatch(str(tmp_path / "a.nii.gz"))


def test_integers_are_told_from_floats_and_from_scaled_numbers(tmp_path):
    assert is_stored_as_integers(write(tmp_path / "a.nii"))
    image = nibabel.Nifti1Image(np.ones((3, 4, 5), np.float32), AFFINE)
    nibabel.save(image, tmp_path / "b.nii")
    assert not is_stored_as_integers(str(tmp_path / "b.nii"))
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(0.5, 0)
    image.to_filename(tmp_path / "c.nii")
    assert not is_stored_as_integers(str(tmp_path / "c.nii"))


def test_mending_changes_the_header_alone_in_either_byte_order(tmp_path):
    path = write(tmp_path / "a.nii", AFFINE, turned(30))
    swapped = nibabel.load(path)
    other = nibabel.Nifti1Image(np.asanyarray(swapped.dataobj), None, swapped.header.as_byteswapped(">"))
    other.to_filename(tmp_path / "b.nii")
    for name in ("a.nii", "b.nii"):
        mend_grid(tmp_path / f"new_{name}", source=str(tmp_path / name))
        old, new = (tmp_path / name).read_bytes(), (tmp_path / f"new_{name}").read_bytes()
        assert old[348:] == new[348:]
        assert form_mismatch(str(tmp_path / f"new_{name}")) is None
        np.testing.assert_array_equal(
            nibabel.load(tmp_path / f"new_{name}").affine, nibabel.load(tmp_path / name).affine
        )


def test_a_damaged_file_is_not_mended(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        mend_grid(tmp_path / "b.nii.gz", source=str(tmp_path / "a.nii.gz"))
    assert not (tmp_path / "b.nii.gz").exists()


@pytest.mark.parametrize("number", [-np.inf, np.nan, 1e200])
def test_forms_of_no_numbers_are_compared_with_nothing(tmp_path, number):
    path = tmp_path / "a.nii"
    content = bytearray(Path(write(path, AFFINE, AFFINE)).read_bytes())
    # As float32 1e200 is infinite; srow_x begins at byte 280, qoffset_x at byte 268.
    with np.errstate(over="ignore"):
        word = np.array(number, "<f4").tobytes()
    path.write_bytes(bytes(content[:280]) + word + bytes(content[284:]))
    assert form_mismatch(str(path)) is None
    path.write_bytes(bytes(content[:268]) + word + bytes(content[272:]))
    assert form_mismatch(str(path)).is_broken
    assert describe_forms(str(path)).startswith(
        "the qform holds numbers that are no place or no rotation; the sform is"
    )


def test_a_qform_that_is_no_rotation_disagrees_with_any_sform(tmp_path):
    path = tmp_path / "a.nii"
    content = bytearray(Path(write(path, AFFINE, AFFINE)).read_bytes())
    # quatern_b begins at byte 256.
    path.write_bytes(bytes(content[:256]) + np.array(2, "<f4").tobytes() + bytes(content[260:]))
    assert form_mismatch(str(path)).is_broken
    mend_grid(tmp_path / "b.nii", source=str(path))
    assert form_mismatch(str(tmp_path / "b.nii")) is None


def test_a_signalling_nan_in_a_header_warns_of_nothing(tmp_path):
    path = tmp_path / "a.nii"
    content = bytearray(Path(write(path)).read_bytes())
    content[288:292] = (0x7F800001).to_bytes(4, "little")
    path.write_bytes(content)
    assert form_mismatch(str(path)) is None
