"""Metrics of the distances between two borders."""

import numpy as np

from tumorseg.ops.distances import shell
from tumorseg.ops.metrics.overlap import Scores, ratio
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.types import FloatArray

_ROUNDING = 1e-5
"""A border exactly at the tolerance must not fall outside for the last bits of a root; some distances are float32."""


def surface_scores(pair: MaskPair, *, tolerance_mm: float, with_boundary: bool = True) -> Scores:
    """Return NSD, HD95, HD, ASSD and MASD, and the boundary IoU if asked for.

    Both masks empty: all are undefined. One of them: NSD and boundary IoU are 0, distances undefined.

    Args:
        pair: the masks.
        tolerance_mm: how far a border voxel may be off, and how far the boundary reaches inwards.
        with_boundary: whether the boundary IoU is wanted, which costs a pass over the box.

    References:
        Nikolov et al., Clinically applicable segmentation of head and neck anatomy, JMIR 2021 (NSD); Huttenlocher et al., TPAMI 1993
        (Hausdorff distance); Heimann et al., TMI 2009 (ASSD); Cheng et al., CVPR 2021 (boundary IoU); Maier-Hein et al., Nature Methods 2024.
    """
    if pair.num_empty:
        nothing = None if pair.num_empty == 2 else 0.0
        undefined: Scores = dict.fromkeys(("hd95_mm", "hd_mm", "assd_mm", "masd_mm"))
        return {"nsd": nothing, "boundary_iou": nothing} | undefined
    there, back = pair.distances
    scores: Scores = {
        "nsd": surface_dice(there, back, tolerance_mm=tolerance_mm),
        "hd95_mm": hausdorff_95(there, back),
        "hd_mm": float(max(there.max(), back.max())),
        "assd_mm": (_sum(there) + _sum(back)) / (there.size + back.size),
        "masd_mm": (_sum(there) / there.size + _sum(back) / back.size) / 2,
    }
    if with_boundary:
        scores["boundary_iou"] = boundary_iou(pair, tolerance_mm=tolerance_mm)
    return scores


def _sum(distances: FloatArray) -> float:
    # In float64: a float32 sum of a million distances is off in the fifth digit.
    return float(distances.sum(dtype=np.float64))


def surface_dice(there: FloatArray, back: FloatArray, *, tolerance_mm: float) -> float:
    """Return the share of border voxels of both masks that lie within the tolerance of the other's border.

    Args:
        there: distances (N,) in mm of the prediction's border voxels.
        back: distances (M,) in mm of the reference's border voxels.
        tolerance_mm: the tolerance, itself included.
    """
    limit = _with_rounding(tolerance_mm)
    within = np.count_nonzero(there <= limit) + np.count_nonzero(back <= limit)
    return int(within) / (there.size + back.size)


def hausdorff_95(there: FloatArray, back: FloatArray) -> float:
    """Return the larger of the two directed 95th percentiles, in mm.

    Args:
        there: distances (N,) in mm of the prediction's border voxels.
        back: distances (M,) in mm of the reference's border voxels.
    """
    return max(float(np.percentile(distances, 95)) for distances in (there, back))


def pooled_hausdorff_95(there: FloatArray, back: FloatArray) -> float:
    """Return the 95th percentile of the distances of both directions together, in mm, as MedPy does.

    Args:
        there: distances (N,) in mm of the prediction's border voxels.
        back: distances (M,) in mm of the reference's border voxels.
    """
    return float(np.percentile(np.concatenate((there, back)), 95))


def boundary_iou(pair: MaskPair, *, tolerance_mm: float) -> float | None:
    """Return the intersection over union of those parts of two masks that lie within a distance of their own border.

    Args:
        pair: two masks, neither empty.
        tolerance_mm: how far inwards from its border voxels a part reaches, itself included.
    """
    limit = _with_rounding(tolerance_mm)
    parts = []
    for mask, border in zip((pair.prediction, pair.reference), pair.borders, strict=True):
        parts.append(shell(mask, border, limit, spacing_mm=pair.spacing_mm))
    predicted, reference = parts
    shared = int(np.count_nonzero(predicted & reference))
    return ratio(shared, int(np.count_nonzero(predicted)) + int(np.count_nonzero(reference)) - shared)


def _with_rounding(tolerance_mm: float) -> float:
    return tolerance_mm * (1 + _ROUNDING)
