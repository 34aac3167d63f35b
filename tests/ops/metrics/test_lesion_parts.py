import numpy as np
import pytest

from tumorseg.ops.metrics.case import score_segmentation
from tumorseg.ops.metrics.lesion_parts import Neighbours, lesion_parts, lesions_of
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.schema.score_rules import LesionRules, ScoreRules
from tumorseg.schema.targets import Targets

CUBE = (1.0, 1.0, 1.0)
TARGETS = Targets(label_values=(0, 1, 2), label_names=("background", "core", "rim"), ignore_value=None)


def ring(labels, place):
    """Draw a core of one slice of 2 by 2 voxels between two parts of a rim that do not touch each other."""
    labels[2, 2:4, place : place + 2] = 1
    labels[2, 2:4, place + 2] = labels[2, 2:4, place - 1] = 2


def drawn():
    prediction, reference = np.zeros((2, 6, 7, 40), dtype=np.int16)
    ring(reference, 4)
    reference[2, 2:4, 20:23] = 2
    ring(prediction, 4)
    return prediction, reference


def found_lesions(through):
    rules = LesionRules(dilation_steps=0, smallest_mm3=0.0)
    scoring = ScoreRules(
        metrics=("lesions_found", "lesions_missed", "lesions_invented"),
        lesions=rules,
        label_lesions={"rim": rules.changed(joined_through=through)},
    )
    found = score_segmentation(*drawn(), targets=TARGETS, spacing_mm=CUBE, rules=scoring)
    return tuple(found["rim"].scores.values())


def test_lesions_are_joined_through_a_structure_that_both_touch():
    assert found_lesions(()) == (2.0, 1.0, 0.0)
    assert found_lesions(("core",)) == (1.0, 1.0, 0.0)


def test_a_structure_that_the_case_does_not_have_joins_nothing():
    assert found_lesions(("cyst",)) == found_lesions(())


@pytest.mark.parametrize("gap", [(0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1)])
def test_structures_touch_over_faces_and_edges(gap):
    mask, others = np.zeros((2, 5, 6, 9), dtype=bool)
    others[2, 2, 4] = True
    mask[2, 2, 3] = mask[2 + gap[0], 2 + gap[1], 4 + gap[2]] = True
    # Apart they must be without what joins them: two columns lie between.
    rules = LesionRules(dilation_steps=0, connectivity=6, joined_through=("core",))
    labels = lesions_of(others, rules, is_reference=True, voxel_mm3=1.0)
    pair = MaskPair(mask, mask, spacing_mm=CUBE)
    parts = lesion_parts(pair, rules, [Neighbours(labels, labels)])
    expected = 2 if sum(gap) == 3 else 1
    assert (parts.predicted.num, parts.reference.num) == (expected, expected)


def test_of_several_structures_the_first_joins():
    # Lesions b and c touch the second core, but b touches the first as well, and goes with a.
    lesions, cores = np.zeros((2, 3, 4, 20), dtype=bool)
    lesions[1, 1, [2, 5, 8]] = True
    cores[1, 1, [3, 4, 6, 7]] = True
    rules = LesionRules(dilation_steps=0, joined_through=("core",))
    labels = lesions_of(cores, rules, is_reference=True, voxel_mm3=1.0)
    pair = MaskPair(lesions, lesions, spacing_mm=CUBE)
    found = lesion_parts(pair, rules, [Neighbours(labels, labels)]).reference.labels
    window = found[found > 0]
    assert window[0] == window[1] != window[2]


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_lesions_on_the_box_around_both_masks_are_those_of_the_image(seed, steps):
    # Dilated, they reach beyond the box: what meets there meets inside as well.
    mask = np.zeros((24, 26, 28), dtype=bool)
    mask[9:14, 9:14, 9:14] = np.random.default_rng(seed).random((5, 5, 5)) > 0.93
    rules = LesionRules(dilation_steps=steps)
    whole = lesions_of(mask, rules, is_reference=True, voxel_mm3=1.0)
    found = lesion_parts(MaskPair(mask, mask, spacing_mm=CUBE), rules).reference.labels
    np.testing.assert_array_equal(found[found > 0], whole[whole > 0])
