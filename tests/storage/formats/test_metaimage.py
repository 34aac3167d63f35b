"""MetaImage by hand-written headers, compared with ITK where ITK reads them."""

import gzip
import time
import zlib

import numpy as np
import pytest
import SimpleITK

from tests.storage.headers import counted, write_meta
from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.images import read_geometry, read_image

SPACING = "ElementSpacing = 0.7 0.9 3.1"
MATRIX = "TransformMatrix = 0 1 0 -1 0 0 0 0 1"


def voxels_of(path):
    return read_image(ImageFile(path=path)).array


@pytest.mark.parametrize(
    "lines",
    [
        (SPACING, MATRIX, "Offset = 10 20 30"),
        (SPACING, MATRIX.replace("TransformMatrix", "Orientation"), "Position = 10 20 30"),
        (SPACING, MATRIX.replace("TransformMatrix", "Rotation"), "Origin = 10 20 30"),
        (SPACING.replace("Spacing", "Size"), MATRIX),
        (SPACING, "ElementSize = 4 5 6", "TransformMatrix : 1 0 0 0 0.8 0.6 0 -0.6 0.8"),
        ("ElementSpacing = -0.7 0.9 3.1", MATRIX, "CenterOfRotation = 1 2 3"),
        ("TransformMatrix = 2 0 0 0 2 0 0 0 2",),
        (SPACING, MATRIX, "AnatomicalOrientation = LPS", "Comment = Offset = 1 2 3"),
    ],
)
def test_voxels_lie_where_itk_says(tmp_path, lines):
    path = write_meta(tmp_path / "a.mha", *lines)
    assert read_geometry(path).is_placed
    image = SimpleITK.ReadImage(path)
    for index in ((0, 0, 0), (3, 4, 5), (1, 2, 3)):
        expected = np.multiply(image.TransformIndexToPhysicalPoint(index), (-1, -1, 1))
        np.testing.assert_allclose((read_geometry(path).affine @ [*index, 1])[:3], expected, atol=1e-9)


def test_units_of_length_scale_the_world_though_itk_does_not(tmp_path):
    lines = (SPACING, MATRIX, "Offset = 10 20 30")
    plain = read_geometry(write_meta(tmp_path / "a.mha", *lines)).affine
    for unit, factor in (("um", 1e-3), ("mm", 1), ("cm", 10)):
        found = read_geometry(write_meta(tmp_path / "b.mha", *lines, f"DistanceUnits = {unit}")).affine
        np.testing.assert_allclose(found[:3], plain[:3] * factor)
    with pytest.raises(InputError, match="DistanceUnits 'inch', expected a unit of length"):
        read_geometry(write_meta(tmp_path / "c.mha", *lines, "DistanceUnits = inch"))


@pytest.mark.parametrize("kind", ["CHAR", "USHORT", "INT", "LONG", "ULONG_LONG", "FLOAT", "DOUBLE", "UCHAR_ARRAY"])
@pytest.mark.parametrize("order", ["BinaryDataByteOrderMSB = False", "ElementByteOrderMSB = True"])
def test_types_and_byte_orders_are_those_of_itk(tmp_path, kind, order):
    size = {"CHAR": 1, "UCHAR_ARRAY": 1, "USHORT": 2, "INT": 4, "LONG": 4, "FLOAT": 4}.get(kind, 8)
    data = bytes(np.random.default_rng(2).integers(0, 60, 120 * size, np.uint8))
    path = write_meta(tmp_path / "a.mha", MATRIX, order, kind=f"MET_{kind}", data=data)
    np.testing.assert_array_equal(
        voxels_of(path), SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)).astype(np.float32)
    )


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress])
def test_packed_voxels_are_read_with_and_without_their_length(tmp_path, pack):
    packed = pack(counted((4, 5, 6)).tobytes())
    for line in ("CompressedData = True", f"CompressedData = True\nCompressedDataSize = {len(packed)}"):
        np.testing.assert_array_equal(
            voxels_of(write_meta(tmp_path / "a.mha", line, data=packed)).ravel(), np.arange(120)
        )


def test_voxels_as_text_and_behind_a_header_of_stated_size_are_read(tmp_path):
    text = " ".join(map(str, range(120))).encode()
    np.testing.assert_array_equal(
        voxels_of(write_meta(tmp_path / "a.mha", "BinaryData = False", data=text)).ravel(), np.arange(120)
    )
    (tmp_path / "b.raw").write_bytes(b"0123456789" + counted((4, 5, 6)).tobytes())
    for size in (10, -1):
        path = write_meta(tmp_path / "b.mhd", f"HeaderSize = {size}", file="b.raw", data=b"")
        np.testing.assert_array_equal(voxels_of(path).ravel(), np.arange(120))


