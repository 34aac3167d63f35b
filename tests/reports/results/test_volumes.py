import gzip

import nibabel
import numpy as np
import pytest
from nibabel.orientations import aff2axcodes

from tumorseg.errors import InputError
from tumorseg.reports.results.volumes import ViewerCase, ViewerInput, viewer_case
from tumorseg.types import FloatArray


def decoded(case: ViewerCase, layer: str) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(case.layers[layer]))


def place_of(image: nibabel.Nifti1Image, index: int) -> FloatArray:
    """Return the mean place of a class in the world (3,) mm."""
    voxels = np.argwhere(np.asarray(image.dataobj) == index)
    return (image.affine @ [*voxels.mean(axis=0), 1])[:3]


def expected_place(case: ViewerInput, array: FloatArray, index: int) -> FloatArray:
    voxels = np.argwhere(array == index)[:, ::-1]
    return (case.affine @ [*voxels.mean(axis=0), 1])[:3]


OBLIQUE = np.array([[0.2, -1.1, 0.3, 5], [-0.9, -0.2, 0.1, 40], [0.1, 0.2, -2.1, 60], [0, 0, 0, 1]])
AFFINES = {
    "LPS": np.diag([-1.2, -1.0, 2.2, 1.0]),
    "RAS": np.diag([1.2, 1.0, 2.2, 1.0]),
    "PIR": np.array([[0, 0, 2.2, -9], [-1.2, 0, 0, 40], [0, -1.0, 0, 7], [0, 0, 0, 1.0]]),
    "oblique": OBLIQUE,
}


@pytest.mark.parametrize("name", AFFINES)
def test_structures_stay_where_they_are_in_the_patient(head: ViewerInput, name: str) -> None:
    placed = head._replace(affine=AFFINES[name].astype(float))
    case = viewer_case(placed)
    for layer, array in (("reference", head.reference), ("prediction", head.prediction)):
        assert array is not None
        for index in (1, 2):
            assert place_of(decoded(case, layer), index) == pytest.approx(
                expected_place(placed, array, index), abs=1e-4
            )


def test_image_and_structures_lie_upon_each_other(head: ViewerInput, small_volume: ViewerCase) -> None:
    image, reference = (np.asarray(decoded(small_volume, layer).dataobj) for layer in ("image", "reference"))
    assert image[reference == 2].min() > image[(image > 0) & (reference == 0)].max()
    assert image.dtype == reference.dtype == np.uint8


@pytest.mark.parametrize("name", AFFINES)
def test_files_are_in_ras_order(head: ViewerInput, name: str) -> None:
    image = decoded(viewer_case(head._replace(affine=AFFINES[name].astype(float))), "image")
    assert aff2axcodes(image.affine) == ("R", "A", "S")


def test_edges_of_the_image_that_hold_nothing_are_cut_off(head: ViewerInput, small_volume: ViewerCase) -> None:
    wide = ViewerInput(
        head.case_id,
        np.pad(head.image, 8),
        head.affine,
        *(np.pad(array, 8) for array in (head.reference, head.prediction)),
    )
    assert decoded(viewer_case(wide), "image").shape == decoded(small_volume, "image").shape
    assert small_volume.remark == ""


def beside_a_table(head: ViewerInput) -> ViewerInput:
    """A head with something bright far from its structures."""
    assert head.reference is not None
    assert head.prediction is not None
    beside = ((0, 0), (0, 0), (0, 200))
    image = np.pad(head.image, beside)
    image[:, :, -100:] = 9
    reference, prediction = np.pad(head.reference, beside), np.pad(head.prediction, beside)
    return head._replace(image=image, reference=reference, prediction=prediction)


def test_a_large_volume_is_cut_to_its_structures_and_thinned_out(head: ViewerInput) -> None:
    case = viewer_case(beside_a_table(head), most_voxels=900)
    image = decoded(case, "reference")
    assert np.prod(image.shape) <= 900
    assert case.remark == "cut to the surroundings of the structures, thinned out to 4.8 × 5 × 6.6 mm (x, y, z)"
    assert image.header.get_zooms() == pytest.approx((4.8, 5.0, 6.6))
    expected = expected_place(head, head.reference, 2)  # type: ignore[arg-type]
    assert np.abs(place_of(image, 2) - expected).max() < 2.5


def test_what_is_thinned_out_alone_is_not_said_to_be_cut(head: ViewerInput) -> None:
    # No edge of the head is as far from its structures as what is kept around them.
    assert viewer_case(head, most_voxels=900).remark == "thinned out to 4.8 × 4 × 4.4 mm (x, y, z)"
    without = viewer_case(head._replace(reference=None, prediction=None), most_voxels=900)
    assert without.remark.startswith("thinned out to ")


def test_what_is_cut_alone_is_not_said_to_be_thinned_out(head: ViewerInput) -> None:
    case = viewer_case(beside_a_table(head), most_voxels=100_000)
    assert case.remark == "cut to the surroundings of the structures"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ("background", "1", "2")),
        (("background", "edema"), ("background", "edema", "2")),
        (("background", "edema", "core", "rest"), ("background", "edema", "core", "rest")),
    ],
)
def test_classes_without_a_name_are_called_by_their_number(
    head: ViewerInput, given: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert viewer_case(head._replace(class_names=given)).class_names == expected


def test_the_same_case_gives_the_same_bytes(head: ViewerInput, small_volume: ViewerCase) -> None:
    assert viewer_case(head) == small_volume


def test_an_image_without_values_or_structures_is_shown_whole() -> None:
    blank = np.full((3, 5, 4), np.nan, np.float32)
    case = viewer_case(ViewerInput("blank", blank, np.eye(4)))
    assert decoded(case, "image").shape == (4, 5, 3)
    assert list(case.layers) == ["image"]


def test_what_is_ignored_is_background(head: ViewerInput) -> None:
    assert head.reference is not None
    ignoring = np.where(head.reference == 1, -1, head.reference)
    assert set(np.unique(decoded(viewer_case(head._replace(reference=ignoring)), "reference").dataobj)) == {0, 2}


def test_what_cannot_be_shown_is_refused(head: ViewerInput) -> None:
    assert head.reference is not None
    with pytest.raises(InputError, match=r"case_0003.*255"):
        viewer_case(head._replace(reference=head.reference * 200))
    with pytest.raises(ValueError, match="prediction has shape"):
        viewer_case(head._replace(prediction=head.reference[1:]))
