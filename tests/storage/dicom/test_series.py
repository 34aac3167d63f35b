"""DICOM series: voxels and world as they were written, and as other programs see them; what is no volume is refused."""

import itertools
import logging
import shutil

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from scipy.spatial.transform import Rotation

from tests.dicoms import (
    Grid,
    add_pixels,
    deflate,
    header,
    plane_elements,
    rewrite,
    save,
    write_enhanced,
    write_rtstruct,
    write_seg,
    write_series,
)
from tumorseg.errors import InputError
from tumorseg.ops.geometry import orient, orientation_of, oriented_affine
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.dicom import decoder
from tumorseg.storage.dicom.files import lenient
from tumorseg.storage.dicom.headers import read_headers
from tumorseg.storage.image_writing import write_segmentation
from tumorseg.storage.images import read_geometry, read_image, read_images, read_segmentation

OBLIQUE = Grid(Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix())


def voxels(shape=(5, 6, 7), dtype=np.int16, seed=3, lowest=-900, highest=900):
    return np.random.default_rng(seed).integers(max(lowest, np.iinfo(dtype).min), highest, shape).astype(dtype)


def read(path, *parts):
    return read_image(ImageFile(path=str(path), parts=parts))


def canonical(array, affine):
    orientation = orientation_of(affine)
    return orient(array, orientation), oriented_affine(affine, array.shape, orientation)


def assert_same_in_the_world(volume, array, affine):
    """Compare voxel by voxel at world coordinates, whatever the order of the axes."""
    found, found_affine = canonical(volume.array, volume.affine)
    expected, expected_affine = canonical(array, affine)
    assert np.array_equal(found, expected)
    assert np.allclose(found_affine, expected_affine, atol=1e-5)


@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    flips=st.sampled_from(list(itertools.product((1, -1), repeat=3))),
    shape=st.tuples(st.integers(2, 5), st.integers(2, 6), st.integers(2, 6)),
    seed=st.integers(0, 9),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("is_enhanced", [False, True])
def test_voxels_lie_where_they_were_written(tmp_path, is_enhanced, angles, flips, shape, seed):
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(flips).astype(float)
    closeness = sorted(np.abs(rotation[range(3), order]).sum() for order in itertools.permutations(range(3)))
    assume(closeness[-1] - closeness[-2] > 1e-3)  # else what headers round decides which axis is which
    array, grid = voxels(shape, seed=seed), Grid(rotation)
    folder = tmp_path / "series"
    shutil.rmtree(folder, ignore_errors=True)
    if is_enhanced:
        write_enhanced(folder / "a.dcm", array, grid, seed=seed)
    else:
        write_series(folder, array, grid, seed=seed)
    assert_same_in_the_world(read(folder), array, grid.affine)
    assert read_geometry(str(folder)).shape == shape


def test_itk_sees_the_same_volume(tmp_path):
    write_series(tmp_path, voxels(), OBLIQUE, scaling=(2, -1024))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image, found = reader.Execute(), read(tmp_path)
    assert found.array.dtype == np.float32
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), found.array)
    for index in itertools.islice(np.ndindex(found.array.shape), 0, None, 11):
        point = np.array([-1, -1, 1]) * image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])
        assert np.allclose((found.affine @ [*index[::-1], 1])[:3], point, atol=1e-4)


def test_every_plane_has_its_own_scaling(tmp_path):
    array = voxels(dtype=np.uint16)
    scaling = [(0.37 * (index + 1), -index) for index in range(5)]
    write_series(tmp_path / "pet", array, kind="PT", scaling=scaling)
    expected = np.stack([plane * slope + intercept for plane, (slope, intercept) in zip(array, scaling, strict=True)])
    assert np.array_equal(read(tmp_path / "pet").array, expected.astype(np.float32))
    write_enhanced(tmp_path / "mr.dcm", array, slopes=[slope for slope, _ in scaling])
    expected = np.stack([plane * slope for plane, (slope, _) in zip(array, scaling, strict=True)])
    assert np.array_equal(read(tmp_path / "mr.dcm").array, expected.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless])
