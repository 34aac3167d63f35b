import gzip
import logging
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.formats import packed
from tumorseg.storage.image_writing import write_image, write_segmentation
from tumorseg.storage.images import read_geometry, read_image, read_images, read_segmentation, strip_ending

REAL = Path(__file__).parents[2].parent / "shared" / "data"
real = pytest.mark.real
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL}")


def oblique_affine():
    angle = np.radians(17)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.7, 0.9, 3.1])
    affine[:3, 3] = [-12.5, 40.25, 7]
    return affine


def write_nifti(path, stored, affine=None, *, kind=nibabel.Nifti1Image, **header):
    image = kind(stored, oblique_affine() if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return str(path)


def stored_voxels(shape=(5, 6, 7), dtype=np.int16):
    return np.random.default_rng(3).integers(0, 90, shape).astype(dtype)


def patch_header(path, offset, layout, *values):
    data = bytearray(Path(path).read_bytes())
    struct.pack_into(layout, data, offset, *values)
    Path(path).write_bytes(data)
    return str(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_array_axes_are_the_reverse_of_file_axes_and_the_affine_is_the_files(tmp_path, ending, kind):
    stored = stored_voxels()
    volume = read_image(ImageFile(path=write_nifti(tmp_path / f"a{ending}", stored, kind=kind)))
    assert volume.array.dtype == np.float32
    assert volume.array.flags.writeable
    np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0))
    np.testing.assert_allclose(volume.affine, oblique_affine(), atol=1e-6)


def test_big_endian_voxels_are_read(tmp_path):
    stored = stored_voxels(dtype=np.float32)
    image = nibabel.Nifti1Image(stored, np.eye(4), nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_image(ImageFile(path=str(tmp_path / "a.nii.gz"))).array, stored.T)


def test_scaling_is_applied_in_float32(tmp_path):
    image = nibabel.Nifti1Image(stored_voxels(), np.eye(4))
    image.header.set_slope_inter(0.5, -1024)
    nibabel.save(image, tmp_path / "a.nii")
    path = patch_header(tmp_path / "a.nii", 112, "<ff", 0.5, -1024)
    expected = np.asarray(nibabel.load(path).dataobj).T
    found = read_image(ImageFile(path=path)).array
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected)


def test_each_volume_of_a_4d_file_is_a_channel_and_is_read_once(tmp_path):
    stored = stored_voxels((5, 6, 7, 3))
    path = write_nifti(tmp_path / "a.nii.gz", stored)
    for index in range(3):
        np.testing.assert_array_equal(read_image(ImageFile(path=path, index=index)).array, stored[..., index].T)
    together = read_images([ImageFile(path=path, index=index) for index in (2, 0, 2)])
    for volume, index in zip(together, (2, 0, 2), strict=True):
        np.testing.assert_array_equal(volume.array, stored[..., index].T)
    assert read_geometry(path).num_volumes == 3


def test_a_last_axis_of_one_needs_no_index(tmp_path):
    stored = stored_voxels((5, 6, 7, 1))
    path = write_nifti(tmp_path / "a.nii.gz", stored)
    np.testing.assert_array_equal(read_image(ImageFile(path=path)).array, stored[..., 0].T)
    np.testing.assert_array_equal(read_segmentation(path).array, stored[..., 0].T)


def test_a_2d_file_is_one_slice(tmp_path):
    stored = stored_voxels((5, 6))
    path = write_nifti(tmp_path / "a.nii.gz", stored)
    geometry = read_geometry(path)
    assert geometry.shape == (1, 6, 5)
    np.testing.assert_array_equal(read_image(ImageFile(path=path)).array, stored.T[None])


def test_a_2d_file_without_third_direction_gets_a_unit_normal(tmp_path):
    path = write_nifti(tmp_path / "a.nii", stored_voxels((5, 6)), np.diag([-0.5, 2, 1, 1]))
    patch_header(path, 280, "<12f", -0.5, 0, 0, 3, 0, 2, 0, 4, 0, 0, 0, 0)
    affine = read_geometry(path).affine
    np.testing.assert_allclose(affine, [[-0.5, 0, 0, 3], [0, 2, 0, 4], [0, 0, -1, 0], [0, 0, 0, 1]])


