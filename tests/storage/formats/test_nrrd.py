"""NRRD by hand-written headers: what ITK reads as well is compared with ITK, the rest with the format's description."""

import bz2
import gzip
import time
import tracemalloc

import numpy as np
import pytest
import SimpleITK

from tests.storage.headers import DIRECTIONS, ORIGIN, counted, write_nrrd
from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.formats import packed
from tumorseg.storage.formats.nrrd_headers import read_header
from tumorseg.storage.images import read_geometry, read_image, read_images


def world(path, index=(1, 2, 3)):
    return (read_geometry(path).affine @ [*index, 1])[:3]


def voxels_of(path):
    return read_image(ImageFile(path=path)).array


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ("left-posterior-superior", (-10.7, -21.8, 39.3)),
        ("LPS", (-10.7, -21.8, 39.3)),
        ("right-anterior-superior", (10.7, 21.8, 39.3)),
        ("RAS", (10.7, 21.8, 39.3)),
        ("left-anterior-superior", (-10.7, 21.8, 39.3)),
        ("Las", (-10.7, 21.8, 39.3)),
    ],
)
def test_each_space_of_the_patient_is_turned_to_ras_as_itk_does(tmp_path, space, expected):
    path = write_nrrd(tmp_path / "a.nrrd", f"space: {space}", DIRECTIONS, ORIGIN)
    assert read_geometry(path).is_placed
    np.testing.assert_allclose(world(path), expected)
    in_itk = SimpleITK.ReadImage(path).TransformIndexToPhysicalPoint((1, 2, 3))
    np.testing.assert_allclose(world(path), np.multiply(in_itk, (-1, -1, 1)))


@pytest.mark.parametrize(
    ("units", "factors"),
    [
        ('"mm" "mm" "mm"', (1, 1, 1)),
        ('"um" "um" "um"', (1e-3,) * 3),
        ('"µm" "microns" "micrometers"', (1e-3,) * 3),
        ('"cm" "m" "mm"', (10, 1000, 1)),
        ('"nm" "millimeters" "Meter"', (1e-6, 1, 1000)),
        ('"" "???" "none"', (1, 1, 1)),
    ],
)
def test_space_units_scale_the_world(tmp_path, units, factors):
    path = write_nrrd(tmp_path / "a.nrrd", "space: RAS", DIRECTIONS, ORIGIN, f"space units: {units}")
    np.testing.assert_allclose(world(path), np.multiply((10.7, 21.8, 39.3), factors))


