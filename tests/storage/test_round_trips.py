"""Every readable format: file, canonical order, back, file. The same voxels at the same points of the world, as ITK sees them too."""

import itertools
from typing import NamedTuple

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from tumorseg.ops.geometry import AS_STORED, orient, orientation_of, oriented_affine, restore_orientation
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.image_writing import write_segmentation
from tumorseg.storage.images import read_geometry, read_image, read_segmentation
from tumorseg.storage.rewriting import rewrite_channel

AXES = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
"""All 48 ways in which voxel axes can run along the world's."""
CLOSE_MM = 1e-3


class Grid(NamedTuple):
    shape: tuple[int, int, int]
    """(Z, Y, X)."""
    affine: np.ndarray


@st.composite
def grids(draw, tilt=180.0):
    axes = draw(st.sampled_from(AXES))
    angles = draw(st.tuples(*[st.floats(-tilt, tilt)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.25, 7.5)] * 3))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes @ np.diag(spacing)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-250, 250)] * 3))
    return Grid(draw(st.tuples(*[st.integers(1, 6)] * 3)), affine)


def voxels(shape, dtype=np.int16):
    """Every voxel has a value of its own."""
    return np.random.default_rng(5).permutation(np.prod(shape)).reshape(shape).astype(dtype)


def nifti(kind=nibabel.Nifti1Image, header=None, scaling=None, is_4d=False):
    def write(path, array, affine):
        stored = np.stack([array.T + 1000, array.T], axis=-1) if is_4d else array.T
        image = kind(stored, affine, header)
        image.set_data_dtype(array.dtype)
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
        if scaling:
            image.header.set_slope_inter(*scaling)
        nibabel.save(image, path)

    return write


def itk(path, array, affine):
    image = SimpleITK.GetImageFromArray(array)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    turned = np.diag([-1, -1, 1]) @ affine[:3]
    image.SetSpacing(lengths.tolist())
    image.SetDirection((turned[:, :3] / lengths).ravel().tolist())
    image.SetOrigin(turned[:, 3].tolist())
    SimpleITK.WriteImage(image, str(path))


class Format(NamedTuple):
    ending: str
    write: object
    index: int | None = None
    slope: float = 1
    intercept: float = 0
    has_itk: bool = True
    """Whether ITK reads what is written like such a file."""


FORMATS = {
    "nii": Format(".nii", nifti()),
    "nii.gz": Format(".nii.gz", nifti()),
    "NIfTI-2": Format(".nii.gz", nifti(nibabel.Nifti2Image), has_itk=False),
    "big-endian": Format(".nii", nifti(header=nibabel.Nifti1Header(endianness=">"))),
    "scaled": Format(".nii", nifti(scaling=(0.5, -16)), slope=0.5, intercept=-16),
    "4D": Format(".nii.gz", nifti(is_4d=True), index=1),
    "nrrd": Format(".nrrd", itk),
    "mha": Format(".mha", itk),
    "mhd": Format(".mhd", itk),
}


def marked(shape):
    """Return the corners of a grid, and some voxels between: (z, y, x)."""
    corners = itertools.product(*((0, size - 1) for size in shape))
    return {*corners, *itertools.islice(np.ndindex(*shape), 0, None, 7)}


def world(affine, index):
    return (affine @ [*reversed(index), 1])[:3]


def voxel_at(affine, point):
    """Return (z, y, x)."""
    return tuple(np.rint(np.linalg.solve(affine, [*point, 1])[:3]).astype(int)[::-1])


def assert_same_points(array, affine, expected, grid):
    """Every marked voxel has its value, and lies where it did."""
    for index in marked(grid.shape):
        point = world(grid.affine, index)
        found = voxel_at(affine, point)
        assert array[found] == expected[index]
        np.testing.assert_allclose(world(affine, found), point, atol=CLOSE_MM)


def assert_itk_agrees(path, expected, grid):
    image = SimpleITK.ReadImage(str(path))
    for index in marked(grid.shape):
        point = np.array([-1, -1, 1]) * world(grid.affine, index)
        at = image.TransformPhysicalPointToIndex(point.tolist())
        assert image[at] == expected[index]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(at), point, atol=CLOSE_MM)


@pytest.fixture(params=FORMATS)
def format(request):
    return FORMATS[request.param]