def test_a_2d_file_may_leave_its_third_voxel_size_at_zero(tmp_path):
    path = write_nifti(tmp_path / "a.nii", stored_voxels((5, 6)), np.diag([2, 2, 1, 1]))
    patch_header(path, 252, "<hh", 1, 0)
    patch_header(path, 80, "<4f", 2, 2, 0, 0)
    assert np.linalg.norm(read_geometry(path).affine[:3, 2]) == 1


@pytest.mark.parametrize(("code", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001)])
def test_affines_are_in_millimetres_whatever_the_headers_unit(tmp_path, code, factor):
    path = write_nifti(tmp_path / "a.nii.gz", stored_voxels(), xyzt_units=code)
    np.testing.assert_allclose(read_geometry(path).affine[:3], oblique_affine()[:3] * factor, atol=1e-3)


def test_the_sform_counts_where_it_is_coded_and_the_qform_elsewhere(tmp_path):
    image = nibabel.Nifti1Image(stored_voxels(), np.eye(4))
    image.set_qform(np.diag([2, 2, 2, 1]), code=1)
    image.set_sform(oblique_affine(), code=2)
    nibabel.save(image, tmp_path / "both.nii.gz")
    np.testing.assert_allclose(read_geometry(str(tmp_path / "both.nii.gz")).affine, oblique_affine(), atol=1e-6)
    image.set_sform(oblique_affine(), code=0)
    nibabel.save(image, tmp_path / "qform.nii.gz")
    np.testing.assert_allclose(read_geometry(str(tmp_path / "qform.nii.gz")).affine, np.diag([2, 2, 2, 1]))


def test_non_finite_voxels_are_handed_on(tmp_path):
    stored = stored_voxels(dtype=np.float64)
    stored[0, 0, :3] = [np.nan, np.inf, 1e300]
    array = read_image(ImageFile(path=write_nifti(tmp_path / "a.nii", stored))).array
    assert (~np.isfinite(array)).sum() == 3


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 1, 4], np.uint8, np.int16),
        ([0, 2035], np.float32, np.int16),
        ([-3, 7], np.int8, np.int16),
        ([0, 40000], np.uint16, np.int32),
        ([0, 70000], np.float64, np.int32),
    ],
)
def test_labels_come_as_the_smallest_integer_type(tmp_path, values, dtype, expected):
    stored = np.resize(np.array(values, dtype), (3, 4, 5))
    array = read_segmentation(write_nifti(tmp_path / "a.nii.gz", stored)).array
    assert array.dtype == expected
    np.testing.assert_array_equal(array, stored.T)


def test_labels_that_the_header_scales_back_to_integers_are_accepted(tmp_path):
    stored = np.resize(np.array([0.0, 1, 2, 4]), (3, 4, 5))
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert nibabel.load(tmp_path / "a.nii.gz").dataobj.slope != 1
    np.testing.assert_array_equal(read_segmentation(str(tmp_path / "a.nii.gz")).array, stored.T)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (1.5, np.float32, "found the value 1.5, expected integer"),
        (np.nan, np.float32, "found the value nan"),
        (np.inf, np.float64, "found the value inf"),
        (2**33, np.int64, "expected them to fit 32 bits"),
    ],
)
def test_what_is_no_label_is_refused_by_its_value(tmp_path, value, dtype, message):
    stored = np.zeros((3, 4, 5), dtype)
    stored[1, 2, 3] = value
    image = nibabel.Nifti1Image(stored, np.eye(4), dtype=dtype)
    nibabel.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=message):
        read_segmentation(str(tmp_path / "a.nii.gz"))


def one_line(error):
    return "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 2, 200, -40, -4])
def test_a_truncated_gzip_is_refused(tmp_path, keep):
    path = tmp_path / "a.nii.gz"
    write_nifti(path, np.random.default_rng(1).random((9, 10, 11)).astype(np.float32))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a\.nii\.gz: (cannot be read as NIfTI|is empty)") as error:
        read_image(ImageFile(path=str(path)))
    assert one_line(error)


def test_a_flipped_byte_in_a_gzip_is_refused_though_it_unpacks(tmp_path):
    path = tmp_path / "a.nii.gz"
    write_nifti(path, np.random.default_rng(1).random((15, 16, 17)).astype(np.float32))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        read_image(ImageFile(path=str(path)))


