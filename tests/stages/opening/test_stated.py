import pytest

from tests.stages.opening.test_reading import arrays, save
from tumorseg.cli.stated import stated_of
from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, Dataset, ImageFile
from tumorseg.stages.opening.stated import Stated, with_stated


def dataset():
    case = Case(case_id="c", images=(ImageFile(path="i.nii.gz"),), label="l.nii.gz")
    return Dataset(name="Set", channels=("MR",), labels={"background": 0, "a": 1, "b": 2}, cases=(case,))


def test_what_is_stated_is_read_by_and_nothing_changes_without_it():
    assert with_stated(dataset(), Stated()) == dataset()
    reading = with_stated(dataset(), Stated(assumed_orientation="lps", paint_order=("b", "a"))).reading
    assert (reading.assumed_orientation, reading.paint_order) == ("LPS", ("b", "a"))


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (("a", "c"), "Set has no label c; expected some of a, b"),
        (("background",), "has no label background"),
        (("a", "b", "a"), "names a twice"),
    ],
)
def test_an_order_of_other_names_is_refused_in_the_options_own_words(order, told):
    with pytest.raises(InputError, match=rf"--paint-order.*{told}"):
        with_stated(dataset(), Stated(paint_order=order))


def test_options_become_what_is_stated():
    options = {"assumed_orientation": "RAS", "paint_order": "a,b", "confirm_labels": True, "dataset": "d"}
    assert stated_of(options) == Stated(assumed_orientation="RAS", paint_order=("a", "b"), confirm_labels=True)
    assert options == {"dataset": "d"}


def test_a_label_beyond_the_crop_is_a_finding_with_its_case(tmp_path):
    from tumorseg.stages.datasets.checking.case import CheckTask, check_case

    image, label = arrays()
    image[:, :, :3] = 0
    paths = save(tmp_path / "i.nii.gz", image), save(tmp_path / "l.nii.gz", label)
    case = Case(case_id="c", images=(ImageFile(path=paths[0]),), label=paths[1])
    described = dataset().description().model_copy(update={"labels": {"background": 0, "lesion": 3}})
    found = {one.kind: one for one in check_case(CheckTask(case, described)).findings}
    assert (
        "every channel is 0 around 16 of 24 voxels of lesion, which cropping would take"
        in found["cropped_label"].message
    )
