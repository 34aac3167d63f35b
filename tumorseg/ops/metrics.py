"""Scores of one case: overlap, surface agreement, volume."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.distances import border_distances
from tumorseg.schema.metrics import CaseMetrics
from tumorseg.schema.targets import IGNORE, Targets
from tumorseg.types import FloatArray, Mask, Segmentation, Spacing

TOLERANCE_MM = 1.0
"""Default tolerance of the normalised surface distance."""

_ROUNDING = 1e-5
"""Distances are float32: a border exactly at the tolerance must not fall outside for the last bits of a root."""


class MaskScore(NamedTuple):
    """Scores of one structure; None where a metric is undefined."""

    dsc: float | None
    nsd: float | None
    hd95_mm: float | None
    volume_error_ml: float
    prediction_volume_ml: float
    reference_volume_ml: float


def score_segmentation(
    prediction: Segmentation,
    reference: Segmentation,
    *,
    targets: Targets,
    spacing_mm: Spacing,
    tolerance_mm: float = TOLERANCE_MM,
) -> dict[str, MaskScore]:
    """Score every label or region of one case, one mask at a time.

    Args:
        prediction: class indices (Z, Y, X).
        reference: class indices (Z, Y, X); voxels of `IGNORE` count in neither segmentation.
        targets: what is scored.
        spacing_mm: voxel edge (Z, Y, X).
        tolerance_mm: how far a border may be off and still count for the NSD.

    Returns:
        Scores by `targets.scored_names`.

    Raises:
        InputError: the two differ in shape.
    """
    if prediction.shape != reference.shape:
        raise InputError(
            f"prediction has shape {list(prediction.shape)}, its reference {list(reference.shape)}; they must lie on one voxel grid"
        )
    ignored = reference == IGNORE
    scored = ~ignored if ignored.any() else None
    scores = {}
    for name, classes in zip(targets.scored_names, targets.scored_classes, strict=True):
        predicted = join_classes(prediction, classes)
        if scored is not None:
            predicted &= scored
        scores[name] = score_mask(
            predicted, join_classes(reference, classes), spacing_mm=spacing_mm, tolerance_mm=tolerance_mm
        )
    return scores


def join_classes(segmentation: Segmentation, classes: Sequence[int]) -> Mask:
    """Return the voxels (Z, Y, X), bool, that are of one of some classes."""
    mask: Mask = segmentation == classes[0]
    for index in classes[1:]:
        mask |= segmentation == index
    return mask


def case_metrics(case_id: str, scores: Mapping[str, MaskScore]) -> tuple[CaseMetrics, ...]:
    """Return the records of one case, one per label or region."""
    return tuple(CaseMetrics(case_id=case_id, label=label, **score._asdict()) for label, score in scores.items())


def score_mask(
    prediction: Mask, reference: Mask, *, spacing_mm: Spacing, tolerance_mm: float = TOLERANCE_MM
) -> MaskScore:
    """Score one structure.

    Both masks empty: DSC, NSD and HD95 are None. One empty: DSC and NSD are 0, HD95 is None. The DSC is the ratio of
    voxel counts, so it carries no rounding but that of the one division.

    Args:
        prediction: (Z, Y, X), bool.
        reference: (Z, Y, X), bool.
        spacing_mm: voxel edge (Z, Y, X).
        tolerance_mm: how far a border voxel may be off and still count for the NSD.

    References:
        Dice, Ecology 1945; Nikolov et al., Clinically applicable segmentation of head and neck anatomy, 2021 (NSD);
        Maier-Hein et al., Metrics reloaded, Nature Methods 2024.
    """
    num_predicted, num_reference = int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))
    dsc = nsd = hd95_mm = None
    if num_predicted and num_reference:
        dsc = 2 * int(np.count_nonzero(prediction & reference)) / (num_predicted + num_reference)
        distances = border_distances(prediction, reference, spacing_mm=spacing_mm)
        nsd, hd95_mm = surface_dice(*distances, tolerance_mm=tolerance_mm), hausdorff_95(*distances)
    elif num_predicted or num_reference:
        dsc = nsd = 0.0
    voxel_ml = float(np.prod(np.asarray(spacing_mm, dtype=np.float64))) / 1000
    return MaskScore(
        dsc=dsc,
        nsd=nsd,
        hd95_mm=hd95_mm,
        volume_error_ml=(num_predicted - num_reference) * voxel_ml,
        prediction_volume_ml=num_predicted * voxel_ml,
        reference_volume_ml=num_reference * voxel_ml,
    )


def surface_dice(there: FloatArray, back: FloatArray, *, tolerance_mm: float) -> float:
    """Return the share of border voxels of both masks that lie within the tolerance of the other's border.

    Args:
        there: distances (N,) in mm of the prediction's border voxels.
        back: distances (M,) in mm of the reference's border voxels.
        tolerance_mm: the tolerance, itself included.
    """
    limit = tolerance_mm * (1 + _ROUNDING)
    within = np.count_nonzero(there <= limit) + np.count_nonzero(back <= limit)
    return int(within) / (there.size + back.size)


def hausdorff_95(there: FloatArray, back: FloatArray) -> float:
    """Return the larger of the two directed 95th percentiles, in mm.

    Args:
        there: distances (N,) in mm of the prediction's border voxels.
        back: distances (M,) in mm of the reference's border voxels.
    """
    return max(float(np.percentile(distances, 95)) for distances in (there, back))