@pytest.mark.parametrize("change", [slice(-30, None), slice(20, 27), slice(-3, -1)])
def test_damaged_packed_voxels_are_found_and_nothing_else_is_written(tmp_path, capfd, change):
    packed = bytearray(zlib.compress(np.random.default_rng(0).bytes(120)))
    packed[change] = b"" if change.stop is None else b"z" * len(packed[change])
    path = write_meta(tmp_path / "a.mha", "CompressedData = True", data=bytes(packed))
    with pytest.raises(InputError, match=r"a\.mha: cannot be read as MetaImage"):
        voxels_of(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("NDims = 3", "NDims = -3", "found"),
        ("NDims = 3", "NDims = 99", "found 99 axes, expected 2 or 3"),
        ("NDims = 3\n", "", "NDims '', expected 1 integers"),
        ("4 5 6", "4 -5 6", "found shape (4, -5, 6)"),
        ("4 5 6", "4 5", "DimSize '4 5', expected 3 integers"),
        ("4 5 6", "4.5 5 6", "DimSize '4.5 5 6', expected 3 integers"),
        ("4 5 6", "400000 500000 600000", "too short"),
        ("4 5 6", f"4 5 {10**30}", "expected 3 integers"),
        ("NDims = 3", f"NDims = {'9' * 5000}", "expected 1 integers"),
        ("LOCAL", "slice%d.raw 1 20000 1", "expected a name such as slice%03d.raw"),
        ("LOCAL", "slice%d.raw 1 2 0", "expected a name such as slice%03d.raw"),
        ("LOCAL", "slice%d%d.raw 1 2 1", "expected a name such as slice%03d.raw"),
        ("ElementType", "Offset = 0 inf 0\nElementType", "Offset '0 inf 0', expected 3 finite numbers"),
        ("ElementType", "TransformMatrix = nan 0 0 0 1 0 0 0 1\nElementType", "expected 9 finite numbers"),
        ("NDims = 3\nDimSize = 4 5 6", "NDims = 4\nDimSize = 4 5 3 2", "found 4 axes, expected 2 or 3"),
        ("MET_UCHAR", "MET_BOGUS", "the ElementType 'MET_BOGUS', expected one of"),
        ("ElementDataFile = LOCAL\n", "", "does not end with ElementDataFile"),
        ("LOCAL", "voxels.raw", "its data file voxels.raw: no such file"),
        ("LOCAL", "slice%999999999d.raw 1 2", "expected a name such as slice%03d.raw"),
        ("LOCAL", "slice%s.raw 1 2 1", "expected a name such as slice%03d.raw"),
        ("LOCAL", "slice%d.raw 1 999999999 1", "expected a name such as slice%03d.raw"),
        ("ElementType", "ElementSpacing = 1 2\nElementType", "ElementSpacing '1 2', expected 3 numbers"),
        ("ElementType", "ElementSpacing = 0 1 2\nElementType", "voxel sizes of zero"),
        ("ElementType", "TransformMatrix = 1 0 0 1 0 0 0 0 1\nElementType", "is singular"),
        ("ElementType", "ElementNumberOfChannels = 0\nElementType", "ElementNumberOfChannels 0, expected at least 1"),
        ("ElementType", "ElementToIntensityFunctionSlope = 2\nElementType", "which most programs ignore; expected 1"),
    ],
)
def test_headers_that_end_itk_or_mislead_it_are_refused_in_one_line(tmp_path, capfd, old, new, message):
    path = tmp_path / "a.mha"
    write_meta(path)
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))
    with pytest.raises(InputError) as refused:
        voxels_of(str(path))
    assert str(refused.value).startswith(str(path))
    assert message in str(refused.value)
    assert "no such file" not in str(refused.value) or "voxels.raw" in message
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("is_vector", [False, True])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("shape", [(5, 6, 7), (6, 7)])
def test_what_itk_writes_is_read(tmp_path, is_vector, is_packed, shape):
    array = np.random.default_rng(1).normal(size=(*shape, 2) if is_vector else shape)
    for ending in (".mha", ".mhd", ".nrrd"):
        path = str(tmp_path / f"a{ending}")
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=is_vector), path, is_packed)
        expected = array[..., 1] if is_vector else array
        found = read_image(ImageFile(path=path, index=1 if is_vector else None)).array
        np.testing.assert_array_equal(found.reshape(shape), expected.astype(np.float32))


@pytest.mark.parametrize(
    "line", [" " * (1 << 20) + "\0", "Comment " * (1 << 17), "a" * (1 << 20), "NDims = " + "3 " * (1 << 19)]
)
def test_a_line_of_a_megabyte_is_looked_at_once(tmp_path, line):
    started = time.process_time()
    with pytest.raises(InputError):
        read_geometry(write_meta(tmp_path / "a.mha", line))
    assert time.process_time() - started < 2  # hours, where each sign is a new start


def test_the_earlier_sign_ends_a_key(tmp_path):
    path = write_meta(tmp_path / "a.mha", "Comment : a = b", "Other = a : b", "TransformMatrix:0 1 0 -1 0 0 0 0 1")
    assert read_geometry(path).is_placed
    with pytest.raises(InputError, match="does not end with ElementDataFile"):
        read_geometry(write_meta(tmp_path / "b.mha", " = 3"))
