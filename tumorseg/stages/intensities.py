"""Whether an image that is to be segmented has intensities of the kind that the model was trained on."""

import logging

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.units import ct_doubt
from tumorseg.schema.dataset import Channel
from tumorseg.schema.plan import Plan
from tumorseg.stages.reading import CaseImage
from tumorseg.types import FloatArray

logger = logging.getLogger(__name__)


def check_intensities(plan: Plan, case_id: str, found: CaseImage) -> None:
    """Refuse an image in which there is nothing to see, or whose CT is not in the unit that was planned; warn of lesser doubts.

    Args:
        plan: the model's.
        case_id: for messages.
        found: (C, Z, Y, X), channels as planned.

    Raises:
        InputError: every channel holds one single value, or CT cannot be in Hounsfield units, though the planned images were.
    """
    channels = plan.dataset.channels
    if len(channels) != len(found.image):  # refused by whoever segments it
        return
    constant = [number for number in range(len(channels)) if np.ptp(found.image[number]) == 0]
    if len(constant) == len(channels):
        raise InputError(
            f"case {case_id}: found one single value in every voxel ({found.image.flat[0]:g}), expected an image; restore the file"
        )
    for number in constant:
        logger.warning(
            "case %s: every voxel of %s is %g, so that nothing is seen in it; is the file the right one?",
            case_id,
            channels[number].name,
            found.image[number].flat[0],
        )
    covered = found.covered or (None,) * len(channels)
    for number, (channel, inside) in enumerate(zip(channels, covered, strict=True)):
        if channel.kind == "ct" and number not in constant:
            image = found.image[number]
            _check_hounsfield(plan, case_id, channel, image if inside is None else image[inside])


def _check_hounsfield(plan: Plan, case_id: str, channel: Channel, image: FloatArray) -> None:
    doubt = ct_doubt(image)
    if doubt is None or not doubt.is_impossible:
        return
    fault = f"case {case_id}: {channel.name} cannot be in Hounsfield units: {doubt.message}"
    if plan.fingerprint.not_hounsfield.get(channel.name):
        logger.warning("%s; some of the planned images were so too", fault)
        return
    raise InputError(
        f"{fault}; the model was planned for Hounsfield units; apply the scanner's rescale slope and intercept, then predict again"
    )
