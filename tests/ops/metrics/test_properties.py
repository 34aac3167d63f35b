"""What holds of every pair of masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tumorseg.ops.metrics.case import score_mask
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.score_rules import LesionRules, ScoreRules

SYMMETRIC = [
    "dsc",
    "iou",
    "nsd",
    "hd95_mm",
    "hd_mm",
    "assd_mm",
    "masd_mm",
    "boundary_iou",
    "panoptic_quality",
    "segmentation_quality",
    "recognition_quality",
]
SWAPPED = {"precision": "recall", "false_positive_ml": "false_negative_ml"}
FIRST = tuple(name for name in METRICS if name != "cl_dice")
RULES = ScoreRules(metrics=FIRST, lesions=LesionRules(dilation_steps=1, smallest_mm3=0.0))

masks = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.bool_, shape)] * 2)
)
spacings = st.tuples(*[st.sampled_from([0.5, 0.75, 1.0, 1.5, 3.0])] * 3)


def scores(prediction, reference, spacing, rules=RULES):
    return score_mask(prediction, reference, spacing_mm=spacing, rules=rules).scores


def near(value):
    return None if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)


@given(masks, spacings)
@settings(max_examples=8, deadline=None)
def test_swapping_prediction_and_reference_swaps_what_is_one_sided_and_nothing_else(pair, spacing):
    there, back = scores(*pair, spacing), scores(*pair[::-1], spacing)
    for name in SYMMETRIC:
        assert back[name] == near(there[name]), name
    for name, other in SWAPPED.items():
        assert (back[name], back[other]) == (there[other], there[name]), name
    assert back["volume_error_ml"] == -there["volume_error_ml"]


@given(masks, spacings, st.sampled_from([0.25, 2.0, 4.0]))
@settings(max_examples=8, deadline=None)
def test_a_larger_voxel_scales_distances_and_volumes_and_nothing_else(pair, spacing, factor):
    # Penalties are in mm whatever the voxel, so that the distances of lesions do not scale.
    before = scores(*pair, spacing)
    wider = RULES.changed(tolerance_mm=RULES.tolerance_mm * factor)
    after = scores(*pair, tuple(edge * factor for edge in spacing), wider)
    for name in (name for name in FIRST if name != "lesion_hd95_mm"):
        power = 1 if name.endswith("_mm") else 3 * name.endswith("_ml")
        expected = None if before[name] is None else before[name] * factor**power
        assert after[name] == near(expected), name


@given(masks, spacings, st.tuples(*[st.integers(0, 3)] * 6))
@settings(max_examples=8, deadline=None)
def test_where_the_masks_lie_in_the_image_does_not_matter(pair, spacing, widths):
    # Axes of one voxel stay so: a plane is not a slice of a volume.
    margins = []
    for axis, size in enumerate(pair[0].shape):
        margins.append(widths[2 * axis : 2 * axis + 2] if size > 1 else (0, 0))
    moved = [np.pad(mask, margins) for mask in pair]
    # But for the last bits, as a box of another size may be transformed rather than searched.
    assert scores(*moved, spacing) == {name: near(value) for name, value in scores(*pair, spacing).items()}


@given(masks, spacings)
@settings(max_examples=8, deadline=None)
def test_axes_may_be_stored_in_any_order_and_direction(pair, spacing):
    turned = [mask.transpose(2, 0, 1)[:, ::-1] for mask in pair]
    before, after = scores(*pair, spacing), scores(*turned, (spacing[2], spacing[0], spacing[1]))
    for name, value in before.items():
        assert after[name] == near(value), name


@given(masks, spacings)
@settings(max_examples=8, deadline=None)
def test_shares_lie_between_0_and_1_and_distances_keep_their_order(pair, spacing):
    found = scores(*pair, spacing)
    shares = [found[name] for name, metric in METRICS.items() if metric.is_share and found.get(name) is not None]
    assert all(0 <= share <= 1 for share in shares)
    if found["hd_mm"] is not None:
        assert found["assd_mm"] <= found["hd_mm"] + 1e-6
        assert found["hd95_mm"] <= found["hd_mm"] + 1e-6
        assert found["iou"] == near(found["dsc"] / (2 - found["dsc"]))
    if found["panoptic_quality"] is not None:
        assert found["panoptic_quality"] == near(found["segmentation_quality"] * found["recognition_quality"])
