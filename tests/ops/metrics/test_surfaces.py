import numpy as np
import pytest
from scipy import ndimage

from tests.ops.metrics.cases import ANISOTROPIC, pair
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.ops.metrics.surfaces import boundary_iou, hausdorff_95, pooled_hausdorff_95, surface_dice, surface_scores


def pair_of(prediction, reference, spacing=(1.0, 1.0, 1.0)):
    return MaskPair(prediction, reference, spacing_mm=spacing)


def dots(prediction, reference, shape=(3, 3, 30)):
    """Return masks of single voxels along X."""
    masks = np.zeros((2, *shape), dtype=bool)
    for mask, places in zip(masks, (prediction, reference), strict=True):
        mask[1, 1, places] = True
    return masks


@pytest.mark.parametrize("edge_mm", [0.1, 0.2, 0.5, 1.0])
def test_a_border_exactly_at_the_tolerance_is_within_it(edge_mm: float) -> None:
    masks = dots([5 + round(1 / edge_mm)], [5])
    assert surface_scores(pair_of(*masks, (5.0, 5.0, edge_mm)), tolerance_mm=1.0)["nsd"] == 1.0


def test_average_distances_weigh_border_voxels_or_directions() -> None:
    # From the prediction's voxel at 4 it is 2 voxels to the reference's at 2; back it is 2, 4 and 9 voxels of 0.5 mm.
    found = surface_scores(pair_of(*dots([4], [2, 8, 13]), (2.0, 2.0, 0.5)), tolerance_mm=1.0)
    assert found["assd_mm"] == pytest.approx((1 + 1 + 2 + 4.5) / 4)
    assert found["masd_mm"] == pytest.approx((1 + 7.5 / 3) / 2)
    assert found["hd_mm"] == pytest.approx(4.5)
    assert found["nsd"] == 2 / 4
    # Between the second and the third of three distances, at a rank of 0.95 * 2.
    assert found["hd95_mm"] == pytest.approx(2 + 0.9 * 2.5)


def test_the_95th_percentile_is_of_each_direction_or_of_both_together() -> None:
    there, back = np.arange(101, dtype=np.float32), np.zeros(301, np.float32)
    assert hausdorff_95(there, back) == 95.0
    # Of 402 distances 302 are 0, so that rank 380.95 lies at 78.95 or so of the others.
    assert pooled_hausdorff_95(there, back) == pytest.approx(79.95, abs=1e-4)
    assert surface_dice(there, back, tolerance_mm=10.0) == (11 + 301) / 402


def test_the_boundary_iou_compares_shells() -> None:
    prediction, reference = np.zeros((2, 11, 13, 12), dtype=bool)
    reference[2:9, 2:9, 2:9] = True
    prediction[2:9, 2:9, 2:9] = True
    prediction[4:7, 4:7, 4:7] = False
    # The reference's shell has 7³ - 5³ voxels; the prediction has it, and around its hole the faces, without edges and corners.
    assert boundary_iou(pair_of(prediction, reference), tolerance_mm=0.5) == (343 - 125) / (343 - 125 + 6 * 9)
    assert boundary_iou(pair_of(prediction, reference), tolerance_mm=3.0) == (343 - 27) / 343


def test_the_boundary_reaches_further_across_thin_slices() -> None:
    prediction, reference = np.zeros((2, 11, 15, 15), dtype=bool)
    prediction[1:10, 1:14, 1:14] = reference[1:10, 1:14, 1:14] = True
    prediction[5, 7, 7] = False
    # Of the voxel that is missing, its six face neighbours are border; a slice further are those above and below in the thin slices.
    sides, shell = 9 * 13 * 13, 9 * 13 * 13 - 7 * 11 * 11
    assert boundary_iou(pair_of(prediction, reference, (0.5, 2.0, 2.0)), tolerance_mm=0.4) == shell / (shell + 6)
    deeper = sides - 5 * 11 * 11
    # Those, and the slice neighbours of the four beside it.
    assert boundary_iou(pair_of(prediction, reference, (0.5, 2.0, 2.0)), tolerance_mm=0.5) == deeper / (
        deeper + 6 + 2 + 8
    )


@pytest.mark.parametrize("number", range(3))
def test_percentiles_are_those_of_scipys_distances_between_borders(number: int) -> None:
    masks = pair(number)
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    maps = [ndimage.distance_transform_edt(~border, sampling=ANISOTROPIC) for border in borders]
    expected = max(np.percentile(maps[1][borders[0]], 95), np.percentile(maps[0][borders[1]], 95))
    found = surface_scores(pair_of(*masks, ANISOTROPIC), tolerance_mm=1.0)
    assert found["hd95_mm"] == pytest.approx(expected, rel=1e-6)
