"""Odd inputs: each is read right, or refused in one clear line that begins with its path."""

import gzip
import io
import struct
import zlib

import nibabel
import numpy as np
import pytest
from PIL import Image

from tests.storage.headers import counted, write_meta, write_nrrd
from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.images import read_geometry, read_image, read_images, read_segmentation

VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
AFFINE = np.array([[-0.7, 0, 0, 3.0], [0, 0.9, 0, -5.0], [0, 0, 3.1, 8.0], [0, 0, 0, 1]])


def nifti(array=VOXELS, affine=AFFINE, *, kind=nibabel.Nifti1Image, patches=()):
    """Return the bytes of a NIfTI, with (offset, layout, value) written over its header."""
    data = bytearray(kind(array, affine).to_bytes())
    for offset, layout, value in patches:
        struct.pack_into(layout, data, offset, value)
    return bytes(data)


def png(*chunks):
    parts = [
        len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big") for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def picture(array, form, **how):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, form, **how)
    return stream.getvalue()


def with_extension():
    """Return a NIfTI with 48 bytes of an extension before its voxels."""
    data = nifti(patches=[(108, "<f", 400)])
    return data[:348] + bytes([1, 0, 0, 0]) + struct.pack("<ii", 48, 6) + b"a comment".ljust(40) + data[352:]


def value_of(path):
    return read_image(ImageFile(path=str(path))).array


def refusal(path, name=None):
    with pytest.raises(InputError) as refused:
        read_segmentation(str(path))
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.nii", nifti(patches=[(108, "<f", 0)])),  # the standard knows no offset below 352
        ("a.nii", with_extension()),
        ("a.nii", nifti() + b"left over"),
        ("a.nii.gz", gzip.compress(nifti()[:200]) + gzip.compress(nifti()[200:])),  # as parallel packers write
        ("a.NII.GZ", gzip.compress(nifti())),
        ("a.nii", nifti(patches=[(76, "<f", 0.0)])),  # qfac 0 means 1
        ("a.nii", nifti(kind=nibabel.Nifti2Image)),
        ("a.nii", nifti(VOXELS.astype(">f8"))),
        ("a.nii", nifti(patches=[(112, "<f", np.nan), (116, "<f", np.nan)])),  # no number is no slope
        ("a.nii", nifti(patches=[(123, "<B", 8 | 2)])),  # seconds in the fourth axis
    ],
)
def test_odd_nifti_is_read_right(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    np.testing.assert_array_equal(value_of(tmp_path / name), VOXELS.T)
    np.testing.assert_allclose(read_geometry(str(tmp_path / name)).affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (nifti(patches=[(344, "<4s", b"ni1\0")]), "is the header of a pair of files"),
        (nifti(patches=[(280, "<f", np.nan)]), "zero or no number"),
        (nifti(patches=[(280, "<f", 0.0), (284, "<f", 0.0), (288, "<f", 0.0)]), "found voxel sizes of zero"),
        (nifti(np.zeros((3, 4, 5, 1, 3), np.float32)), "found shape (3, 4, 5, 1, 3)"),
        (nifti(patches=[(70, "<h", 128), (72, "<h", 24)]), "found voxels of type RGB"),
        (nifti(patches=[(70, "<h", 999)]), "cannot be read as NIfTI"),
        (nifti(patches=[(40, "<h", 9)]), "cannot be read as NIfTI"),
        (nifti(patches=[(42, "<h", -3)]), "found shape (-3, 4, 5)"),
        (nifti(patches=[(112, "<f", 1.0), (116, "<f", np.inf)]), "cannot be read as NIfTI"),
        (nifti(patches=[(108, "<f", 100)]), "cannot be read as NIfTI"),
        (nifti(patches=[(108, "<f", 1e6)]), "cannot be read as NIfTI"),
        (nifti()[:300], "cannot be read as NIfTI"),
        (nifti(VOXELS.astype(np.complex64)), "found voxels of type complex64"),
    ],
)
def test_odd_nifti_is_refused(tmp_path, data, message):
    (tmp_path / "a.nii").write_bytes(data)
    assert message in refusal(tmp_path / "a.nii")


def test_one_voxel_is_an_image(tmp_path):
    (tmp_path / "a.nii").write_bytes(nifti(np.full((1, 1, 1), 3, np.uint8)))
    assert value_of(tmp_path / "a.nii").tolist() == [[[3]]]
    assert value_of(write_nrrd(tmp_path / "a.nrrd", sizes=(1, 1, 1))).tolist() == [[[0]]]
    assert value_of(write_meta(tmp_path / "a.mha", size=(1, 1, 1))).tolist() == [[[0]]]