def test_transfer_syntaxes_of_pydicom(tmp_path, dtype, syntax):
    array = voxels((3, 16, 24), dtype, highest=250)
    for path in write_series(tmp_path, array):
        dataset = pydicom.dcmread(path)
        if syntax.is_compressed:
            dataset.compress(syntax)
            dataset.save_as(path)
        else:
            pydicom.dcmwrite(
                path,
                with_order(dataset, syntax, array.dtype),
                implicit_vr=syntax.is_implicit_VR,
                little_endian=syntax.is_little_endian,
                enforce_file_format=True,
            )
    assert np.array_equal(read(tmp_path).array, array)


def with_order(dataset, syntax, dtype):
    """Return a dataset whose pixels are in the byte order of a syntax."""
    stored = np.frombuffer(dataset.PixelData, dtype)
    dataset.PixelData = stored.astype(dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()
    if not syntax.is_little_endian and dtype.itemsize == 1:
        dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def compress_with_itk(path, compressor):
    """Replace the pixels of a file by compressed ones, its header stays."""
    dataset = pydicom.dcmread(path)
    image = SimpleITK.GetImageFromArray(dataset.pixel_array)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(path.parent / "temporary.dcm"))
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.Execute(image)
    written = pydicom.dcmread(path.parent / "temporary.dcm")
    (path.parent / "temporary.dcm").unlink()
    dataset.file_meta.TransferSyntaxUID = written.file_meta.TransferSyntaxUID
    dataset["PixelData"] = written["PixelData"]
    dataset.save_as(path)
    return str(dataset.file_meta.TransferSyntaxUID)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
@pytest.mark.parametrize(("compressor", "syntax"), [("JPEG", "1.2.840.10008.1.2.4.70"), ("JPEG2000", JPEG2000Lossless)])
@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_jpeg_lossless_and_jpeg_2000_and_the_scaling_is_the_headers(tmp_path, kind, dtype, compressor, syntax):
    array = voxels((3, 16, 24), dtype)
    for path in write_series(tmp_path, array, kind=kind, scaling=(2, 5)):
        assert compress_with_itk(path, compressor) == syntax
    assert np.array_equal(read(tmp_path).array, array * np.float32(2) + 5)


@pytest.mark.parametrize("pixel_representation", [0, 1])
def test_bits_above_the_stored_ones_are_no_part_of_the_value(tmp_path, pixel_representation):
    values = voxels((2, 6, 7), lowest=-2048 if pixel_representation else 0, highest=2047)
    with_overlay = (values & 0x0FFF) | 0x5000
    for path in write_series(tmp_path, with_overlay.astype(np.int16)):
        rewrite(path, BitsStored=12, HighBit=11, PixelRepresentation=pixel_representation)
    assert np.array_equal(read(tmp_path).array, values)


def test_a_single_plane_is_as_thick_as_its_header_says(tmp_path):
    (path,) = write_series(tmp_path, voxels((1, 6, 7)), OBLIQUE)
    assert np.allclose(read(path).affine, OBLIQUE.affine, atol=1e-6)
    rewrite(path, SpacingBetweenSlices=-4)
    assert read_image(ImageFile(path=str(path))).affine[:3, 2] == pytest.approx(OBLIQUE.rotation[:, 2] * 4)
    rewrite(path, SpacingBetweenSlices=0, SliceThickness=None)
    assert np.linalg.norm(read(path).affine[:3, 2]) == pytest.approx(1)


def test_a_tilted_gantry_is_kept_as_a_shear_in_the_image_and_in_results(tmp_path, caplog):
    array, grid = voxels(), Grid()
    paths = write_series(tmp_path / "tilted", array, grid)
    for index, path in enumerate(paths):
        x, y, z = pydicom.dcmread(path).ImagePositionPatient
        rewrite(path, ImagePositionPatient=[float(x), float(y) - index, float(z)])
    found = read(tmp_path / "tilted")
    expected = grid.affine
    expected[1, 2] = 1  # of 3.5 mm; y of RAS is -y of DICOM
    assert np.allclose(found.affine, expected)
    assert np.array_equal(found.array, array)
    assert caplog.text.count("aslant by 15.9 degrees") == 1
    read_geometry(str(tmp_path / "tilted"))
    assert caplog.text.count("aslant") == 1  # said with the voxels, which a command reads once
    write_segmentation(tmp_path / "out.nii.gz", array, like=ImageFile(path=str(tmp_path / "tilted")))
    written = nibabel.load(tmp_path / "out.nii.gz")
    assert np.allclose(written.affine, expected)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (0, 1)