def test_a_truncated_plain_file_is_refused(tmp_path):
    path = tmp_path / "a.nii"
    write_nifti(path, stored_voxels())
    path.write_bytes(path.read_bytes()[:-9])
    for reader in (read_image, lambda file: read_geometry(file.path)):
        with pytest.raises(InputError, match=r"cannot be read as NIfTI .*420 bytes of voxels announced"):
            reader(ImageFile(path=str(path)))


def test_a_header_that_announces_more_than_a_file_can_hold_is_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "a.nii"
    write_nifti(path, stored_voxels())
    patch_header(path, 42, "<3h", 30000, 30000, 30000)
    path.with_suffix(".nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    for name in (path, path.with_suffix(".nii.gz")):
        with pytest.raises(InputError, match="too short"):
            read_image(ImageFile(path=str(name)))
        with pytest.raises(InputError, match="too short"):  # by whose shape others ask for memory
            read_geometry(str(name))


@pytest.mark.parametrize("offset", [np.nan, np.inf, 1e30])
def test_voxels_that_begin_nowhere_are_refused(tmp_path, offset):
    path = tmp_path / "a.nii"
    write_nifti(path, stored_voxels())
    patch_header(path, 108, "<f", offset)
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        read_geometry(str(path))


def test_a_gzip_that_unpacks_to_far_more_than_its_header_announces_is_left_unread(tmp_path, monkeypatch):
    path = tmp_path / "a.nii"
    write_nifti(path, stored_voxels())
    data = path.read_bytes()
    bomb = path.with_suffix(".nii.gz")
    bomb.write_bytes(gzip.compress(data + bytes(100)))
    assert read_image(ImageFile(path=str(bomb))).array.shape == (7, 6, 5)
    monkeypatch.setattr(packed, "MOST_SURPLUS", 1 << 20)
    bomb.write_bytes(gzip.compress(data + bytes(3 << 20)))
    with pytest.raises(InputError, match="more than 1048576 bytes come behind its voxels"):
        read_image(ImageFile(path=str(bomb)))


def test_volumes_behind_the_one_that_is_read_are_no_surplus(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "MOST_SURPLUS", 100)
    path = tmp_path / "a.nii.gz"
    volumes = np.arange(4 * 60, dtype=np.float32).reshape(5, 4, 3, 4)
    nibabel.save(nibabel.Nifti1Image(volumes, np.eye(4)), path)
    for index in (0, 3):
        assert np.array_equal(read_image(ImageFile(path=str(path), index=index)).array, volumes[..., index].T)
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # of the checksum, which stands behind the last volume
    path.write_bytes(data)
    with pytest.raises(InputError, match="CRC"):
        read_image(ImageFile(path=str(path), index=0))


@pytest.mark.parametrize("number", [np.nan, np.inf, 3e38])
@pytest.mark.filterwarnings("error")
def test_affines_of_no_number_are_refused_without_a_warning(tmp_path, number):
    path = tmp_path / "a.nii"
    write_nifti(path, stored_voxels())
    patch_header(path, 254, "<h", 1)
    patch_header(path, 280, "<4f", number, 0, number, number)
    with pytest.raises(InputError, match=r"affine|voxel sizes"):
        read_geometry(str(path))


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"no image at all, but long enough" * 30, "cannot be read as NIfTI")]
)
def test_what_is_no_nifti_is_refused(tmp_path, content, message):
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_geometry(str(tmp_path / "a.nii"))


def test_missing_files_and_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.nii: no such file"):
        read_geometry(str(tmp_path / "none.nii"))
    with pytest.raises(InputError, match=r"a\.dcm: no such file"):
        read_geometry(str(tmp_path / "a.dcm"))
    (tmp_path / "a.dcm").write_bytes(b"no DICOM")
    with pytest.raises(InputError, match=r"a\.dcm: unsupported image format"):
        read_geometry(str(tmp_path / "a.dcm"))


