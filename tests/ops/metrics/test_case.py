import numpy as np
import pytest

from tests.ops.metrics.cases import ANISOTROPIC, ball, label_maps, pair
from tumorseg.errors import InputError
from tumorseg.ops.metrics.case import case_metrics, score_mask, score_segmentation
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.score_rules import LesionRules, ScoreRules
from tumorseg.schema.targets import IGNORE, Targets

LABELS = Targets(label_values=(0, 3, 7), label_names=("background", "edema", "core"), ignore_value=9)
REGIONS = Targets(
    label_values=(0, 1, 2),
    label_names=("background", "edema", "core"),
    ignore_value=None,
    region_names=("WT", "TC"),
    regions=((1, 2), (2,)),
    region_values=(1, 2),
)
CUBE = (1.0, 1.0, 1.0)
EVERY = ScoreRules(metrics=tuple(METRICS))


def scores_of(overlap, hd95_mm, error_ml):
    return {"dsc": overlap, "nsd": overlap, "hd95_mm": hd95_mm, "volume_error_ml": error_ml}


def blank_reference():
    reference = np.zeros((5, 6, 7), dtype=np.int8)
    reference[1:3, 1:4, 1:5] = 1
    reference[3, 2:4, 2:4] = 2
    return reference


def test_a_perfect_segmentation_scores_one_and_no_distance() -> None:
    mask = ball((3, 4, 4), 3.0, (7, 9, 8))
    assert tuple(score_mask(mask, mask, spacing_mm=(2.0, 1.0, 1.0)).scores.values()) == (1.0, 1.0, 0.0, 0.0)
    perfect = {name: 1.0 for name, metric in METRICS.items() if metric.is_share}
    nothing = {name: 0.0 for name in METRICS if name not in perfect} | {"lesions_found": 1.0}
    assert score_mask(mask, mask, spacing_mm=(2.0, 1.0, 1.0), rules=EVERY).scores == perfect | nothing


def test_the_empty_mask_policy_is_that_of_the_design() -> None:
    empty, full = np.zeros((3, 4, 5), dtype=bool), np.ones((3, 4, 5), dtype=bool)
    volume = 60 * 2 / 1000
    assert score_mask(empty, empty, spacing_mm=(2.0, 1.0, 1.0)) == (0.0, 0.0, scores_of(None, None, 0.0))
    assert score_mask(empty, full, spacing_mm=(2.0, 1.0, 1.0)) == (0.0, volume, scores_of(0.0, None, -volume))
    assert score_mask(full, empty, spacing_mm=(2.0, 1.0, 1.0)) == (volume, 0.0, scores_of(0.0, None, volume))


UNDEFINED = dict.fromkeys(METRICS)
VOLUMES = {"volume_error_ml": 0.0, "false_positive_ml": 0.0, "false_negative_ml": 0.0}
COUNTS = {"lesions_found": 0.0, "lesions_missed": 0.0, "lesions_invented": 0.0}
SHARES = {name: 0.0 for name, metric in METRICS.items() if metric.is_share}
DISTANCES = dict.fromkeys(("hd95_mm", "hd_mm", "assd_mm", "masd_mm"))


def test_every_metric_has_a_rule_for_empty_masks() -> None:
    empty, full = np.zeros((5, 4, 5), dtype=bool), np.ones((5, 4, 5), dtype=bool)
    neither = score_mask(empty, empty, spacing_mm=CUBE, rules=EVERY).scores
    # BraTS gives full marks where there is nothing to find.
    assert neither == UNDEFINED | VOLUMES | COUNTS | {"lesion_dsc": 1.0, "lesion_hd95_mm": 0.0}
    missed = score_mask(empty, full, spacing_mm=CUBE, rules=EVERY).scores
    volumes = {"volume_error_ml": -0.1, "false_positive_ml": 0.0, "false_negative_ml": 0.1}
    assert missed == SHARES | DISTANCES | volumes | COUNTS | {"lesion_hd95_mm": 374.0, "lesions_missed": 1.0}
    invented = score_mask(full, empty, spacing_mm=CUBE, rules=EVERY).scores
    volumes = {"volume_error_ml": 0.1, "false_positive_ml": 0.1, "false_negative_ml": 0.0}
    assert invented == SHARES | DISTANCES | volumes | COUNTS | {"lesion_hd95_mm": 374.0, "lesions_invented": 1.0}


def test_a_metric_is_the_same_alone_and_among_all() -> None:
    masks = pair(3)
    among = score_mask(*masks, spacing_mm=ANISOTROPIC, rules=EVERY).scores
    for name in METRICS:
        alone = score_mask(*masks, spacing_mm=ANISOTROPIC, rules=ScoreRules(metrics=(name,)))
        assert alone.scores == {name: among[name]}


def test_scores_stand_in_the_order_that_was_asked_for() -> None:
    mask = ball((3, 4, 4), 3.0, (7, 9, 8))
    rules = ScoreRules(metrics=("iou", "hd_mm", "recall"))
    assert list(score_mask(mask, mask, spacing_mm=CUBE, rules=rules).scores) == ["iou", "hd_mm", "recall"]


