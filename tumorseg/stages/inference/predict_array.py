"""Segment an array."""

from typing import NamedTuple

import numpy as np

from tumorseg.engine.segmentation import SliceResult
from tumorseg.engine.uncertainty import probabilities
from tumorseg.errors import InputError
from tumorseg.ops.geometry import AxisOrder, orient, restore_orientation, spacing_of
from tumorseg.ops.preprocessing import axis_order
from tumorseg.schema.targets import Targets
from tumorseg.stages.inference.ensembles import Ensemble, as_ensemble
from tumorseg.stages.inference.intensities import check_intensities
from tumorseg.stages.inference.segment_case import RunOptions
from tumorseg.stages.inference.segment_ensemble import CaseImages, segment_ensemble
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import CaseImage, reoriented
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
    model: Model | Ensemble,
    image: Image,
    affine: Affine,
    *,
    mirroring: bool | None = None,
) -> Segmentation:
    """Segment an array.

    Args:
        model: as from `load_model`, or an ensemble as from `load_ensemble`.
        image: (C, Z, Y, X), channels in the plan's order; of an ensemble those of its first member, then what only others see.
        affine: (4, 4), voxels (x, y, z) to RAS+ mm.
        mirroring: whether mirrored views are averaged, by a cascade's previous model too; as each one's plan says if
            None.

    Returns:
        Label values (Z, Y, X) on the image's own grid.

    Raises:
        InputError: shape, channels or affine are not what the model needs.
    """
    ensemble = as_ensemble(model)
    return segment_ensemble(ensemble, _checked(ensemble, image, affine), options=RunOptions(mirroring))


def predict_array_probabilities(
    model: Model | Ensemble,
    image: Image,
    affine: Affine,
    *,
    mirroring: bool | None = None,
) -> ArrayProbabilities:
    """Segment an array, and tell the probability of every class in every voxel, all of them in memory.

    Args and Raises:
        As for `predict_array`.
    """
    ensemble = as_ensemble(model)
    images, targets = _checked(ensemble, image, affine), ensemble.targets
    found = images.lead
    oriented = np.zeros((targets.num_outputs, *found.image.shape[1:]), np.float32)
    # What is cropped away is shown to nobody: background.
    oriented[0] = 0.0 if targets.has_regions else 1.0

    def observe(seen: SliceResult) -> None:
        oriented[:, seen.position, seen.window[0], seen.window[1]] = probabilities(seen.logits, targets).cpu().numpy()

    options = RunOptions(mirroring)
    segmentation = segment_ensemble(ensemble, images, options=options, observers=(observe,))
    restored = np.ascontiguousarray(restore_orientation(oriented, found.orientation))
    return ArrayProbabilities(segmentation, restored, _names(targets))


def _names(targets: Targets) -> tuple[str, ...]:
    return targets.region_names or targets.label_names


def _checked(ensemble: Ensemble, image: Image, affine: Affine) -> CaseImages:
    if image.ndim != 4:
        raise InputError(f"the image has {image.ndim} axes; expected (C, Z, Y, X)")
    if not np.isfinite(image).all():
        raise InputError("the image has voxels that are NaN or infinite; expected finite intensities")
    channels = ensemble.dataset.channels
    if len(image) != len(channels):
        names = ", ".join(channel.name for channel in channels)
        raise InputError(f"the image has {len(image)} channels, the model needs {len(channels)}: {names}")
    found = _seen_by_all(ensemble, image, affine)
    return CaseImages(found, (None,) * len(found))


def _seen_by_all(ensemble: Ensemble, image: Image, affine: Affine) -> tuple[CaseImage, ...]:
    """Return an array as each member sees it; those that see the same channels share the voxels, and what is told of them is told once."""
    known: dict[tuple[int, ...], CaseImage] = {}
    judged: list[tuple[object, ...]] = []
    found: list[CaseImage] = []
    for member in ensemble.members:
        positions, order = ensemble.positions(member), axis_order(member.plan)
        if positions not in known:
            known[positions] = _turned(image[list(positions)], affine, order)
        found.append(reoriented(known[positions], order))
        expected = (positions, member.plan.fingerprint.not_hounsfield)
        if expected not in judged:
            judged.append(expected)
            check_intensities(member.plan, "array", found[-1])
    return tuple(found)


def _turned(channels: Image, affine: Affine, order: AxisOrder) -> CaseImage:
    orientation = order.orientation(affine)
    oriented = np.ascontiguousarray(orient(channels.astype(np.float32), orientation))
    return CaseImage(oriented, spacing_of(affine, orientation), orientation, affine, channels.shape[1:])
