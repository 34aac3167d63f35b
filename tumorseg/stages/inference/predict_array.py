"""Segment an array."""

from typing import NamedTuple

import numpy as np

from tumorseg.engine.segmentation import SliceResult
from tumorseg.engine.uncertainty import probabilities
from tumorseg.errors import InputError
from tumorseg.ops.geometry import orient, restore_orientation, spacing_of
from tumorseg.ops.preprocessing import axis_order
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.stages.inference.intensities import check_intensities
from tumorseg.stages.inference.segment_case import RunOptions, segment_case
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import CaseImage
from tumorseg.types import Affine, FloatArray, Image, Segmentation


class ArrayProbabilities(NamedTuple):
    """A segmentation, and how certain the model is of it."""

    segmentation: Segmentation
    """Label values (Z, Y, X) on the image's own grid."""
    probabilities: FloatArray
    """(K, Z, Y, X), float32: of each class, the background first, or of each region."""
    names: tuple[str, ...]
    """Of the K classes or regions."""


def predict_array(
    model: Model,
    image: Image,
    affine: Affine,
    *,
    mirroring: bool | None = None,
) -> Segmentation:
    """Segment an array.

    Args:
        model: as from `load_model`.
        image: (C, Z, Y, X), channels in the plan's order.
        affine: (4, 4), voxels (x, y, z) to RAS+ mm.
        mirroring: whether mirrored views are averaged, by a cascade's previous model too; as each one's plan says if
            None.

    Returns:
        Label values (Z, Y, X) on the image's own grid.

    Raises:
        InputError: shape, channels or affine are not what the model needs.
    """
    return segment_case(model, _checked(model, image, affine), options=RunOptions(mirroring))


def predict_array_probabilities(
    model: Model,
    image: Image,
    affine: Affine,
    *,
    mirroring: bool | None = None,
) -> ArrayProbabilities:
    """Segment an array, and tell the probability of every class in every voxel, all of them in memory.

    Args and Raises:
        As for `predict_array`.
    """
    found, targets = _checked(model, image, affine), targets_of(model.plan.dataset)
    oriented = np.zeros((targets.num_outputs, *found.image.shape[1:]), np.float32)
    # What is cropped away is shown to nobody: background.
    oriented[0] = 0.0 if targets.has_regions else 1.0

    def observe(seen: SliceResult) -> None:
        oriented[:, seen.position, seen.window[0], seen.window[1]] = probabilities(seen.logits, targets).cpu().numpy()

    options = RunOptions(mirroring)
    segmentation = segment_case(model, found, options=options, observers=(observe,))
    restored = np.ascontiguousarray(restore_orientation(oriented, found.orientation))
    return ArrayProbabilities(segmentation, restored, _names(targets))


def _names(targets: Targets) -> tuple[str, ...]:
    return targets.region_names or targets.label_names


def _checked(model: Model, image: Image, affine: Affine) -> CaseImage:
    if image.ndim != 4:
        raise InputError(f"the image has {image.ndim} axes; expected (C, Z, Y, X)")
    if not np.isfinite(image).all():
        raise InputError("the image has voxels that are NaN or infinite; expected finite intensities")
    orientation = axis_order(model.plan).orientation(affine)
    oriented = np.ascontiguousarray(orient(image.astype(np.float32), orientation))
    found = CaseImage(oriented, spacing_of(affine, orientation), orientation, affine, image.shape[1:])
    check_intensities(model.plan, "array", found)
    return found
