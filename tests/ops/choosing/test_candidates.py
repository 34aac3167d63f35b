import numpy as np
import pytest

from tumorseg.ops.choosing.candidates import candidate_steps, contacts, nested_neighbours, touching_neighbours
from tumorseg.schema.ensembles import FillHoles, KeepLargest, RemoveSmall, ReplaceSmall

REGIONS = {"WT": ("NCR", "ED", "ET"), "TC": ("NCR", "ET"), "ET": ("ET",)}


def test_in_nested_regions_a_label_becomes_what_the_next_larger_one_adds():
    assert nested_neighbours(REGIONS) == {"ET": "NCR", "NCR": "ED"}
    assert nested_neighbours({"liver": ("liver",), "kidney": ("kidney",)}) == {}
    assert nested_neighbours({"kidney": ("kidney", "cyst"), "cyst": ("cyst",), "liver": ("liver",)}) == {
        "cyst": "kidney"
    }


def test_the_steps_of_regions_are_those_of_unions_and_labels_each_once():
    steps = candidate_steps(REGIONS, nested_neighbours(REGIONS), ladder_mm3=(50, 500))
    assert len(set(steps)) == len(steps) == 3 + 2 * 3 + 3 + 2 * 2
    assert steps[0] == KeepLargest(labels=REGIONS["WT"])
    assert RemoveSmall(labels=("ET",), least_mm3=500) in steps
    assert FillHoles(label="ED") in steps
    assert ReplaceSmall(label="ET", by="NCR", least_mm3=50) in steps


def test_labels_are_offered_with_all_foreground():
    steps = candidate_steps({"anterior": ("anterior",), "posterior": ("posterior",)}, {}, ladder_mm3=())
    largest = [step.labels for step in steps if isinstance(step, KeepLargest)]
    assert largest == [("anterior", "posterior"), ("anterior",), ("posterior",)]


def test_many_labels_are_offered_little():
    groups = {str(number): (str(number),) for number in range(60)}
    assert len(candidate_steps(groups, {"1": "2"})) < 70


def test_contacts_are_shared_faces():
    segmentation = np.zeros((2, 3, 5), dtype=np.uint8)
    segmentation[0, 1, 1:3] = 7
    segmentation[0, 1, 3] = segmentation[1, 1, 1] = 2
    found = contacts(segmentation, (7, 2))
    # Two sevens: one face to 2 along x, one along z; to the background four along y, one along x, one along z.
    assert found.tolist() == [[0, 6, 9 - 1], [6, 0, 2], [9 - 1, 2, 0]]


@pytest.mark.parametrize("shape", [(1, 7, 9), (4, 5, 6)])
def test_contacts_equal_a_count_voxel_by_voxel(shape):
    segmentation = np.random.default_rng(2).integers(0, 4, shape).astype(np.int16)
    segmentation[:, 0] = segmentation[..., -1] = 0
    counted = np.zeros((4, 4), dtype=int)
    for place in np.ndindex(shape):
        for axis in range(3):
            beside = list(place)
            beside[axis] += 1
            if beside[axis] < shape[axis]:
                pair = segmentation[place], segmentation[tuple(beside)]
                counted[pair] += 1
                counted[pair[::-1]] += 1
    np.fill_diagonal(counted, 0)
    np.testing.assert_array_equal(contacts(segmentation, (1, 2, 3)), counted)


def test_a_label_that_touches_another_more_than_background_is_its_neighbours():
    touched = np.array([[0, 9, 1, 50], [9, 0, 5, 0], [1, 5, 0, 3], [50, 0, 3, 0]])
    assert touching_neighbours(touched, ("liver", "tumour", "spleen")) == {"tumour": "liver"}
    assert touching_neighbours(np.zeros((2, 2), np.int64), ("liver",)) == {}