@pytest.mark.parametrize("shape", [(5,), (5, 6, 7, 2, 3)])
def test_other_numbers_of_axes_are_refused(tmp_path, shape):
    path = write_nifti(tmp_path / "a.nii.gz", stored_voxels(shape))
    with pytest.raises(InputError, match="expected 2D, 3D, or 4D"):
        read_geometry(path)


def test_negative_sizes_are_refused(tmp_path):
    path = write_nifti(tmp_path / "a.nii", stored_voxels())
    with pytest.raises(InputError, match="expected 2D, 3D, or 4D"):
        read_geometry(patch_header(path, 42, "<h", -5))


def test_complex_and_colour_voxels_are_refused(tmp_path):
    colour = np.zeros((3, 4, 5), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    for name, stored in (("c", np.zeros((3, 4, 5), np.complex64)), ("rgb", colour)):
        with pytest.raises(InputError, match="expected real numbers"):
            read_geometry(write_nifti(tmp_path / f"{name}.nii", stored))


def test_a_channel_that_the_file_does_not_hold_is_refused(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", stored_voxels((5, 6, 7, 2)))
    with pytest.raises(InputError, match=r"found 2 volumes.* expected one at index 2"):
        read_image(ImageFile(path=path, index=2))
    with pytest.raises(InputError, match="found 2 volumes along the last axis, expected one"):
        read_image(ImageFile(path=path))


def test_singular_affines_and_zero_spacings_are_refused(tmp_path, caplog):
    flat = write_nifti(tmp_path / "flat.nii", stored_voxels())
    patch_header(flat, 280, "<12f", 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0)
    with pytest.raises(InputError, match="singular"):
        read_geometry(flat)
    patch_header(flat, 280, "<12f", *[float("nan")] * 12)
    with pytest.raises(InputError, match="zero or no number"):
        read_geometry(flat)
    zero = write_nifti(tmp_path / "zero.nii", stored_voxels(), np.eye(4))
    patch_header(zero, 252, "<hh", 1, 0)
    patch_header(zero, 80, "<3f", 1, 0, 1)
    with caplog.at_level(logging.ERROR), pytest.raises(InputError, match="voxel sizes of zero"):
        read_geometry(zero)


def same_grid(first, second):
    a, b = nibabel.load(first), nibabel.load(second)
    quaternion = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    for field in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units", *quaternion):
        np.testing.assert_array_equal(a.header[field], b.header[field])
    np.testing.assert_array_equal(a.header["pixdim"][:4], b.header["pixdim"][:4])
    np.testing.assert_array_equal(a.affine, b.affine)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 7), (5, 6, 7, 1), (5, 6, 7, 3)])
@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (1, 0), (0, 0)])
def test_a_written_segmentation_lies_on_the_grid_of_its_image(tmp_path, shape, codes):
    image = nibabel.Nifti1Image(stored_voxels(shape, np.float32), oblique_affine())
    image.set_qform(oblique_affine(), code=codes[0])
    image.set_sform(oblique_affine(), code=codes[1])
    image.header.set_xyzt_units("mm", "sec")
    like, path = str(tmp_path / "like.nii.gz"), tmp_path / "out" / "a.nii.gz"
    nibabel.save(image, like)
    segmentation = np.random.default_rng(0).integers(0, 5, read_geometry(like).shape)
    write_segmentation(path, segmentation, like=ImageFile(path=like))
    same_grid(like, path)
    assert nibabel.load(path).shape == shape[:3]
    assert nibabel.load(path).get_data_dtype() == np.uint8
    np.testing.assert_array_equal(read_segmentation(str(path)).array, segmentation)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 7)])
def test_simpleitk_sees_a_written_segmentation_where_its_image_is(tmp_path, shape):
    affine = oblique_affine() if len(shape) == 3 else np.diag([-0.7, -0.9, 1.0, 1.0])
    like = write_nifti(tmp_path / "like.nii.gz", stored_voxels(shape), affine)
    segmentation = stored_voxels(shape[::-1]).reshape(read_geometry(like).shape)
    write_segmentation(tmp_path / "a.nii.gz", segmentation, like=ImageFile(path=like))
    image, written = SimpleITK.ReadImage(like), SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    assert image.GetSize() == written.GetSize()
    assert image.GetOrigin() == written.GetOrigin()
    assert image.GetSpacing() == written.GetSpacing()
    assert image.GetDirection() == written.GetDirection()
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(written), segmentation.reshape(shape[::-1]))


