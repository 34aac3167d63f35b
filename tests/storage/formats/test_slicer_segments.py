"""3D Slicer's segmentations: segments by name, wherever their voxels are in the file."""

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.storage.segments import described, write_seg_nrrd
from tumorseg.errors import InputError
from tumorseg.ops.geometry import Orientation, orient, oriented_affine
from tumorseg.schema.cases import CaseReading
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.images import knows_names_only, read_reference, read_segmentation, strip_ending
from tumorseg.storage.named_labels import label_names

SHAPE = (5, 9, 13)
VALUES = {"GTV": 3, "node": 7}


def affine_of(angles=(20, -35, 50), spacing=(0.75, 1.25, 3.5)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = (-12.5, 40.25, 7)
    return affine


AFFINE = affine_of()
GRID = Geometry(SHAPE, AFFINE, 1)


def masks():
    found = {name: np.zeros(SHAPE, bool) for name in VALUES}
    found["GTV"][1:3, 1:5, 2:9] = True
    found["node"][2:4, 6:8, 1:12] = True
    found["node"][3, 7, 5] = False
    return found


def numbered(parts, values):
    array = np.zeros(SHAPE, np.uint8)
    for name, mask in parts.items():
        array[mask] = values[name]
    return array


EXPECTED = numbered(masks(), VALUES)


def read(path, grid=GRID, values=VALUES, **stated):
    return read_reference([str(path)], grid, values, CaseReading(**stated)).array


def test_segments_are_known_by_name_though_values_differ_between_files(tmp_path):
    one = write_seg_nrrd(
        tmp_path / "a.seg.nrrd", numbered(masks(), {"GTV": 1, "node": 2}), AFFINE, described(["GTV", "node"])
    )
    other = write_seg_nrrd(
        tmp_path / "b.seg.nrrd", numbered(masks(), {"node": 1, "GTV": 2}), AFFINE, described(["node", "GTV"])
    )
    for path in (one, other):
        assert knows_names_only(str(path))
        assert label_names([str(path)]) == set(VALUES)
        volume = read_reference([str(path)], GRID, VALUES)
        assert np.array_equal(volume.array, EXPECTED)
        assert np.array_equal(volume.affine, AFFINE)
    assert strip_ending("p0.seg.nrrd") == "p0"
    assert strip_ending("p0.nrrd") == "p0"


def test_layers_are_unpacked_and_overlaps_painted_by_what_lies_in_what(tmp_path, caplog):
    parts = masks()
    parts["lymph"] = np.zeros(SHAPE, bool)
    parts["lymph"][2, 1:4, 3:6] = True  # in the GTV
    layers = np.stack(
        [numbered({"GTV": parts["GTV"], "node": parts["node"]}, {"GTV": 4, "node": 9}), parts["lymph"].astype(np.uint8)]
    )
    segments = [
        {"Name": "lymph", "LabelValue": 1, "Layer": 1},
        {"Name": "GTV", "LabelValue": 4, "Layer": 0},
        {"Name": "node", "LabelValue": 9, "Layer": 0},
    ]
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", layers, AFFINE, segments)
    expected = EXPECTED.copy()
    expected[parts["lymph"]] = 1
    assert np.array_equal(read(path, values=VALUES | {"lymph": 1}), expected)
    assert f"{path}: lymph lies in GTV (100 % of it) and is painted over it in 9 voxels" in caplog.text
    assert (
        f"{path}: labels keep what lies around others in them; each whole is predicted with --regions FILE (GTV = GTV + lymph)"
        in caplog.text
    )


def test_layers_that_overlap_by_half_need_a_stated_order(tmp_path):
    layers = np.zeros((2, *SHAPE), np.uint8)
    layers[0, 1:3, 2:, 2:9] = 4
    layers[1, 1:3, 1:6, 2:9] = 1
    segments = [{"Name": "GTV", "LabelValue": 4, "Layer": 0}, {"Name": "node", "LabelValue": 1, "Layer": 1}]
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", layers, AFFINE, segments)
    with pytest.raises(
        InputError, match=r"a.seg.nrrd: GTV and node overlap in 56 voxels, 80 % of node; .* --paint-order GTV,node"
    ):
        read(path)
    found = read(path, paint_order=("node", "GTV"))
    assert np.array_equal(found == 3, layers[0] > 0)
    assert np.array_equal(found == 7, (layers[1] > 0) & (layers[0] == 0))


@given(
    orientation=st.builds(
        Orientation,
        st.sampled_from(list(permutations(range(3)))),
        st.sampled_from(list(product((False, True), repeat=3))),
    ),
    space=st.sampled_from(["left-posterior-superior", "right-anterior-superior", "left-anterior-superior"]),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    is_cropped=st.booleans(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cropped_voxels_in_any_order_of_axes_and_any_space_lie_where_they_are(
    tmp_path, orientation, space, angles, is_cropped
):
    affine = affine_of(angles)
    array, step = numbered(masks(), {"GTV": 1, "node": 2}), np.eye(4)
    if is_cropped:
        array, step[:3, 3] = array[1:4, 1:8, 1:12], (1, 1, 1)
    else:
        array, step[:3, 3] = np.pad(array, 2), (-2, -2, -2)
    stored = orient(array, orientation)
    path = tmp_path / "a.seg.nrrd"
    write_seg_nrrd(
        path, stored, oriented_affine(affine @ step, array.shape, orientation), described(["GTV", "node"]), space=space
    )
    assert np.array_equal(read(path, Geometry(SHAPE, affine, 1)), EXPECTED)


def test_voxels_lie_where_itk_puts_them(tmp_path):
    path = write_seg_nrrd(
        tmp_path / "a.seg.nrrd", numbered(masks(), {"GTV": 1, "node": 2}), AFFINE, described(["GTV", "node"])
    )
    image = SimpleITK.ReadImage(str(path))
    x, y, z, _ = np.diag([-1, -1, 1, 1]) @ AFFINE @ [5, 6, 3, 1]
    assert image.TransformPhysicalPointToIndex((x, y, z)) == (5, 6, 3)
    assert np.array_equal(SimpleITK.GetArrayFromImage(image) == 1, read(path) == 3)


def test_files_of_old_slicers_have_a_layer_per_segment(tmp_path):
    parts = masks()
    layers = np.stack([parts["node"], parts["GTV"]]).astype(np.uint8)
    segments = [{"ID": "Segment_1", "Name": "node"}, {"ID": "GTV"}]
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", layers, AFFINE, segments)
    assert np.array_equal(read(path), EXPECTED)
    single = write_seg_nrrd(tmp_path / "b.seg.nrrd", 255 * layers[:1], AFFINE, [{"Name": "node"}])
    assert np.array_equal(read(single), np.where(parts["node"], 7, 0))


def test_any_nrrd_that_describes_segments_is_known_by_names_and_others_by_numbers(tmp_path):
    array = numbered(masks(), {"GTV": 1, "node": 2})
    described_one = write_seg_nrrd(tmp_path / "a.nrrd", array, AFFINE, described(["GTV", "node"]))
    assert np.array_equal(read(described_one), EXPECTED)
    plain = write_seg_nrrd(
        tmp_path / "b.seg.nrrd", array, AFFINE, [], fields=["Segmentation_MasterRepresentation:=Binary labelmap"]
    )
    assert not knows_names_only(str(plain))
    assert np.array_equal(read_segmentation(str(plain)).array, array)
    assert np.array_equal(read(plain), array)
    described_one.write_bytes(plain.read_bytes())
    assert not knows_names_only(str(described_one))
    assert not knows_names_only(str(tmp_path / "none.seg.nrrd"))


def test_names_are_read_as_slicer_writes_them(tmp_path):
    names = ["Läsion  links ", "a\\\\b\\nc", "background"]
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", np.ones(SHAPE, np.uint8), AFFINE, described(names))
    assert label_names([str(path)]) == {"Läsion links", "a\\b c"}


def test_segments_of_one_name_are_united_and_unknown_values_left_out_with_a_warning(tmp_path, caplog):
    parts = masks()
    array = numbered(parts, {"GTV": 1, "node": 2})
    array[0, 0, :2] = 9
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", array, AFFINE, described(["node", "node"]))
    assert np.array_equal(read(path) == 7, parts["GTV"] | parts["node"])
    assert f"{path}: segments of one name are united: node (2)" in caplog.text
    assert f"{path}: values that no segment has are left out: 9" in caplog.text


def test_a_file_of_one_voxel_says_that_all_segments_are_empty(tmp_path):
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", np.zeros((1, 1, 1), np.uint8), np.eye(4), described(["GTV"]))
    assert not read(path).any()


def test_voxels_off_the_image_beyond_it_or_of_another_size_are_refused(tmp_path):
    array, path = numbered(masks(), {"GTV": 1, "node": 2}), tmp_path / "a.seg.nrrd"
    shifted = AFFINE.copy()
    shifted[:3, 3] += 0.3 * AFFINE[:3, 2]
    write_seg_nrrd(path, array, shifted, described(["GTV", "node"]))
    with pytest.raises(
        InputError,
        match=r"a.seg.nrrd: found voxels 1.05 mm off the image's voxels \(at most 0.375 mm, half a voxel\), exp",
    ):
        read(path)
    write_seg_nrrd(path, array, AFFINE @ np.diag([0.5, 0.5, 1, 1]), described(["GTV", "node"]))
    with pytest.raises(InputError, match=r"with edges of 3.5 x 0.625 x 0.375 mm on its of 3.5 x 1.25 x 0.75 mm"):
        read(path)
    write_seg_nrrd(path, array, AFFINE, described(["GTV", "node"]))
    with pytest.raises(InputError, match=r"a.seg.nrrd: GTV: found 28 voxels outside the image, expected them inside"):
        read(path, Geometry((2, 9, 13), AFFINE, 1))


def test_several_files_make_one_reference_and_a_folder_stands_for_its_files(tmp_path):
    for name, mask in masks().items():
        write_seg_nrrd(tmp_path / f"{name}.seg.nrrd", mask.astype(np.uint8), AFFINE, described([name]))
    (tmp_path / "notes.txt").write_text("drawn on Tuesday")
    files = [str(tmp_path / f"{name}.seg.nrrd") for name in VALUES]
    for paths in (files, [str(tmp_path)]):
        assert np.array_equal(read_reference(paths, GRID, VALUES).array, EXPECTED)
        assert label_names(paths) == set(VALUES)
    write_seg_nrrd(tmp_path / "again.seg.nrrd", np.zeros(SHAPE, np.uint8), AFFINE, described(["node"]))
    with pytest.raises(InputError, match="found two files with structures called node, expected one"):
        read_reference([str(tmp_path)], GRID, VALUES)


def test_a_file_in_which_nothing_was_drawn_is_an_empty_reference(tmp_path, caplog):
    fields = ["Segmentation_MasterRepresentation:=Binary labelmap", "Segmentation_ContainedRepresentationNames:="]
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", np.zeros((1, 1, 1), np.uint8), np.eye(4), [], fields=fields)
    assert knows_names_only(str(path))
    assert label_names([str(path)]) == set()
    found = read(path)
    assert found.shape == SHAPE
    assert not found.any()
    assert f"{path}: nothing was drawn in it" in caplog.text


@pytest.mark.parametrize(
    ("space", "reason"),
    [(["space: scanner-xyz"], "space is scanner-xyz, which is not the patient's"), ([], "no space")],
)
def test_segments_without_a_place_are_refused_with_the_reason(tmp_path, space, reason):
    path = write_seg_nrrd(
        tmp_path / "a.seg.nrrd", EXPECTED, AFFINE, described(["GTV"]), drop=["space: "], fields=["space dimension: 3"]
    )
    path.write_bytes(
        path.read_bytes().replace(b"space dimension: 3", "\n".join(space or ["space dimension: 3"]).encode())
    )
    with pytest.raises(
        InputError, match=rf"lie: .*{reason}; .*--assume-orientation cannot tell; mend the header in the"
    ):
        read(path, assumed_orientation="LPS")