LPS = ("space: LPS", "space directions: (0.7,0,0) (0,0.9,0) (0,0,3.1)")


@pytest.mark.parametrize(
    "lines",
    [
        [line + "\r" for line in LPS],
        ["# space: RAS", *LPS, "# a comment"],
        [*LPS, "space units:=furlongs", "remark:=encoding: gzip"],
        ["Space:   LPS", LPS[1].replace("space directions", "Space Directions")],
        [LPS[0], "space directions: ( 0.7, 0, 0 ) (0 , 0.9, 0)\t(0,0,3.1)"],
        [*LPS, "measurement frame: (0,1,0) (1,0,0) (0,0,1)", "thicknesses: nan nan 4", "content: Größe"],
        [*LPS, "space origin: (0,0,0)", 'labels: "x" "y" "z"', "kinds: space space space"],
    ],
)
def test_odd_nrrd_is_read_right(tmp_path, lines):
    path = write_nrrd(tmp_path / "a.nrrd", *lines)
    np.testing.assert_array_equal(value_of(path).ravel(), np.arange(120))
    np.testing.assert_allclose(read_geometry(path).affine, np.diag([-0.7, -0.9, 3.1, 1]))


@pytest.mark.parametrize(
    ("lines", "arguments", "message"),
    [
        (["data file: /etc/hostname"], {"data": b""}, "expected one beside the header"),
        (["data file: ../other.raw"], {"data": b""}, "expected one beside the header"),
        (["data file: gone.raw"], {"data": b""}, "its data file gone.raw: no such file"),
        (["space origin: (0,0,nan)", *LPS], {}, "expected 3 finite numbers"),
        (["space directions: (1,0,0) (0,1,0) (0,0,x)"], {}, "space directions '0,0,x', expected 3 numbers"),
        (["space dimension: 4"], {}, "a space of 4 dimensions, expected 2 or 3"),
        (["kinds: list vector domain"], {}, "found 3 axes, 1 of them of space"),
        (["line skip: many"], {}, "lineskip 'many', expected 1 integers"),
        ([], {"sizes": (4,)}, "found 1 axes"),
        ([], {"kind": "short", "endian": "middle", "data": bytes(240)}, "found no endian, expected little or big"),
        ([], {"encoding": "gzip", "data": gzip.compress(bytes(120)) + b"left over"}, "cannot be read as NRRD"),
    ],
)
def test_odd_nrrd_is_refused(tmp_path, lines, arguments, message):
    write_nrrd(tmp_path / "a.nrrd", *lines, **arguments)
    assert message in refusal(tmp_path / "a.nrrd")


def test_colours_of_a_flat_nrrd_are_channels(tmp_path):
    path = write_nrrd(tmp_path / "a.nrrd", "kinds: RGB-color domain domain", sizes=(3, 4, 5))
    volumes = read_images([ImageFile(path=path, index=index) for index in range(3)])
    expected = np.moveaxis(counted((3, 4, 5)).reshape(5, 4, 3), -1, 0)
    np.testing.assert_array_equal(np.stack([volume.array[0] for volume in volumes]), expected)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n", b"\r\n"),
        (b" = ", b" : "),
        (b" = ", b"="),
        (b" = ", b"\t=\t"),
        (b"LOCAL", b"Local"),
        (b"NDims", b"Comment = a = b: c\nNDims"),
        (b"ElementType", b"HeaderSize = 0\nElementNumberOfChannels = 1\nElementType"),
        (b"MET_UCHAR", b"met_uchar"),
    ],
)
def test_odd_metaimage_is_read_right(tmp_path, old, new):
    path = write_meta(tmp_path / "a.mha", "ElementSpacing = 0.7 0.9 3.1", "TransformMatrix = 1 0 0 0 1 0 0 0 1")
    header, voxels = (tmp_path / "a.mha").read_bytes()[:-120], counted((4, 5, 6)).tobytes()
    (tmp_path / "a.mha").write_bytes(header.replace(old, new) + voxels)
    np.testing.assert_array_equal(value_of(path).ravel(), np.arange(120))
    np.testing.assert_allclose(read_geometry(path).affine, np.diag([-0.7, -0.9, 3.1, 1]))


@pytest.mark.parametrize(
    "file", ["LIST\n0.raw\n1.raw\n2.raw", "LIST 3D\n0.raw\n1.raw\n2.raw", "%01d.raw 0 2 1", "%d.raw 0 2"]
)
def test_slices_in_files_of_their_own_are_put_together(tmp_path, file):
    for number, part in enumerate(np.split(counted((4, 5, 6)), 3)):
        (tmp_path / f"{number}.raw").write_bytes(part.tobytes())
    np.testing.assert_array_equal(value_of(write_meta(tmp_path / "a.mhd", file=file, data=b"")).ravel(), np.arange(120))


