import logging

import nibabel
import numpy as np
import pytest

from tests.ops.test_grids import stored_as
from tumorseg.errors import InputError
from tumorseg.ops.geometry import orient, restore_orientation
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.schema.targets import Targets
from tumorseg.stages.opening.reading import read_case_image, read_case_indices

AFFINE = np.array([[1.2, 0, 0, -9.0], [0, 0.8, 0, 4.0], [0, 0, 3.0, 11.0], [0, 0, 0, 1]])
SHAPE = (5, 9, 7)
TARGETS = Targets(label_values=(0, 3), label_names=("background", "lesion"), ignore_value=None)


def save(path, array, affine=AFFINE):
    """Write an array (Z, Y, X)."""
    nibabel.save(nibabel.Nifti1Image(array.T, affine), path)
    return str(path)


def save_unplaced(path, array, edges=(1.2, 0.8, 3.0)):
    """Write an array (Z, Y, X) whose header states no orientation."""
    image = nibabel.Nifti1Image(array.T, None)
    image.header.set_zooms(edges)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nibabel.save(image, path)
    assert nibabel.load(path).header["sform_code"] == nibabel.load(path).header["qform_code"] == 0
    return str(path)


def arrays():
    rng = np.random.default_rng(4)
    label = np.zeros(SHAPE, np.uint8)
    label[1:3, 2:6, 1:4] = 3
    return rng.normal(40, 9, SHAPE).astype(np.float32), label


def case_of(label, *images):
    return Case(case_id="c", images=tuple(ImageFile(path=path) for path in images), label=label)