def test_a_result_lies_on_the_grid_of_the_series(tmp_path):
    array = voxels()
    write_series(tmp_path / "series", array, OBLIQUE)
    write_segmentation(tmp_path / "out.nii.gz", array, like=ImageFile(path=str(tmp_path / "series")))
    image = SimpleITK.ReadImage(str(tmp_path / "out.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), array)
    assert np.allclose(image.GetOrigin(), np.diag([-1, -1, 1]) @ OBLIQUE.origin, atol=1e-4)
    assert np.array_equal(read_segmentation(str(tmp_path / "series")).array, array)


def test_files_are_found_by_what_they_hold(tmp_path):
    array = voxels()
    paths = write_series(tmp_path / "deep" / "er", array, name="IM{number}")
    save(header("SR"), tmp_path / "report")
    write_rtstruct(tmp_path / "rt.dcm", paths, {})
    save(header("CT", series="8", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), tmp_path / "deep" / "scout")
    (tmp_path / "readme.txt").write_text("nothing")
    (tmp_path / ".hidden").write_bytes(paths[0].read_bytes())
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    assert np.array_equal(read(tmp_path).array, array)


def test_series_in_one_folder_are_told_apart_by_their_files(tmp_path):
    volumes = {"1": voxels(seed=1), "2": voxels((3, 4, 4), seed=2)}
    files = [
        ImageFile(
            path=str(tmp_path),
            parts=tuple(path.name for path in write_series(tmp_path, volume, series=uid, name=uid + "_{number}")),
        )
        for uid, volume in volumes.items()
    ]
    for volume, found in zip(volumes.values(), read_images(files), strict=True):
        assert np.array_equal(found.array, volume)
    with pytest.raises(InputError, match=r"found 2 image series: CT, CT; expected a folder of one DICOM series"):
        read(tmp_path)


def test_a_file_without_preamble_is_read(tmp_path):
    paths = write_series(tmp_path, voxels())
    for path in paths:
        bare = Dataset()
        bare.update(pydicom.dcmread(path))
        pydicom.dcmwrite(path, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[:2] == b"\x08\x00"
    assert np.array_equal(read(tmp_path).array, voxels())


def remove(paths):
    paths[2].unlink()


def repeat(paths):
    dataset = pydicom.dcmread(paths[2])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    save(dataset, paths[2].parent / "zz.dcm")


def crop(paths):
    dataset = pydicom.dcmread(paths[2])
    add_pixels(dataset, dataset.pixel_array[:-1])
    save(dataset, paths[2])


def cut(paths):
    paths[2].write_bytes(paths[2].read_bytes()[:-40])


def odd_length(paths):
    data = bytearray(paths[2].read_bytes())
    data[138] = 6  # the length of (0002,0000), a number of 4 bytes
    paths[2].write_bytes(data)


def cut_deflated(paths):
    deflate(paths[2])
    paths[2].write_bytes(paths[2].read_bytes()[:-30])


def cut_header(paths):
    paths[2].write_bytes(paths[2].read_bytes()[:500])


def colour(paths):
    rewrite(paths[2], SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)


def changed(**elements):
    def damage(paths):
        with lenient():
            rewrite(paths[2], **elements)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            remove,
            r"found planes 7 mm apart between .*dcm and .*dcm, expected 3.5 mm .* at most 0.35 mm .* slices are missing",
        ),
        (
            repeat,
            r"found 1 planes in the place of another, expected one plane a place; .*zz.dcm is a copy of .*00\d.dcm under another SOPInstanceUID; remove it$",
        ),
        (crop, "found planes of 6 x 7 and of 5 x 7 pixels, expected one size; remove what is not of the series"),
        (cut, r"00\d.dcm: cannot be read as DICOM .*; copy or download it again"),
        (cut_header, r"00\d.dcm: cannot be read as DICOM"),
        (colour, r"00\d.dcm: found a colour image, expected one of grey values"),
        (changed(PixelSpacing=[1.25, 0.8]), "found pixels of 1.25 x 0.75 and of 1.25 x 0.8 mm, expected one size"),
        (changed(ImageOrientationPatient=[0, 1, 0, 1, 0, 0]), "found planes that are not parallel, as in a localizer"),
        (changed(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "expected two perpendicular unit vectors"),
        (changed(ImagePositionPatient=None), "found no ImagePositionPatient, expected 3 numbers"),
        (changed(ImagePositionPatient=[0, 0]), r"found \[0.0, 0.0\] as ImagePositionPatient, expected 3 numbers"),
        (changed(PixelSpacing=[0, 1]), r"found PixelSpacing \[0.0, 1.0\], expected millimetres"),
        (changed(PixelSpacing=["1e-300", 1]), r"found PixelSpacing \[1e-300, 1.0\], expected millimetres"),
        (changed(PixelSpacing=["1e-7", 1]), r"found PixelSpacing \[1e-07, 1.0\], expected millimetres, 1e-06 at least"),
        (changed(RescaleSlope=0), "found RescaleSlope 0.0"),
        (changed(ModalityLUTSequence=[]), "found a table of values"),
        (changed(NumberOfFrames=2), "found 2 frames without a place each"),
        (changed(PixelData=None), "cannot be read as DICOM .*its pixels, or has none"),
        (odd_length, r"00\d.dcm: cannot be read as DICOM"),
        (cut_deflated, r"00\d.dcm: cannot be read as DICOM .*copy or download it again"),
        (changed(ImagePositionPatient=[0, "nan", 0]), r"00\d.dcm: found \[0.0, nan, 0.0\] as ImagePositionPatient"),
        (changed(PixelSpacing=["inf", 1]), r"found \[inf, 1.0\] as PixelSpacing"),
        (
            changed(ImagePositionPatient=["1e308", 0, 0]),
            r"found \[1e\+308, 0.0, 0.0\] as ImagePositionPatient, .* below 1e\+09",
        ),
        (changed(PixelSpacing=[1] * 20), "found 20 numbers as PixelSpacing, expected 2"),
        (changed(ImageOrientationPatient=[1, 0, 0, 0, "nan", 0]), "as ImageOrientationPatient, expected 6 numbers"),
        (changed(Rows=60000, Columns=60000), "1 x 60000 x 60000 pixels announced"),
        (changed(NumberOfFrames="99999999999999999999"), "pixels announced"),
    ],
)
def test_what_is_no_volume_is_refused_in_one_line(tmp_path, damage, message):
    damage(write_series(tmp_path / "a", voxels()))
    with pytest.raises(InputError, match=message) as refused:
        read(tmp_path / "a")
    assert "\n" not in str(refused.value)
    assert str(tmp_path / "a") in str(refused.value)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_a_cut_compressed_file_is_refused(tmp_path, compressor):
    paths = write_series(tmp_path, voxels((3, 64, 64)))
    for path in paths:
        compress_with_itk(path, compressor)
    data = paths[1].read_bytes()
    for length in (len(data) - 1000, len(data) - 4000):
        paths[1].write_bytes(data[:length])
        with pytest.raises(InputError, match="cannot be read as DICOM"):
            read(tmp_path)


def test_a_slope_beyond_float32_makes_intensities_that_are_found_to_be_infinite(tmp_path):
    paths = write_series(tmp_path, voxels((2, 16, 16)))
    rewrite(paths[1], RescaleSlope="1e300")
    assert np.isinf(read(tmp_path).array).any()


def test_a_decoder_that_takes_for_ever_is_ended_and_the_file_named(tmp_path, monkeypatch):
    sound, slow = write_series(tmp_path, voxels((2, 16, 16)))
    for path in (sound, slow):
        compress_with_itk(path, "JPEG")
    monkeypatch.setattr(decoder, "LEAST_S", 1e-6)
    monkeypatch.setattr(decoder, "BYTES_PER_S", 1e12)
    with pytest.raises(
        InputError, match=r"its pixels, in JPEG .*, were not decoded within 0 s.*copy or download it again"
    ):
        read(slow)
    monkeypatch.undo()
    assert read(sound).array.shape == (1, 16, 16)


def test_an_unknown_code_of_pixels_is_named(tmp_path):
    (path,) = write_series(tmp_path, voxels((1, 16, 16)))
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.103"
    dataset.save_as(path)
    with pytest.raises(
        InputError, match=r"its pixels, in MPEG-4 AVC/H\.264 BD-compatible High Profile.*, cannot be decoded"
    ):
        read(path)


def test_places_that_are_rounded_pass_and_a_drifting_plane_does_not(tmp_path):
    paths = write_series(tmp_path, voxels())
    for path in paths:
        *in_plane, z = pydicom.dcmread(path).ImagePositionPatient
        rewrite(path, ImagePositionPatient=[*in_plane, round(float(z) + 0.11, 1)])
    assert read(tmp_path).affine[2, 2] == pytest.approx(3.5, abs=0.02)
    rewrite(paths[3], ImagePositionPatient=[*in_plane, 18.0])
    with pytest.raises(InputError, match="off a regular stack"):
        read(tmp_path)


def test_frames_without_places_are_counted(tmp_path):
    path = write_enhanced(tmp_path / "a.dcm", voxels())
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:-1]
    save(dataset, path)
    with pytest.raises(InputError, match="found places of 4 of its 5 frames"):
        read(path)