def test_intensity_scaling_and_extensions_of_the_image_are_not_taken_over(tmp_path):
    image = nibabel.Nifti1Image(stored_voxels(dtype=np.float64), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"patient name"))
    image.header["cal_max"] = 9
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "like.nii.gz")
    write_segmentation(tmp_path / "a.nii.gz", np.full((7, 6, 5), 3), like=ImageFile(path=str(tmp_path / "like.nii.gz")))
    written = nibabel.load(tmp_path / "a.nii.gz")
    assert (written.dataobj.slope, written.dataobj.inter) == (1, 0)
    assert not written.header.extensions
    assert written.header["cal_max"] == 0


def test_a_nifti2_image_gives_a_nifti2_segmentation(tmp_path):
    like = write_nifti(tmp_path / "like.nii", stored_voxels(), kind=nibabel.Nifti2Image)
    write_segmentation(tmp_path / "a.nii", np.zeros((7, 6, 5), np.int64), like=ImageFile(path=like))
    assert isinstance(nibabel.load(tmp_path / "a.nii"), nibabel.Nifti2Image)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    like = write_nifti(tmp_path / "like.nii.gz", stored_voxels())
    for name in ("a", "b"):
        write_segmentation(tmp_path / f"{name}.nii.gz", np.ones((7, 6, 5), int), like=ImageFile(path=like))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_writing_refuses_another_shape_and_another_ending(tmp_path):
    like = write_nifti(tmp_path / "like.nii.gz", stored_voxels())
    with pytest.raises(InputError, match=r"found a grid of \(7, 6, 5\)"):
        write_segmentation(tmp_path / "a.nii.gz", np.zeros((7, 6, 4), int), like=ImageFile(path=like))
    with pytest.raises(InputError, match="cannot write this format"):
        write_segmentation(tmp_path / "a.mhd", np.zeros((7, 6, 5), int), like=ImageFile(path=like))
    assert list(tmp_path.iterdir()) == [Path(like)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(
    labels=npst.arrays(np.int64, npst.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.integers(-2_000_000, 2_000_000))
)  # fmt: skip
def test_any_labels_survive_the_round_trip(tmp_path, labels):
    write_image(tmp_path / "like.nii.gz", np.zeros(labels.shape, np.float32), affine=oblique_affine())
    write_segmentation(tmp_path / "a.nii.gz", labels, like=ImageFile(path=str(tmp_path / "like.nii.gz")))
    np.testing.assert_array_equal(read_segmentation(str(tmp_path / "a.nii.gz")).array, labels)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(image=npst.arrays(np.float32, npst.array_shapes(min_dims=3, max_dims=4, max_side=5), elements=st.floats(-1e6, 1e6, width=32)))  # fmt: skip
def test_any_image_survives_the_round_trip(tmp_path, image):
    write_image(tmp_path / "a.nii.gz", image, affine=oblique_affine())
    path = str(tmp_path / "a.nii.gz")
    channels = image if image.ndim == 4 else image[None]
    files = [ImageFile(path=path, index=index) for index in range(len(channels))]
    np.testing.assert_array_equal(np.stack([volume.array for volume in read_images(files)]), channels)
    np.testing.assert_allclose(read_geometry(path).affine, oblique_affine(), atol=1e-5)


def test_endings_are_stripped():
    assert strip_ending("a.b.nii.gz") == "a.b"
    assert strip_ending("a.NII") == "a"
    assert strip_ending("a.gz") is None


@real
@needs_real
def test_real_files_read_as_nibabel_reads_them():
    for path in (
        REAL / "Task04_Hippocampus/imagesTr/hippocampus_004.nii.gz",
        sorted((REAL / "Dataset027_ACDC/imagesTr").iterdir())[0],
        sorted((REAL / "NIfTI_2D_OASIS/Labels").iterdir())[0],
    ):
        image = nibabel.load(path)
        expected = np.asarray(image.dataobj, np.float32).T
        volume = read_image(ImageFile(path=str(path)))
        np.testing.assert_array_equal(volume.array, expected.reshape(volume.array.shape))
        np.testing.assert_allclose(volume.affine, image.affine)
