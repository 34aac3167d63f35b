"""Metrics in millilitres."""

import numpy as np

from tumorseg.ops.metrics.components import Components
from tumorseg.ops.metrics.overlap import Scores
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.schema.score_rules import Connectivity
from tumorseg.types import Mask

CONNECTIVITY: Connectivity = 18
"""Of the components of false-positive and false-negative volumes, as in autoPET."""


def volume_error(pair: MaskPair) -> Scores:
    """Return how much larger the prediction is than its reference, in ml."""
    return {"volume_error_ml": (pair.num_predicted - pair.num_reference) * pair.voxel_mm3 / 1000}


def false_volumes(pair: MaskPair) -> Scores:
    """Return the volume in ml of the components of one mask that share no voxel with the other.

    References:
        Gatidis et al., A whole-body FDG-PET/CT dataset, Scientific Data 2022, and the challenge's evaluation.
    """
    predicted, reference = pair.predicted_components(CONNECTIVITY), pair.reference_components(CONNECTIVITY)
    voxel_ml = pair.voxel_mm3 / 1000
    return {
        "false_positive_ml": _untouched(predicted, pair.reference) * voxel_ml,
        "false_negative_ml": _untouched(reference, pair.prediction) * voxel_ml,
    }


def _untouched(parts: Components, other: Mask) -> int:
    """Return the voxels of the parts that share none with another mask."""
    touched = np.zeros(parts.sizes.size, dtype=np.bool_)
    touched[parts.labels[other.reshape(-1)[parts.places]]] = True
    return int(parts.sizes[~touched].sum())