def test_links_that_lead_nowhere_are_slices_that_are_missed(tmp_path, caplog):
    paths = write_series(tmp_path, voxels())
    names = [path.name for path in paths[:2]]
    for path in paths[:2]:
        path.unlink()
    (tmp_path / names[0]).symlink_to(names[0])
    (tmp_path / names[1]).symlink_to("nothing.dcm")
    (tmp_path / "notes").symlink_to("notes")
    lost = [header.path for header in read_headers(tmp_path) if not header.sop_class]
    assert sorted(lost) == sorted(str(tmp_path / name) for name in names)
    with pytest.raises(InputError, match=r"00\d\.dcm"):
        read(tmp_path)


def test_files_that_are_no_image_are_named(tmp_path):
    series = write_series(tmp_path / "image", voxels((3, 6, 7), np.int16))
    save(header("SR"), tmp_path / "report.dcm")
    write_seg(tmp_path / "seg.dcm", series, {"a": np.ones((3, 6, 7), bool)})
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.dcm").write_text("no DICOM " * 30)
    for name, message in {
        "report.dcm": "found Basic Text SR Storage, expected a DICOM image of CT, MR or PET",
        "seg.dcm": "found a DICOM segmentation, expected an image; name it as the label",
        "empty": "found 0 image series; expected a folder of one DICOM series",
        "none": "none: no such file; expected an image",
        "text.dcm": "unsupported image format; expected DICOM, or a file that ends in",
    }.items():
        with pytest.raises(InputError, match=message):
            read(tmp_path / name)
    with pytest.raises(InputError, match="gone: no such file; expected an image"):
        read(tmp_path / "image", "gone")
    (tmp_path / "image" / "junk").write_text("x" * 200)
    with pytest.raises(InputError, match="junk: is no DICOM file"):
        read(tmp_path / "image", "junk")


