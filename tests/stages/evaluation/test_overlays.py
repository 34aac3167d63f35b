import nibabel
import numpy as np
import pytest

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, DatasetDescription, ImageFile
from tumorseg.schema.targets import targets_of
from tumorseg.stages.evaluation.case_scoring import ScoreTask, Scoring
from tumorseg.stages.evaluation.overlays import read_shown, shown_images

AFFINE = np.array([[0.8, 0, 0, -3], [0, 1.2, 0, 5], [0, 0, 3, 7], [0, 0, 0, 1.0]])
LABELS = np.zeros((9, 8, 7), np.int16)
LABELS[1:5, 2:4, 3:6] = 1
LABELS[2, 2, 4] = 2


def save(path, array, code):
    """Save what lies in the world as RAS with its axes stored as another code says."""
    image = nibabel.Nifti1Image(array, AFFINE)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(code)
    )
    nibabel.save(image.as_reoriented(turn), path)
    return str(path)


def task_of(folder, *, regions=()):
    labels = {"background": 0, "edema": 1, "core": 2}
    targets = targets_of(DatasetDescription(name="x", channels=("a",), labels=labels, regions=regions))
    files = ((save(folder / "p.nii.gz", LABELS, "SPL"),), (save(folder / "r.nii.gz", LABELS, "LIA"),))
    return ScoreTask("c", *files, Scoring(targets))


@pytest.mark.parametrize("code", ["RAS", "LPS", "IAR"])
def test_image_reference_and_prediction_lie_on_each_other_however_each_is_stored(tmp_path, code):
    image = save(tmp_path / "i.nii.gz", LABELS.astype(np.float32) * 10, code)
    shown = read_shown(task_of(tmp_path), ImageFile(path=image))
    np.testing.assert_array_equal(shown.image, LABELS.T * 10)
    np.testing.assert_array_equal(shown.reference, LABELS.T)
    np.testing.assert_array_equal(shown.prediction, LABELS.T)
    np.testing.assert_allclose(shown.affine, AFFINE)
    assert shown.class_names == ("background", "edema", "core")


def test_of_regions_that_overlap_the_part_is_shown_on_top_of_the_whole(tmp_path):
    regions = ({"name": "core", "labels": (2,), "value": 2}, {"name": "whole", "labels": (1, 2), "value": 1})
    image = save(tmp_path / "i.nii.gz", LABELS.astype(np.float32), "RAS")
    shown = read_shown(task_of(tmp_path, regions=regions), ImageFile(path=image))
    names = np.array(shown.class_names)[shown.reference]
    assert (names[4, 2, 2], names[4, 3, 1]) == ("core", "whole")


def test_an_image_that_lies_elsewhere_is_no_ground_to_draw_on(tmp_path):
    image = save(tmp_path / "i.nii.gz", np.zeros((9, 8, 6), np.float32), "RAS")
    with pytest.raises(InputError, match=r"i\.nii\.gz does not lie on .*r\.nii\.gz"):
        read_shown(task_of(tmp_path), ImageFile(path=image))


def test_cases_are_shown_where_contrast_shows_a_rim_if_that_is_there(tmp_path):
    files = [ImageFile(path=save(tmp_path / f"{number}.nii.gz", LABELS, "RAS")) for number in range(2)]
    cases = [Case(case_id="a", images=files), Case(case_id="b", images=(files[0], ImageFile(path="nowhere")))]
    assert shown_images(cases, ("FLAIR", "t1ce")) == {"a": files[1]}
    assert shown_images(cases, ("t1ce", "FLAIR")) == {"a": files[0], "b": files[0]}
    assert shown_images(cases, ()) == {"a": files[0], "b": files[0]}
