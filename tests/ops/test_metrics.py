import warnings

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tumorseg.errors import InputError
from tumorseg.ops.metrics import case_metrics, score_mask, score_segmentation
from tumorseg.schema.targets import IGNORE, Targets

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

LABELS = Targets(label_values=(0, 3, 7), label_names=("background", "edema", "core"), ignore_value=9)
REGIONS = Targets(
    label_values=(0, 1, 2),
    label_names=("background", "edema", "core"),
    ignore_value=None,
    region_names=("WT", "TC"),
    regions=((1, 2), (2,)),
    region_values=(1, 2),
)

pairs = hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=7).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.bool_, shape)] * 2)
)
spacings = st.tuples(*[st.floats(0.3, 6.0)] * 3)


def blob(shape: tuple[int, ...], *, centre: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.indices(shape) - np.reshape(centre, (-1, 1, 1, 1))
    return np.sqrt((grid**2).sum(axis=0)) <= radius


@given(pairs, spacings, st.floats(0.2, 5.0))
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_monai(pair: tuple[np.ndarray, ...], spacing: tuple[float, ...], tolerance: float) -> None:
    prediction, reference = pair
    assume(prediction.any() and reference.any())
    found = score_mask(prediction, reference, spacing_mm=spacing, tolerance_mm=tolerance)
    p, r = (torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dsc = compute_dice(p, r, include_background=True).item()
        least, most = (
            compute_surface_dice(p, r, [tolerance * factor], include_background=True, spacing=spacing).item()
            for factor in (
                0.999,
                1.001,
            )  # its distances are float32: one that equals the tolerance may fall on either side
        )
        hd95 = compute_hausdorff_distance(p, r, include_background=True, percentile=95, spacing=spacing).item()
    assert found.dsc == pytest.approx(dsc, abs=1e-6)
    assert found.hd95_mm == pytest.approx(hd95, rel=1e-4)
    assert least - 1e-6 <= found.nsd <= most + 1e-6


def test_overlap_and_volumes_are_those_of_simpleitk() -> None:
    prediction = blob((9, 17, 15), centre=(4, 8, 7), radius=4.0)
    reference = blob((9, 17, 15), centre=(5, 7, 6), radius=3.5)
    images = [SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (prediction, reference)]
    oracle = SimpleITK.LabelOverlapMeasuresImageFilter()
    oracle.Execute(*images)
    found = score_mask(prediction, reference, spacing_mm=(3.0, 0.5, 0.7))
    assert found.dsc == pytest.approx(oracle.GetDiceCoefficient(1), abs=1e-12)
    assert found.volume_error_ml == pytest.approx((prediction.sum() - reference.sum()) * 3.0 * 0.5 * 0.7 / 1000)
    assert found.prediction_volume_ml - found.reference_volume_ml == pytest.approx(found.volume_error_ml)


def test_a_perfect_segmentation_scores_one_and_no_distance() -> None:
    mask = blob((7, 9, 8), centre=(3, 4, 4), radius=3.0)
    assert score_mask(mask, mask, spacing_mm=(2.0, 1.0, 1.0))[:4] == (1.0, 1.0, 0.0, 0.0)


def test_the_empty_mask_policy_is_that_of_the_design() -> None:
    empty, full = np.zeros((3, 4, 5), dtype=bool), np.ones((3, 4, 5), dtype=bool)
    volume = 60 * 2 / 1000
    assert score_mask(empty, empty, spacing_mm=(2.0, 1.0, 1.0)) == (None, None, None, 0.0, 0.0, 0.0)
    assert score_mask(empty, full, spacing_mm=(2.0, 1.0, 1.0)) == (0.0, 0.0, None, -volume, 0.0, volume)
    assert score_mask(full, empty, spacing_mm=(2.0, 1.0, 1.0)) == (0.0, 0.0, None, volume, volume, 0.0)


@pytest.mark.parametrize("edge_mm", [0.1, 0.2, 0.5, 1.0])
def test_a_border_exactly_at_the_tolerance_is_within_it(edge_mm: float) -> None:
    prediction, reference = np.zeros((2, 3, 3, 30), dtype=bool)
    reference[1, 1, 5] = prediction[1, 1, 5 + round(1 / edge_mm)] = True
    assert score_mask(prediction, reference, spacing_mm=(5.0, 5.0, edge_mm), tolerance_mm=1.0).nsd == 1.0


def test_a_2d_image_is_scored_in_its_plane() -> None:
    prediction, reference = np.zeros((2, 1, 12, 12), dtype=bool)
    reference[0, 2:10, 2:10] = True
    prediction[0, 3:9, 3:9] = True
    found = score_mask(prediction, reference, spacing_mm=(1.0, 1.0, 1.0), tolerance_mm=0.5)
    assert (found.nsd, found.hd95_mm) == (0.0, pytest.approx(np.sqrt(2), rel=1e-6))


def test_labels_are_scored_by_name_and_one_by_one() -> None:
    reference = np.zeros((5, 6, 7), dtype=np.int8)
    reference[1:3, 1:4, 1:5] = 1
    reference[3, 2:4, 2:4] = 2
    prediction = np.where(reference == 2, 0, reference)
    found = score_segmentation(prediction, reference, targets=LABELS, spacing_mm=(1.0, 1.0, 1.0))
    assert list(found) == ["edema", "core"]
    assert (found["edema"].dsc, found["core"].dsc, found["core"].hd95_mm) == (1.0, 0.0, None)


def test_regions_join_their_labels() -> None:
    reference = np.zeros((5, 6, 7), dtype=np.int16)
    reference[1:4, 1:5, 1:5] = 1
    reference[2, 2:4, 2:4] = 2
    prediction = (reference > 0).astype(np.int16)
    found = score_segmentation(prediction, reference, targets=REGIONS, spacing_mm=(1.0, 1.0, 1.0))
    assert (found["WT"].dsc, found["TC"].dsc) == (1.0, 0.0)


def test_ignored_voxels_count_in_neither_segmentation() -> None:
    reference = np.zeros((4, 6, 6), dtype=np.int16)
    reference[1:3, 1:4, 1:4] = 1
    reference[:, :, 4:] = IGNORE
    prediction = np.where(reference == IGNORE, 1, reference)
    found = score_segmentation(prediction, reference, targets=LABELS, spacing_mm=(1.0, 1.0, 1.0))
    assert (found["edema"].dsc, found["edema"].volume_error_ml) == (1.0, 0.0)
    assert (prediction == 1).sum() == 18 + 48, "the caller's array is left alone"


def test_segmentations_on_different_grids_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \[1, 2, 3\], its reference \[3, 2, 1\]"):
        score_segmentation(
            np.zeros((1, 2, 3), dtype=np.int8),
            np.zeros((3, 2, 1), dtype=np.int8),
            targets=LABELS,
            spacing_mm=(1.0, 1.0, 1.0),
        )


def test_scores_become_one_record_per_name() -> None:
    reference = np.zeros((3, 4, 5), dtype=np.int8)
    records = case_metrics("case_1", score_segmentation(reference, reference, targets=LABELS, spacing_mm=(1, 1, 1)))
    assert [(r.case_id, r.label, r.is_undefined) for r in records] == [
        ("case_1", "edema", True),
        ("case_1", "core", True),
    ]