def test_values_that_break_the_standard_are_not_told_as_warnings(tmp_path, caplog):
    for path in write_series(tmp_path, voxels(), StudyDate="20200121"):
        data = path.read_bytes()
        path.write_bytes(data.replace(b"20200121", b"Tuesday!"))
    caplog.set_level(logging.WARNING)
    assert np.array_equal(read(tmp_path).array, voxels())
    assert not caplog.records


def test_a_grid_of_planes_lies_as_its_elements_say():
    placed = plane_elements(Grid(), 2)
    assert placed["ImagePositionPatient"] == [12.5, -40.25, 14.0]
    assert placed["PixelSpacing"] == [1.25, 0.75]
    assert placed["ImageOrientationPatient"] == [-1, 0, 0, 0, -1, 0]


def stored_again(path, name, **elements):
    dataset = pydicom.dcmread(path)
    for element, value in elements.items():
        setattr(dataset, element, value)
    if "PixelData" in elements:
        dataset["PixelData"].VR = "OW"
    return save(dataset, path.parent / name)


def test_copies_of_files_count_once_and_are_named_once(tmp_path, caplog):
    array = voxels()
    paths = write_series(tmp_path, array)
    (tmp_path / "zz copy.dcm").write_bytes(paths[2].read_bytes())
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / paths[0].name).write_bytes(paths[0].read_bytes())
    stored_again(paths[4], "zz.dcm", PatientID="other", SeriesDescription="anonymised anew")
    assert read_geometry(str(tmp_path)).shape == (5, 6, 7)
    assert not caplog.records
    assert np.array_equal(read(tmp_path).array, array)
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith(f"{tmp_path}: found copies of other files of the series, which count once: ")
    for name in ("zz copy.dcm", f"again/{paths[0].name}", "zz.dcm"):
        assert str(tmp_path / name) in message
    assert message.count(" (of ") == 3


