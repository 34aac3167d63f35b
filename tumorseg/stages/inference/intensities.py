"""Check that the intensities of an image are of the kind that the model was trained on."""

import logging

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.units import ct_doubt
from tumorseg.schema.dataset import Channel
from tumorseg.schema.plan import Plan
from tumorseg.stages.opening.reading import CaseImage
from tumorseg.types import FloatArray

logger = logging.getLogger(__name__)


def check_intensities(plan: Plan, case_id: str, found: CaseImage) -> None:
    """Refuse an empty image, or CT that is not in the unit that was planned; warn of lesser doubts.

    Args:
        plan: the model's.
        case_id: for messages.
        found: (C, Z, Y, X), channels as planned.

    Raises:
        InputError: every channel holds one single value, or CT cannot be in Hounsfield units, though the planned images
            were.
    """
    channels = plan.dataset.channels
    if len(channels) != len(found.image):  # refused by whoever segments it
        return
    covered = found.covered or (None,) * len(channels)
    voxels = []
    for image, inside in zip(found.image, covered, strict=True):
        # What a channel does not cover was filled with a constant, which says nothing of its unit.
        voxels.append(image if inside is None else image[inside])
    absent = () if found.absent is None else found.absent.positions
    present = [number for number in range(len(channels)) if number not in absent]
    constant = [number for number in present if not voxels[number].size or np.ptp(voxels[number]) == 0]
    if len(constant) == len(present):
        raise InputError(
            f"found one single value in every voxel ({found.image.flat[0]:g}), expected an image; restore the file",
            case_id=case_id,
        )
    for number in constant:
        logger.warning(
            "case %s: every voxel of %s is %g, so that nothing is seen in it; is the file the right one?",
            case_id,
            channels[number].name,
            voxels[number].flat[0] if voxels[number].size else 0,
        )
    for number in present:
        if channels[number].kind == "ct" and number not in constant:
            _check_hounsfield(plan, case_id, channels[number], voxels[number])


def _check_hounsfield(plan: Plan, case_id: str, channel: Channel, image: FloatArray) -> None:
    doubt = ct_doubt(image)
    if doubt is None or not doubt.is_impossible:
        return
    fault = f"{channel.name} cannot be in Hounsfield units: {doubt.message}"
    if not _was_hounsfield(plan, channel.name):
        logger.warning(
            "case %s: %s; whether all images of the model's dataset were in Hounsfield units is not known either",
            case_id,
            fault,
        )
        return
    raise InputError(
        f"{fault}; the model was planned for Hounsfield units; give the image as the scanner's slope and intercept make "
        "it, not masked, windowed or cut down to a part without tissue",
        case_id=case_id,
    )


def _was_hounsfield(plan: Plan, channel: str) -> bool:
    """Return whether the planned images were in Hounsfield units; where nobody looked, negative foreground shows it."""
    planned = plan.fingerprint.not_hounsfield
    return plan.fingerprint.intensities[channel].min < 0 if planned is None else channel not in planned
