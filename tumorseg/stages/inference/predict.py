"""Segment cases, or an array, with a trained model, each result in its input's own geometry."""

import os
from pathlib import Path

import numpy as np

from tumorseg.errors import InputError, StorageError
from tumorseg.ops.geometry import orient, spacing_of
from tumorseg.ops.preprocessing import axis_order
from tumorseg.schema.base import Record
from tumorseg.sources.inputs import Inputs, open_inputs
from tumorseg.stages.inference.case_inputs import check_inputs, hash_inputs, read_inputs
from tumorseg.stages.inference.intensities import check_intensities
from tumorseg.stages.inference.method import PredictOptions
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.predict_cases import Predicted, predict_cases
from tumorseg.stages.inference.segment_case import segment_case
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.loaded import failed_cases
from tumorseg.stages.opening.reading import CaseImage
from tumorseg.stages.opening.stated import Stated
from tumorseg.storage.atomic import require_writable
from tumorseg.storage.formats.stored import NIFTI_ENDINGS
from tumorseg.storage.images import ENDINGS, write_segmentation
from tumorseg.storage.locks import hold_folder
from tumorseg.types import Affine, Image, Segmentation


class PredictRequest(Record):
    """Options of `predict`."""

    models: tuple[Path, ...]
    """Model folders or folds' folders, all of one model."""
    inputs: tuple[Path, ...]
    """Files, folders of cases in any layout, or manifests."""
    output: Path
    """Folder for `<case_id>.nii.gz`; or, for one case, a file that ends in .nii.gz or .nii."""
    folds: tuple[str, ...] = ()
    """Folds of a model folder; all if empty."""
    mirroring: bool | None = None
    """Whether mirrored views are averaged; as the plan says if None."""
    device: str | None = None
    """The best there is if None."""
    stated: Stated = Stated()
    """What is stated of files that leave it open; as the plan says if nothing."""


def predict(request: PredictRequest) -> Predicted:
    """Segment every case, but those whose files were already segmented in the same way.

    Raises:
        InputError: inputs are not there or have other channels than the model's, or a result would take the place of
            another file.
        PlanError: no such model.
        StorageError: another process writes into the folder now.
        TumorsegError: cases failed; all are listed, and the others are written.
    """
    options = PredictOptions(request.mirroring, request.stated.assumed_orientation)
    if _is_file(request.output):
        return _predict_into_file(*_open(request), request.output, options=options)
    # Resolved, so that two links to one folder mean one lock.
    with hold_folder(request.output.resolve(), doing="written to", error=StorageError):
        model, inputs = _open(request)
        made = predict_cases(model, inputs.cases, request.output, options=options)
    if failures := [*inputs.refused, *made.failures]:
        raise failed_cases(failures, len(inputs.cases) + len(inputs.refused), "prediction")
    return made


def _is_file(output: Path) -> bool:
    """Return whether a result is to be one file, which must not be there yet, rather than a folder."""
    expected = f"expected a folder, or for one case a new file that ends in {' or '.join(NIFTI_ENDINGS)}"
    name = output.name.lower()
    is_image, is_mask = name.endswith(ENDINGS), name.endswith(NIFTI_ENDINGS)
    if is_image and not is_mask:
        raise InputError(f"-o {output}: masks are written as NIfTI; {expected}; give another name")
    if is_mask and output.is_dir():
        raise InputError(
            f"-o {output}: is a folder with the name of a file; {expected}; rename it, or give another name"
        )
    if os.path.lexists(output) and not output.is_dir():
        raise InputError(f"-o {output}: is there already; {expected}; move it elsewhere, or give another name")
    return is_mask


def _open(request: PredictRequest) -> tuple[Model, Inputs]:
    model = load_model(request.models, choose_device(request.device), request.folds)
    channels = model.plan.dataset.channels
    names = [channel.name for channel in channels]
    kinds = [channel.kind for channel in channels]
    return model, open_inputs(request.inputs, names, kinds, allow_outside=request.stated.allow_outside)


def _predict_into_file(model: Model, inputs: Inputs, output: Path, *, options: PredictOptions) -> Predicted:
    names = [case.case_id for case in inputs.cases]
    names += [failure.case_id for failure in inputs.refused]
    if len(names) != 1:
        raise InputError(
            f"-o {output}: is one file, and the inputs are {len(names)} cases ({', '.join(names[:5])}); give one case, "
            "or a folder to -o"
        )
    if inputs.refused:
        raise failed_cases([*inputs.refused], 1, "prediction")
    hashed = hash_inputs(model, inputs.cases[0])
    require_writable(output.parent)
    found, previous = read_inputs(model, hashed.case, options)
    segmentation = segment_case(model, found, mirroring=options.mirroring, previous=previous)
    check_inputs(model, hashed)
    _is_file(output)  # still not there
    write_segmentation(output, segmentation, like=hashed.case.images[found.grid], affine=found.affine)
    return Predicted(output, {hashed.case.case_id: output})


def predict_array(model: Model, image: Image, affine: Affine, *, mirroring: bool | None = None) -> Segmentation:
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
    if image.ndim != 4:
        raise InputError(f"the image has {image.ndim} axes; expected (C, Z, Y, X)")
    if not np.isfinite(image).all():
        raise InputError("the image has voxels that are NaN or infinite; expected finite intensities")
    orientation = axis_order(model.plan).orientation(affine)
    oriented = np.ascontiguousarray(orient(image.astype(np.float32), orientation))
    found = CaseImage(oriented, spacing_of(affine, orientation), orientation, affine, image.shape[1:])
    check_intensities(model.plan, "array", found)
    return segment_case(model, found, mirroring=mirroring)
