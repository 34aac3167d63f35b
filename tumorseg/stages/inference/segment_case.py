"""One case through a model: an image in, label values on its own grid out."""

import numpy as np

from tumorseg.engine.averaging import NetworkForward
from tumorseg.engine.learner import mixed_precision, step_dtype
from tumorseg.engine.segmentation import OrientedImage, Segmenter, segment
from tumorseg.engine.sliding_window import tiling_of
from tumorseg.errors import InputError
from tumorseg.ops.geometry import orient, restore_orientation
from tumorseg.ops.labels import to_indices
from tumorseg.schema.cases import preprocessing_of, reading_of
from tumorseg.schema.dataset import Case
from tumorseg.schema.targets import num_previous, targets_of
from tumorseg.stages.inference.method import averaged_axes
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import CaseImage, read_previous
from tumorseg.types import Segmentation


def segment_case(
    model: Model, found: CaseImage, *, mirroring: bool | None = None, previous: Segmentation | None = None
) -> Segmentation:
    """Segment the image of a case.

    Args:
        model: the networks and their plan.
        found: channels in the plan's axis order.
        mirroring: whether mirrored views are averaged, along the axes that the plan allows, by a cascade's previous
            model too; as each one's plan says if None.
        previous: class indices in the plan's axis order, for a cascade; what its previous model finds if None.

    Returns:
        Label values (Z, Y, X) in the axis order in which the image was stored.

    Raises:
        InputError: the number of channels is not the plan's, or the logits are not finite.
    """
    expected = len(model.plan.dataset.channels)
    if found.image.shape[0] != expected:
        names = ", ".join(channel.name for channel in model.plan.dataset.channels)
        raise InputError(f"the image has {found.image.shape[0]} channels, the model needs {expected}: {names}")
    if previous is None and model.previous_model is not None:
        # It answers in the order in which the image was stored, and is shown in the plan's.
        values = segment_case(model.previous_model, found, mirroring=mirroring)
        previous = to_indices(orient(values, found.orientation), targets_of(model.plan.dataset))
    # A network without a previous configuration would take the segmentation for one more channel of the image.
    assert (previous is None) == (model.configuration.previous_configuration is None)
    oriented = OrientedImage(found.image, found.spacing_mm, found.covered, previous, found.absent)
    values = segment(oriented, _segmenter(model, mirroring))
    return np.ascontiguousarray(restore_orientation(values, found.orientation))


def read_known_previous(model: Model, case: Case, found: CaseImage) -> Segmentation | None:
    """Read the class indices of a case's previous segmentation; None unless the model is a cascade with files.

    Raises:
        InputError: the file cannot be read, or does not lie on the image's grid.
    """
    file = model.previous_file(case.case_id)
    if file is None:
        return None
    dataset = model.plan.dataset
    return read_previous(case, file, found, targets=targets_of(dataset), reading=reading_of(dataset))


def _segmenter(model: Model, mirroring: bool | None) -> Segmenter:
    configuration, targets = model.configuration, targets_of(model.plan.dataset)
    forward = NetworkForward(
        model.networks,
        averaged_axes(configuration, mirroring),
        configuration.num_axes,
        mixed_precision(model.device, step_dtype(model.device, model.plan.training.precision)),
        model.device,
        keeps_on_device=configuration.inference.accumulate_on == "device",
        num_previous=num_previous(configuration, targets),
    )
    return Segmenter(preprocessing_of(model.plan, configuration), tiling_of(configuration), forward, targets)