def test_units_scale_spacings(tmp_path):
    path = write_nrrd(tmp_path / "a.nrrd", "spacings: 0.07 90 3.1", 'units: "cm" "um" "mm"')
    np.testing.assert_allclose(np.linalg.norm(read_geometry(path).affine[:3, :3], axis=0), (0.7, 0.09, 3.1))
    path = write_nrrd(
        tmp_path / "b.nrrd",
        "spacings: nan 1 2 3",
        'units: "" "cm" "cm" "cm"',
        "kinds: list domain domain domain",
        sizes=(2, 4, 5, 6),
    )
    np.testing.assert_allclose(np.linalg.norm(read_geometry(path).affine[:3, :3], axis=0), (10, 20, 30))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["space: RAS", DIRECTIONS, 'space units: "inch" "mm" "mm"'], "space units 'inch', expected a unit of length"),
        (["space: RAS", DIRECTIONS, 'space units: "s" "mm" "mm"'], "space units 's', expected a unit of length"),
        (["space: RAS", DIRECTIONS, 'space units: "Mm" "mm" "mm"'], "space units 'Mm', expected a unit of length"),
        (["space: RAS", DIRECTIONS, 'space units: "mm"'], 'space units "mm", expected 3 in quotes'),
        (["space: RAS", DIRECTIONS, 'units: "um" "um" "um"'], "units beside space directions"),
        (["spacings: 1 2 3", 'units: "pixel" "pixel" "pixel"'], "units 'pixel', expected a unit of length"),
        (["spacings: 1 2"], "spacings '1 2', expected 3 numbers"),
        (["spacings: 1 nan 3"], "the spacing nan along axis 1"),
        (["space: left-posterior-superior-time", DIRECTIONS], "expected one without time"),
        (["space: LPST", DIRECTIONS], "expected one without time"),
        (["space: north-east-up", DIRECTIONS], "the space 'north-east-up', expected one of"),
        (
            ["space: LPS", "space directions: (1,0,0) (0,1,0)"],
            "found 2 space directions, expected one for each of 3 axes",
        ),
        (["space: LPS", "space directions: (1,0) (0,1) (0,0)"], "space directions '1,0', expected 3 numbers"),
        (["space: LPS", "space directions: (1,0,0) (1,0,0) (0,0,1)"], "singular"),
        (["space: LPS", "space: RAS", DIRECTIONS], "the field 'space' twice"),
    ],
)
def test_what_contradicts_itself_is_refused_in_one_line(tmp_path, lines, message):
    path = write_nrrd(tmp_path / "a.nrrd", *lines)
    with pytest.raises(InputError) as refused:
        read_geometry(path)
    assert str(refused.value).startswith(path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_slice_in_the_world_gets_its_normal(tmp_path):
    lines = ("space: RAS", "space directions: (0,0.7,0) (0,0,0.9)", ORIGIN)
    path = write_nrrd(tmp_path / "a.nrrd", *lines, sizes=(4, 5))
    found = read_geometry(path)
    assert (found.shape, found.is_placed) == ((1, 5, 4), True)
    np.testing.assert_allclose(found.affine[:3], [[0, 0, 1, 10], [0.7, 0, 0, 20], [0, 0.9, 0, 30]])


@pytest.mark.parametrize(
    ("lines", "sizes", "channels_first"),
    [
        (
            ("space directions: none (0.7,0,0) (0,0.9,0) (0,0,3.1)", "kinds: vector domain domain domain"),
            (2, 4, 5, 6),
            True,
        ),
        (
            ("space directions: (0.7,0,0) (0,0.9,0) (0,0,3.1) none", "kinds: domain domain domain list"),
            (4, 5, 6, 2),
            False,
        ),
        (("space directions: none (0.7,0,0) (0,0.9,0) (0,0,3.1)",), (2, 4, 5, 6), True),
    ],
)
def test_the_axis_without_direction_is_that_of_channels(tmp_path, lines, sizes, channels_first):
    path = write_nrrd(tmp_path / "a.nrrd", "space: LPS", *lines, sizes=sizes)
    array = counted(sizes).reshape(sizes[::-1])
    expected = np.moveaxis(array, 3 if channels_first else 0, 0)
    files = [ImageFile(path=path, index=index, num_volumes=2) for index in range(2)]
    for volume, channel in zip(read_images(files), expected, strict=True):
        np.testing.assert_array_equal(volume.array, channel)
    assert read_geometry(path).shape == (6, 5, 4)


def test_four_axes_of_space_and_complex_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match="found 4 axes, 4 of them of space"):
        read_geometry(write_nrrd(tmp_path / "a.nrrd", "spacings: 1 1 1 1", sizes=(4, 5, 6, 2)))
    with pytest.raises(InputError, match="found complex numbers"):
        read_geometry(write_nrrd(tmp_path / "b.nrrd", "kinds: complex domain domain", sizes=(2, 5, 6)))


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("raw", bytes),
        ("gzip", gzip.compress),
        ("gz", gzip.compress),
        ("bzip2", bz2.compress),
        ("hex", lambda data: data.hex(" ").encode()),
        ("ascii", lambda data: " ".join(map(str, np.frombuffer(data, "<i2"))).encode()),
    ],
)
def test_every_encoding_holds_the_same_voxels(tmp_path, encoding, pack):
    expected = counted((4, 5, 6), np.int16) - 7
    path = write_nrrd(tmp_path / "a.nrrd", kind="short", encoding=encoding, data=pack(expected.tobytes()))
    np.testing.assert_array_equal(voxels_of(path), expected.reshape(6, 5, 4))