@pytest.mark.parametrize("code", ["LPS", "PIR", "SAL", "RAS"])
def test_a_label_in_other_axes_is_reoriented_without_loss(tmp_path, code):
    image, label = arrays()
    stored, affine = stored_as(label, AFFINE, code)
    case = case_of(save(tmp_path / "l.nii.gz", stored, affine), save(tmp_path / "i.nii.gz", image))
    found = read_case_image(case)
    indices = read_case_indices(case, found, TARGETS)
    np.testing.assert_array_equal(restore_orientation(indices, found.orientation), label // 3)


@pytest.mark.parametrize("code", ["LPS", "PIR"])
def test_a_channel_in_other_axes_is_reoriented_not_interpolated(tmp_path, caplog, code):
    image, _ = arrays()
    stored, affine = stored_as(image + 1, AFFINE, code)
    paths = [save(tmp_path / "a.nii.gz", image), save(tmp_path / "b.nii.gz", stored, affine)]
    found = read_case_image(case_of(None, *paths))
    assert (found.is_moved, found.is_shared, found.covered) == ((False, True), True, ())
    np.testing.assert_array_equal(found.image[1], found.image[0] + 1)
    assert not caplog.records


def shifted(mm):
    affine = AFFINE.copy()
    affine[0, 3] += mm
    return affine


def test_a_label_that_truly_lies_elsewhere_is_refused_with_the_distance_and_no_advice_that_spoils_it(tmp_path):
    image, label = arrays()
    case = case_of(save(tmp_path / "l.nii.gz", label, shifted(14)), save(tmp_path / "i.nii.gz", image))
    with pytest.raises(
        InputError, match=r"case c: .*l\.nii\.gz does not lie on .*i\.nii\.gz: it lies up to 14 mm away"
    ) as told:
        read_case_indices(case, read_case_image(case), TARGETS)
    assert "header" not in str(told.value)
    assert "origin may have been lost" in str(told.value)


def write_wide_pet(tmp_path):
    """Write a CT, a PET that is wider and longer, and a label on the PET."""
    rng = np.random.default_rng(2)
    ct = save(tmp_path / "ct.nii.gz", rng.normal(40, 20, (8, 10, 10)).astype(np.float32), np.diag([2.0, 2, 3, 1]))
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = [-12, -12, -4]
    pet = save(tmp_path / "pet.nii.gz", rng.uniform(0, 9, (9, 11, 11)).astype(np.float32), affine)
    label = np.zeros((9, 11, 11), np.uint8)
    label[3:5, 1:7, 4:6] = 3  # partly outside of the CT
    return ct, pet, save(tmp_path / "l.nii.gz", label, affine), label


def test_the_grid_is_that_of_the_channel_that_the_label_lies_on(tmp_path, caplog):
    ct, pet, label, drawn = write_wide_pet(tmp_path)
    reading = CaseReading(outside_values=(-1024.0, None))
    with caplog.at_level(logging.WARNING):
        found = read_case_image(case_of(label, ct, pet), reading)
    assert (found.grid, found.is_shared, found.image.shape) == (1, False, (2, 9, 11, 11))
    covered = found.covered[0]
    assert found.covered[1] is None
    assert (found.image[0][~covered] == -1024).all()
    assert found.image[0][covered].min() > -100  # nothing bled in
    (told,) = [record.getMessage() for record in caplog.records]
    assert f"does not cover {(~covered).mean():.1%} of it ({(~covered).sum()} voxels), which get -1024" in told
    indices = read_case_indices(case_of(label, ct, pet), found, TARGETS, reading)
    np.testing.assert_array_equal(restore_orientation(indices, found.orientation), drawn // 3)


def test_a_stated_grid_counts_and_predict_needs_no_label_for_it(tmp_path):
    ct, pet, _, _ = write_wide_pet(tmp_path)
    assert read_case_image(case_of(None, ct, pet)).grid == 0
    found = read_case_image(case_of(None, ct, pet), CaseReading(grid=1, outside_values=(-1024.0, None)))
    assert (found.grid, found.image.shape[1:]) == (1, (9, 11, 11))


def test_without_a_stated_value_the_least_one_lies_outside(tmp_path):
    ct, pet, label, _ = write_wide_pet(tmp_path)
    found = read_case_image(case_of(label, ct, pet))
    least = np.asarray(nibabel.load(ct).dataobj).min()
    assert (found.image[0][~found.covered[0]] == least).all()


def test_channels_that_hardly_overlap_are_refused(tmp_path):
    ct, _, _, _ = write_wide_pet(tmp_path)
    image, _ = arrays()
    far = AFFINE.copy()
    far[2, 3] = 400
    case = case_of(None, ct, save(tmp_path / "far.nii.gz", image, far))
    with pytest.raises(
        InputError, match=r"case c: .*far\.nii\.gz and .*ct\.nii\.gz have 0% .* in common.*are they of one study"
    ):
        read_case_image(case)


@pytest.mark.parametrize("code", ["RAS", "LPS", "AIL"])
def test_a_label_without_orientation_lies_on_its_image_once_the_orientation_is_stated(tmp_path, code):
    image, label = arrays()
    stored, affine = stored_as(label, AFFINE, code)
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    case = case_of(save_unplaced(tmp_path / "l.nii.gz", stored, edges), save(tmp_path / "i.nii.gz", image))
    found = read_case_image(case)
    with pytest.raises(InputError, match="--assume-orientation"):
        read_case_indices(case, found, TARGETS)
    reading = CaseReading(assumed_orientation=code)
    indices = read_case_indices(case, read_case_image(case, reading), TARGETS, reading)
    np.testing.assert_array_equal(restore_orientation(indices, found.orientation), label // 3)


def test_an_image_without_orientation_is_read_with_a_warning_that_names_it(tmp_path, caplog):
    image, label = arrays()
    case = case_of(save_unplaced(tmp_path / "l.nii.gz", label), save_unplaced(tmp_path / "i.nii.gz", image))
    with caplog.at_level(logging.WARNING):
        found = read_case_image(case)
        indices = read_case_indices(case, found, TARGETS)
    np.testing.assert_array_equal(restore_orientation(indices, found.orientation), label // 3)
    told = [record.getMessage() for record in caplog.records]
    assert [name for line in told for name in ("i.nii.gz", "l.nii.gz") if name in line] == ["i.nii.gz", "l.nii.gz"]
    assert all("--assume-orientation" in line for line in told)


def test_a_stated_orientation_turns_the_image(tmp_path):
    image, _ = arrays()
    case = case_of(None, save_unplaced(tmp_path / "i.nii.gz", image))
    ras, lps = (read_case_image(case, CaseReading(assumed_orientation=code)) for code in ("RAS", "LPS"))
    np.testing.assert_array_equal(ras.image[0], image)
    np.testing.assert_array_equal(lps.image[0], image[:, ::-1, ::-1])
    assert ras.spacing_mm == pytest.approx((3.0, 0.8, 1.2))
    assert orient(image, lps.orientation)[0, 0, 0] == image[0, -1, -1]


def centred():
    affine = np.diag([1.2, 0.8, 3.0, 1])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(SHAPE[::-1]) - 1) / 2
    return affine


def test_a_label_without_orientation_is_never_turned_onto_an_image_that_happens_to_lie_where_it_would(tmp_path):
    image, label = arrays()
    case = case_of(save_unplaced(tmp_path / "l.nii.gz", label), save(tmp_path / "i.nii.gz", image, centred()))
    with pytest.raises(
        InputError, match="it states no orientation and no place: state the orientation with --assume-orientation"
    ):
        read_case_indices(case, read_case_image(case), TARGETS)
    reading = CaseReading(assumed_orientation="RAS")
    found = read_case_indices(case, read_case_image(case, reading), TARGETS, reading)
    np.testing.assert_array_equal(found, label // 3)


def test_an_image_without_orientation_takes_a_label_of_another_program_once_it_is_stated(tmp_path):
    image, label = arrays()
    case = case_of(save(tmp_path / "l.nii.gz", label), save_unplaced(tmp_path / "i.nii.gz", image))
    reading = CaseReading(assumed_orientation="RAS")
    found = read_case_indices(case, read_case_image(case, reading), TARGETS, reading)
    np.testing.assert_array_equal(found, label // 3)


def test_a_channel_without_orientation_is_not_interpolated_where_it_might_lie(tmp_path):
    image, _ = arrays()
    case = case_of(None, save(tmp_path / "a.nii.gz", image), save_unplaced(tmp_path / "b.nii.gz", image + 1))
    with pytest.raises(
        InputError, match=r"b\.nii\.gz does not lie on .*a\.nii\.gz: it states no orientation and no place"
    ):
        read_case_image(case)
    found = read_case_image(case, CaseReading(assumed_orientation="RAS"))
    np.testing.assert_array_equal(found.image[1], found.image[0] + 1)
    short = case_of(None, case.images[0].path, save_unplaced(tmp_path / "c.nii.gz", image[1:]))
    with pytest.raises(InputError, match="only one of as many voxels of the same size can lie on it"):
        read_case_image(short, CaseReading(assumed_orientation="RAS"))


def test_a_label_that_fits_two_channels_which_lie_apart_is_not_put_on_one(tmp_path):
    image, label = arrays()
    paths = [save(tmp_path / "a.nii.gz", image), save(tmp_path / "b.nii.gz", image, shifted(3))]
    case = case_of(save_unplaced(tmp_path / "l.nii.gz", label), *paths)
    with pytest.raises(InputError, match=r"fits .*a\.nii\.gz and .*b\.nii\.gz, which lie apart; state the channel"):
        read_case_image(case, CaseReading(assumed_orientation="RAS"))
    assert read_case_image(case, CaseReading(assumed_orientation="RAS", grid=1)).grid == 1


def test_a_flat_label_without_orientation_lies_on_an_image_of_one_thick_slice(tmp_path):
    image, label = (array[2:3] for array in arrays())
    thick = np.diag([1.2, 0.8, 5.0, 1])
    flat = nibabel.Nifti1Image(label[0].T, None)
    flat.header.set_zooms((1.2, 0.8))
    flat.set_sform(None, code=0)
    flat.set_qform(None, code=0)
    nibabel.save(flat, tmp_path / "l.nii.gz")
    case = case_of(str(tmp_path / "l.nii.gz"), save(tmp_path / "i.nii.gz", image, thick))
    reading = CaseReading(assumed_orientation="RAS")
    found = read_case_indices(case, read_case_image(case, reading), TARGETS, reading)
    np.testing.assert_array_equal(found, label // 3)


def test_structures_in_the_world_are_not_painted_on_an_image_without_a_place(tmp_path):
    from tumorseg.storage.formats.stored import Geometry
    from tumorseg.storage.images import read_reference

    with pytest.raises(
        InputError, match="its structures lie in the world, but the image states no orientation and no place"
    ):
        read_reference(["rs.dcm"], Geometry(SHAPE, AFFINE, 1, is_placed=False), {"lesion": 3})