def test_a_copy_whose_place_was_written_with_other_digits_counts_once(tmp_path, caplog):
    array = voxels()
    paths = write_series(tmp_path, array)
    x, y, z = pydicom.dcmread(paths[2]).ImagePositionPatient
    stored_again(paths[2], "zz.dcm", ImagePositionPatient=[x, y, float(z) + 1e-5])
    assert np.array_equal(read(tmp_path).array, array)
    assert "zz.dcm (of " in caplog.text


def test_an_enhanced_file_that_lies_there_twice_counts_once(tmp_path, caplog):
    array = voxels()
    path = write_enhanced(tmp_path / "a.dcm", array)
    (tmp_path / "b.dcm").write_bytes(path.read_bytes())
    assert np.array_equal(read(tmp_path, "a.dcm", "b.dcm").array, array)
    assert caplog.text.count("b.dcm (of ") == 1


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"EchoTime": 80, "SOPInstanceUID": "1.2.3"}, r"differ in EchoTime 20\.0 and 80\.0; are there"),
        ({"EchoTime": 20, "TemporalPositionIdentifier": 2, "AcquisitionNumber": 3, "SOPInstanceUID": "1.2.3"},
         "differ in TemporalPositionIdentifier 1 and 2, AcquisitionNumber 1 and 3; are there"),
        ({"PixelData": np.full((6, 7), 9, np.int16).tobytes()}, "differ in nothing that their headers say"),
        ({"RescaleSlope": 2.0}, r"differ in RescaleSlope 1\.0 and 2\.0"),
    ],
)  # fmt: skip
def test_echoes_phases_and_copies_that_differ_are_refused_by_name(tmp_path, elements, message):
    paths = write_series(
        tmp_path, voxels(), scaling=(1, 0), EchoTime=20, TemporalPositionIdentifier=1, AcquisitionNumber=1
    )
    other = stored_again(paths[2], "other.dcm", **elements)
    with pytest.raises(InputError, match=message) as refused:
        read(tmp_path)
    assert str(paths[2]) in str(refused.value)
    assert str(other) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_series_of_two_phases_is_refused_with_two_of_its_files(tmp_path):
    for phase in (1, 2):
        write_series(tmp_path / str(phase), voxels(seed=phase), TriggerTime=100 * phase)
    with pytest.raises(
        InputError, match=r"found 5 planes in the place of another, .* differ in TriggerTime 100\.0 and 200\.0"
    ):
        read(tmp_path)


def test_frames_of_one_file_in_one_place_are_named_by_their_numbers(tmp_path):
    path = write_enhanced(tmp_path / "a.dcm", voxels())
    dataset = pydicom.dcmread(path)
    frames = dataset.PerFrameFunctionalGroupsSequence
    frames[3].PlanePositionSequence = frames[1].PlanePositionSequence
    for number, frame in enumerate(frames):
        echo = Dataset()
        echo.EffectiveEchoTime = 10.0 * (number + 1)
        frame.MREchoSequence = [echo]
    save(dataset, path)
    with pytest.raises(InputError, match=r"frames 2 and 4 of .*a\.dcm differ in EffectiveEchoTime 20.0 and 40.0"):
        read(path)