@given(grid=grids())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_segmentation_made_in_canonical_order_lies_on_the_files_voxels(tmp_path, format, grid):
    array, path = voxels(grid.shape), tmp_path / f"a{format.ending}"
    format.write(path, array, grid.affine)
    volume = read_image(ImageFile(path=str(path), index=format.index))
    np.testing.assert_array_equal(volume.array, array * format.slope + format.intercept)

    orientation = orientation_of(volume.affine)
    canonical, affine = orient(volume.array, orientation), oriented_affine(volume.affine, grid.shape, orientation)
    assert orientation_of(affine) == AS_STORED
    assert_same_points(canonical, affine, volume.array, grid)

    labels = orient(array, orientation)
    write_segmentation(
        tmp_path / "out.nii.gz", restore_orientation(labels, orientation), like=ImageFile(path=str(path))
    )
    written = read_segmentation(str(tmp_path / "out.nii.gz"))
    np.testing.assert_array_equal(written.array, array)
    assert_same_points(written.array, written.affine, array, grid)
    if format.has_itk:
        assert_itk_agrees(tmp_path / "out.nii.gz", array, grid)


@given(grid=grids(tilt=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_rewritten_channel_has_the_files_values_and_points_and_itk_reads_it(tmp_path, format, grid):
    array, path, out = voxels(grid.shape), tmp_path / f"a{format.ending}", tmp_path / "out.nii.gz"
    format.write(path, array, grid.affine)
    file = ImageFile(path=str(path), index=format.index)
    rewrite_channel(out, file)
    volume, before = read_image(ImageFile(path=str(out))), read_image(file)
    np.testing.assert_array_equal(volume.array, before.array)
    assert nibabel.load(out).get_data_dtype().newbyteorder("=") == np.int16
    assert_same_points(volume.array, volume.affine, array * format.slope + format.intercept, grid)
    if nibabel.load(out).ndim == 3:  # a slice in the world's x-y plane becomes 2D
        assert_itk_agrees(out, array * format.slope + format.intercept, grid)


@pytest.mark.parametrize("signs", list(itertools.product((1.0, -1.0), repeat=2)))
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("is_swapped", [False, True])
def test_a_2d_file_goes_there_and_back(tmp_path, signs, kind, is_swapped):
    grid = Grid((1, 4, 5), np.diag([0.7 * signs[0], 0.9 * signs[1], 4.5, 1.0]))
    grid.affine[:3, 3] = (-12.5, 40.25, 7)
    if is_swapped:
        grid.affine[:3, :3] = grid.affine[:3, :3] @ np.eye(3)[[2, 0, 1]]  # the plane stands upright
    array, path = voxels(grid.shape), str(tmp_path / "a.nii.gz")
    image = kind(array[0].T, grid.affine)
    image.set_sform(grid.affine, 1)
    nibabel.save(image, path)
    volume = read_image(ImageFile(path=path))
    assert_same_points(volume.array, volume.affine, array, grid)
    orientation = orientation_of(volume.affine)
    back = restore_orientation(orient(array, orientation), orientation)
    write_segmentation(tmp_path / "out.nii.gz", back, like=ImageFile(path=path))
    written = read_segmentation(str(tmp_path / "out.nii.gz"))
    assert nibabel.load(tmp_path / "out.nii.gz").shape == (5, 4)
    assert_same_points(written.array, written.affine, array, grid)


@pytest.mark.parametrize("ending", [".png", ".tif", ".tiff", ".jpg", ".jpeg"])
def test_a_picture_goes_there_and_back_and_becomes_a_2d_file(tmp_path, ending):
    grid, path = Grid((1, 4, 5), np.eye(4)), tmp_path / f"a{ending}"
    Image.fromarray(voxels((4, 5), np.uint8) * 9).save(path)
    volume = read_image(ImageFile(path=str(path)))
    orientation = orientation_of(volume.affine)
    labels = voxels(grid.shape)
    write_segmentation(
        tmp_path / "out.nii.gz",
        restore_orientation(orient(labels, orientation), orientation),
        like=ImageFile(path=str(path)),
    )
    written = read_segmentation(str(tmp_path / "out.nii.gz"))
    assert_same_points(written.array, written.affine, labels, grid)
    assert_itk_agrees(tmp_path / "out.nii.gz", labels, grid)

    rewrite_channel(tmp_path / "flat.nii.gz", ImageFile(path=str(path)))
    assert nibabel.load(tmp_path / "flat.nii.gz").shape == (5, 4)
    again = read_image(ImageFile(path=str(tmp_path / "flat.nii.gz")))
    assert_same_points(again.array, again.affine, volume.array, grid)
    flat = SimpleITK.ReadImage(str(tmp_path / "flat.nii.gz"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(flat), volume.array[0])
    assert flat.GetSpacing() == (1.0, 1.0)
    assert read_geometry(str(tmp_path / "flat.nii.gz")).shape == grid.shape