def test_a_2d_image_is_scored_in_its_plane() -> None:
    prediction, reference = np.zeros((2, 1, 12, 12), dtype=bool)
    reference[0, 2:10, 2:10] = True
    prediction[0, 3:9, 3:9] = True
    found = score_mask(prediction, reference, spacing_mm=CUBE, tolerance_mm=0.5, rules=EVERY).scores
    assert (found["nsd"], found["hd95_mm"]) == (0.0, pytest.approx(np.sqrt(2), rel=1e-6))
    # The rings of 28 and 20 border voxels share nothing; one lesion is found; the skeleton of a square is its diagonals.
    assert (found["boundary_iou"], found["lesions_found"], found["panoptic_quality"]) == (0.0, 1.0, 36 / 64)
    assert found["cl_dice"] > 0.8


def test_labels_are_scored_by_name_and_one_by_one() -> None:
    reference = blank_reference()
    prediction = np.where(reference == 2, 0, reference)
    found = score_segmentation(prediction, reference, targets=LABELS, spacing_mm=CUBE)
    assert list(found) == ["edema", "core"]
    assert found["edema"].scores["dsc"] == 1.0
    assert (found["core"].scores["dsc"], found["core"].scores["hd95_mm"]) == (0.0, None)


def test_regions_join_their_labels() -> None:
    reference = np.zeros((5, 6, 7), dtype=np.int16)
    reference[1:4, 1:5, 1:5] = 1
    reference[2, 2:4, 2:4] = 2
    prediction = (reference > 0).astype(np.int16)
    found = score_segmentation(prediction, reference, targets=REGIONS, spacing_mm=CUBE)
    assert (found["WT"].scores["dsc"], found["TC"].scores["dsc"]) == (1.0, 0.0)


def test_a_prediction_may_have_class_indices_of_its_own() -> None:
    reference = blank_reference()
    prediction = np.select([reference == 1, reference == 2], [2, 3])
    predicted = Targets(
        label_values=(0, 1, 2, 3), label_names=("background", "cyst", "edema", "core"), ignore_value=None
    )
    predicted = predicted.changed(region_names=("core", "edema"), regions=((3,), (1, 2)), region_values=(3, 2))
    found = score_segmentation(prediction, reference, targets=LABELS, predicted=predicted, spacing_mm=CUBE)
    assert [(name, score.scores["dsc"]) for name, score in found.items()] == [("edema", 1.0), ("core", 1.0)]


def test_a_prediction_without_a_scored_name_is_refused() -> None:
    reference = blank_reference()
    other = Targets(label_values=(0, 1), label_names=("background", "edema"), ignore_value=None)
    with pytest.raises(InputError, match=r"the prediction has no 'core'; expected all of \['edema', 'core'\]"):
        score_segmentation(reference, reference, targets=LABELS, predicted=other, spacing_mm=CUBE)


def test_ignored_voxels_count_in_neither_segmentation() -> None:
    reference = np.zeros((4, 6, 6), dtype=np.int16)
    reference[1:3, 1:4, 1:4] = 1
    reference[:, :, 4:] = IGNORE
    prediction = np.where(reference == IGNORE, 1, reference)
    found = score_segmentation(prediction, reference, targets=LABELS, spacing_mm=CUBE)
    assert (found["edema"].scores["dsc"], found["edema"].scores["volume_error_ml"]) == (1.0, 0.0)
    assert (prediction == 1).sum() == 18 + 48, "the caller's array is left alone"


def test_labels_may_have_tolerances_and_lesions_of_their_own() -> None:
    reference, prediction = np.zeros((2, 5, 9, 30), dtype=np.int8)
    reference[2, 2, 4], prediction[2, 2, 6] = 1, 1
    reference[2, 6, 4], prediction[2, 6, 6] = 2, 2
    rules = ScoreRules(
        metrics=("nsd", "lesions_found", "lesions_missed"),
        tolerances_mm={"core": 2.0},
        label_lesions={"core": LesionRules(smallest_mm3=0)},
    )
    found = score_segmentation(prediction, reference, targets=LABELS, spacing_mm=CUBE, rules=rules)
    assert [tuple(score.scores.values()) for score in found.values()] == [(0.0, 0.0, 0.0), (1.0, 1.0, 0.0)]


def test_scores_of_a_case_are_those_of_its_masks_on_the_whole_image() -> None:
    prediction, reference = label_maps(0)
    targets = Targets(
        label_values=tuple(range(5)), label_names=("background", "NETC", "SNFH", "ET", "RC"), ignore_value=None
    )
    found = score_segmentation(prediction, reference, targets=targets, spacing_mm=ANISOTROPIC, rules=EVERY)
    for index, name in enumerate(targets.scored_names, start=1):
        masks = prediction == index, reference == index
        assert found[name] == score_mask(*masks, spacing_mm=ANISOTROPIC, rules=EVERY), name


def test_segmentations_on_different_grids_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \[1, 2, 3\], its reference \[3, 2, 1\]"):
        score_segmentation(
            np.zeros((1, 2, 3), dtype=np.int8), np.zeros((3, 2, 1), dtype=np.int8), targets=LABELS, spacing_mm=CUBE
        )


def test_scores_become_one_record_per_name() -> None:
    reference = np.zeros((3, 4, 5), dtype=np.int8)
    records = case_metrics("case_1", score_segmentation(reference, reference, targets=LABELS, spacing_mm=(1, 1, 1)))
    assert [(r.case_id, r.label, r.is_undefined) for r in records] == [
        ("case_1", "edema", True),
        ("case_1", "core", True),
    ]