@pytest.mark.parametrize("kind", ["int8", "unsigned short", "int", "uint64_t", "long long int", "float", "double"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_types_and_byte_orders_are_those_of_itk(tmp_path, kind, endian):
    size = {"int8": 1, "unsigned short": 2, "int": 4, "float": 4}.get(kind, 8)
    data = bytes(np.random.default_rng(2).integers(0, 60, 120 * size, np.uint8))
    path = write_nrrd(tmp_path / "a.nrrd", endian=endian, kind=kind, data=data)
    np.testing.assert_array_equal(
        voxels_of(path), SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)).astype(np.float32)
    )


def test_voxels_in_files_beside_the_header_are_found(tmp_path):
    expected = counted((4, 5, 6))
    slices = expected.reshape(6, 20)
    for number, part in enumerate(slices):
        (tmp_path / f"part{number:02d}.raw").write_bytes(b"head\nxx" + part.tobytes())
    skips = ("line skip: 1", "byte skip: 2")
    for name, field in (("a", "part%02d.raw 0 5"), ("b", "LIST\n" + "\n".join(f"part{n:02d}.raw" for n in range(6)))):
        path = write_nrrd(tmp_path / f"{name}.nrrd", *skips, f"data file: {field}", data=b"")
        np.testing.assert_array_equal(voxels_of(path).ravel(), expected)
    (tmp_path / "part03.raw").unlink()
    with pytest.raises(InputError, match=r"a\.nrrd: its data file part03\.raw: no such file"):
        voxels_of(str(tmp_path / "a.nrrd"))


def test_the_last_bytes_are_the_voxels_where_the_header_says_so(tmp_path):
    path = write_nrrd(tmp_path / "a.nrrd", "byte skip: -1", data=b"anything" + counted((4, 5, 6)).tobytes())
    np.testing.assert_array_equal(voxels_of(path).ravel(), counted((4, 5, 6)))


@pytest.mark.parametrize("place", [12, 40, -6])
def test_a_changed_byte_in_packed_voxels_is_found(tmp_path, place):
    packed = bytearray(gzip.compress(np.random.default_rng(0).bytes(120)))
    packed[place] ^= 4
    with pytest.raises(InputError, match=r"a\.nrrd: cannot be read as NRRD"):
        voxels_of(write_nrrd(tmp_path / "a.nrrd", encoding="gzip", data=bytes(packed)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": b"too few"}, "the file is too short"),
        ({"encoding": "gzip", "data": gzip.compress(b"too few")}, "cannot be read as NRRD"),
        ({"encoding": "ascii", "data": b"1 2 3" + b" " * 200}, "ends after 3 of 120 numbers"),
        ({"encoding": "ascii", "data": b"1 2 x " * 60}, "cannot be read as NRRD"),
        ({"encoding": "hex", "data": b"zz" * 120}, "cannot be read as NRRD"),
        ({"encoding": "zrle"}, "the encoding 'zrle', expected one of raw, gzip"),
        ({"kind": "block"}, "the type 'block', expected one of"),
        ({"sizes": (4, -5, 6), "data": b""}, "the sizes"),
        ({"sizes": (400000, 500000, 600000), "data": b""}, "too short"),
        ({"sizes": (1,) * 17}, "found 17 axes, expected 2 to 4"),
        ({"sizes": (4, 5, 10**30), "data": b""}, "expected 3 integers"),
        ({"encoding": "ascii", "data": b"1" * 2000 + b" 1" * 119}, "a number of more than 1100 digits"),
    ],
)
def test_damage_and_what_is_not_known_is_one_line(tmp_path, arguments, message):
    path = write_nrrd(tmp_path / "a.nrrd", **arguments)
    with pytest.raises(InputError) as refused:
        voxels_of(path)
    assert str(refused.value).startswith(path)
    assert message in str(refused.value)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("bzip2", bz2.compress)])