@pytest.mark.parametrize(
    ("lines", "arguments", "message"),
    [
        (["ElementSpacing = 1 nan 3"], {}, "expected 3 finite numbers"),
        (["TransformMatrix = 1 0 0 1"], {}, "TransformMatrix '1 0 0 1', expected 9 numbers"),
        (["Offset = here"], {}, "Offset 'here', expected 3 numbers"),
        (["CompressedData = True"], {}, "cannot be read as MetaImage"),
        (["CompressedData = True"], {"data": zlib.compress(bytes(121))}, "more than the 120 bytes of voxels announced"),
        (["BinaryData = False"], {"data": b"1 2 three " * 60}, "cannot be read as MetaImage"),
        ([], {"data": b""}, "the file is too short"),
        ([], {"file": "/etc/hostname", "data": b""}, "expected one beside the header"),
        (
            [],
            {"file": "LIST\n0.raw\n1.raw\n2.raw\n3.raw\n4.raw\n5.raw\n6.raw", "data": b""},
            "found 7 data files for 120 numbers",
        ),
        ([], {"kind": "MET_STRING"}, "the ElementType 'MET_STRING'"),
        ([], {"size": (4,)}, "found 1 axes, expected 2 or 3"),
        (["HeaderSize = 5000"], {}, "cannot be read as MetaImage"),
    ],
)
def test_odd_metaimage_is_refused(tmp_path, lines, arguments, message):
    write_meta(tmp_path / "a.mha", *lines, **arguments)
    assert message in refusal(tmp_path / "a.mha")


def test_other_objects_of_the_format_are_no_images(tmp_path):
    (tmp_path / "a.mha").write_text("ObjectType = Tube\nNDims = 3\nPointDim = x y z r\nNPoints = 0\nPoints = \n")
    assert "the ObjectType 'Tube', expected Image" in refusal(tmp_path / "a.mha")


SHOWN = (np.arange(54).reshape(6, 9) * 4).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.png", picture(SHOWN > 100, "png"), SHOWN > 100),  # one bit a pixel
        ("a.tif", picture(SHOWN.astype(">u2") * 200, "tiff"), SHOWN * 200.0),
        ("a.tif", picture((SHOWN / 3).astype(np.float32), "tiff"), (SHOWN / 3).astype(np.float32)),
        ("a.tif", picture(SHOWN, "tiff", big_tiff=True), SHOWN),
        ("a.tif", picture(SHOWN.astype(np.int32) - 100, "tiff"), SHOWN.astype(np.int32) - 100),
        ("a.jpg", picture(SHOWN, "png"), SHOWN),
        ("a.png", picture(SHOWN, "tiff"), SHOWN),
        ("a.PNG", picture(SHOWN, "png", dpi=(72, 300)), SHOWN),
        ("a.png", picture(SHOWN, "png", compress_level=0) + b"left over", SHOWN),
    ],
)
def test_odd_pictures_are_read_right(tmp_path, name, data, expected):
    (tmp_path / name).write_bytes(data)
    np.testing.assert_array_equal(value_of(tmp_path / name)[0], expected)


HEAD = struct.pack(">IIBBBBB", 9, 6, 8, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.png", picture(np.dstack([SHOWN] * 4), "png"), "found pixels of kind RGBA"),
        ("a.jpg", picture(SHOWN, "jpeg")[:-40], "cannot be read as a picture"),
        (
            "a.png",
            png((b"IHDR", HEAD), (b"IDAT", zlib.compress(bytes(60))[:-6]), (b"IEND", b"")),
            "cannot be read as a picture",
        ),
        ("a.png", png((b"IHDR", HEAD), (b"IEND", b"")), "cannot be read as a picture"),
        ("a.png", png((b"IHDR", struct.pack(">IIBBBBB", 0, 6, 8, 0, 0, 0, 0))), "cannot be read as a picture"),
        (
            "a.png",
            png((b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)), (b"IDAT", b"")),
            "found more than 178 million pixels",
        ),
        ("a.tif", picture(SHOWN, "tiff")[:60], "cannot be read as a picture"),
        ("a.tif", b"II*\0" + bytes(40), "cannot be read as a picture"),
        ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "cannot be read as a picture"),
    ],
)
def test_odd_pictures_are_refused(tmp_path, capfd, name, data, message):
    (tmp_path / name).write_bytes(data)
    assert message in refusal(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_several_pictures_in_one_file_are_refused(tmp_path):
    pages = [Image.fromarray(SHOWN), Image.fromarray(SHOWN[::-1])]
    for name in ("a.png", "a.tif"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        assert "found 2 pages, expected one" in refusal(tmp_path / name)
