"""Live: MONAI. It is imported by the tests alone, and they are run with the slow ones, as its import takes longer than they do."""

import warnings
from types import ModuleType

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.ops.metrics.cases import ANISOTROPIC, NUM_PAIRS, pair
from tumorseg.ops.metrics.case import score_mask
from tumorseg.ops.metrics.components import components_of
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.schema.score_rules import ScoreRules

pytestmark = pytest.mark.slow

SURFACES = ScoreRules(metrics=("dsc", "iou", "nsd", "hd95_mm", "hd_mm", "assd_mm", "masd_mm"), tolerance_mm=1.5)
PANOPTIC = ScoreRules(metrics=("panoptic_quality", "segmentation_quality", "recognition_quality"))
RANK_ROUNDING = 1.5e-7
"""Of a rank of border voxels, which MONAI computes in float32: 6e-8 of the product, and less of 0.95."""

pairs = hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=7).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.bool_, shape)] * 2)
)
spacings = st.tuples(*[st.floats(0.3, 6.0)] * 3)


@pytest.fixture(scope="module")
def monai() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import monai.metrics
        import monai.metrics.panoptic_quality
    return monai.metrics


def measured(monai, prediction, reference, spacing, tolerance):
    """Return what MONAI says of two masks; NSD at a hair less and more than the tolerance."""
    import torch

    masks = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference)]
    kept = {"include_background": True}
    placed = kept | {"spacing": spacing}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "dsc": monai.compute_dice(*masks, **kept).item(),
            "iou": monai.compute_iou(*masks, **kept).item(),
            "hd95_mm": monai.compute_hausdorff_distance(*masks, percentile=95, **placed).item(),
            "hd_mm": monai.compute_hausdorff_distance(*masks, **placed).item(),
            "assd_mm": monai.compute_average_surface_distance(*masks, symmetric=True, **placed).item(),
            "there": monai.compute_average_surface_distance(*masks, **placed).item(),
            "back": monai.compute_average_surface_distance(*masks[::-1], **placed).item(),
            # Its distances are float32: one that equals the tolerance may fall on either side.
            "nsd": [
                monai.compute_surface_dice(*masks, [tolerance * factor], **placed).item() for factor in (0.999, 1.001)
            ],
        }


def hd95_within_rounding(masks, spacing):
    """Return HD95 at ranks as far below and above the 95th percentile's as float32 may be off."""
    there, back = MaskPair(*masks, spacing_mm=spacing).distances
    ends = []
    for factor in (1 - RANK_ROUNDING, 1 + RANK_ROUNDING):
        ends.append(max(np.percentile(distances, 95 * factor) for distances in (there, back)))
    return ends


def assert_between(value, ends):
    assert ends[0] * (1 - 1e-6) - 1e-6 <= value <= ends[1] * (1 + 1e-6) + 1e-6


@given(masks=pairs, spacing=spacings, tolerance=st.floats(0.2, 5.0))
@settings(max_examples=25, deadline=None)
def test_overlap_and_surfaces_are_those_of_monai(monai: ModuleType, masks, spacing, tolerance) -> None:
    assume(masks[0].any() and masks[1].any())
    found = score_mask(*masks, spacing_mm=spacing, tolerance_mm=tolerance, rules=SURFACES).scores
    expected = measured(monai, *masks, spacing, tolerance)
    assert_between(found["nsd"], expected.pop("nsd"))
    directed = (expected.pop("there") + expected.pop("back")) / 2
    assert found["masd_mm"] == pytest.approx(directed, rel=1e-6, abs=1e-6)
    assert_between(expected["hd95_mm"], hd95_within_rounding(masks, spacing))
    assert found["hd95_mm"] == pytest.approx(expected.pop("hd95_mm"), rel=2e-5, abs=2e-5)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-6), name


@pytest.mark.parametrize("number", range(NUM_PAIRS))
def test_lesions_of_many_voxels_score_as_in_monai(monai: ModuleType, number: int) -> None:
    masks = pair(number)
    found = score_mask(*masks, spacing_mm=ANISOTROPIC, rules=SURFACES).scores
    expected = measured(monai, *masks, ANISOTROPIC, SURFACES.tolerance_mm)
    assert found["nsd"] == pytest.approx(expected.pop("nsd")[1], abs=1e-6)
    assert_between(expected["hd95_mm"], hd95_within_rounding(masks, ANISOTROPIC))
    assert found["hd95_mm"] == pytest.approx(expected["hd95_mm"], rel=2e-5)
    for name in ("dsc", "iou", "hd_mm", "assd_mm"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6), name


@pytest.mark.parametrize("number", range(NUM_PAIRS))
def test_panoptic_quality_is_that_of_monai(monai: ModuleType, number: int) -> None:
    import torch

    masks = pair(number)
    found = score_mask(*masks, spacing_mm=ANISOTROPIC, rules=PANOPTIC).scores
    parts = [torch.from_numpy(components_of(mask, 26).image()) for mask in masks]
    for name, short in (("panoptic_quality", "pq"), ("segmentation_quality", "sq"), ("recognition_quality", "rq")):
        measure = monai.panoptic_quality.compute_panoptic_quality
        assert found[name] == pytest.approx(measure(*parts, metric_name=short, smooth_numerator=1e-12).item(), abs=1e-6)