def test_what_unpacks_to_far_more_than_is_announced_is_left_unread(tmp_path, monkeypatch, encoding, pack):
    monkeypatch.setattr(packed, "MOST_SURPLUS", 1 << 20)
    path = write_nrrd(tmp_path / "a.nrrd", encoding=encoding, data=pack(bytes(120 + (3 << 20))))
    with pytest.raises(InputError, match="bytes come behind its voxels"):
        voxels_of(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # each would be skipped line by line, though the file has ended
        ("line skip: 4000000000000000000", "the file ends after 0 of 120 bytes"),
        ("byte skip: 4000000000000000000", "too short"),
        ("data file: LIST", "found no data file in its LIST"),
        ("data file: slice%04000d.raw 1 2 1", "expected a name such as slice%03d.raw"),
        ("space: LPS\nspace directions: (nan,0,0) (0,1,0) (0,0,1)", "'nan,0,0', expected 3 finite numbers"),
        (
            "space: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,inf,0)",
            "'0,inf,0', expected 3 finite numbers",
        ),
    ],
)
def test_fields_that_a_reader_would_trust_are_refused(tmp_path, line, message):
    path = write_nrrd(tmp_path / "a.nrrd", *line.split("\n"))
    with pytest.raises(InputError) as refused:
        voxels_of(path)
    assert message in str(refused.value)


def test_positions_of_the_first_and_last_voxel_give_the_spacing(tmp_path):
    cells = write_nrrd(tmp_path / "a.nrrd", "axis mins: 0 0 0", "axis maxs: 2.8 4.5 18.6")
    np.testing.assert_allclose(np.abs(np.diag(read_geometry(cells).affine)[:3]), (0.7, 0.9, 3.1))
    nodes = write_nrrd(tmp_path / "b.nrrd", "axismins: 0 0 0", "axismaxs: 2.1 3.6 15.5", "centers: node node node")
    np.testing.assert_allclose(np.abs(np.diag(read_geometry(nodes).affine)[:3]), (0.7, 0.9, 3.1))


def test_what_ends_a_key_first_tells_pairs_from_fields(tmp_path):
    pairs = ("dcm:0010,0010:=a: b", "type:foo:=x", "sizes:=1: 2")
    path = write_nrrd(tmp_path / "a.nrrd", *pairs, "content: a:=b", "space:RAS", DIRECTIONS)
    header = read_header(path)
    assert header.fields["type"] == "uchar"
    assert header.fields["content"] == "a:=b"
    assert header.fields["space"] == "RAS"
    assert not any(key.startswith("dcm") for key in header.fields)
    np.testing.assert_array_equal(voxels_of(path).ravel(), range(120))


@pytest.mark.parametrize("value", ["(" * (1 << 20), "no" * (1 << 19), "(1,0,0) " * (1 << 17)])
@pytest.mark.parametrize("name", ["space directions", "space units", "space origin", "sizes"])
def test_a_field_of_a_megabyte_is_looked_at_once(tmp_path, name, value):
    path = tmp_path / "a.nrrd"
    write_nrrd(path, "space: LPS", *([DIRECTIONS] if name != "space directions" else []), f"{name}: {value}")
    started = time.process_time()
    with pytest.raises(InputError):
        read_geometry(str(path))
    assert time.process_time() - started < 2  # hours, where each sign is a new start


def test_one_long_number_does_not_size_all_the_others(tmp_path):
    data = b"0" * 1000 + b"7 " + b"1 " * 11999
    path = write_nrrd(tmp_path / "a.nrrd", sizes=(12, 100, 10), kind="float", encoding="ascii", data=data)
    tracemalloc.start()
    array = voxels_of(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (array.flat[0], array.sum()) == (7, 12006)
    assert peak < 6 << 20  # 12 MB, where each takes as much room as the longest
