"""One case into one file that the user names."""

import os
from pathlib import Path

from tumorseg.errors import InputError
from tumorseg.ops.labels import keep_labels
from tumorseg.schema.trust import CaseTrust
from tumorseg.sources.inputs import Inputs
from tumorseg.stages.inference.case_inputs import check_inputs, hash_inputs, read_inputs
from tumorseg.stages.inference.dicom_results import Origin, read_series, write_dicom
from tumorseg.stages.inference.ensembles import Ensemble
from tumorseg.stages.inference.method import PredictOptions
from tumorseg.stages.inference.outputs import AS_USUAL, DICOM_FORMATS, Outputs, check_sources, kept_labels
from tumorseg.stages.inference.predict_cases import Predicted
from tumorseg.stages.inference.provenance import method_of
from tumorseg.stages.inference.segment_case import RunOptions
from tumorseg.stages.inference.segment_ensemble import has_several_voters, segment_ensemble
from tumorseg.stages.inference.trusting import TrustObserver, judge
from tumorseg.stages.opening.loaded import failed_cases
from tumorseg.storage.atomic import require_writable
from tumorseg.storage.image_writing import check_label_map, write_segmentation
from tumorseg.storage.images import ENDINGS
from tumorseg.storage.layout import LABEL_MAP_ENDINGS

DICOM_ENDING = ".dcm"
EXPECTED = f"expected a folder, or for one case a new file that ends in {' or '.join(LABEL_MAP_ENDINGS)}"


def is_one_file(output: Path, outputs: Outputs) -> bool:
    """Return whether a result is to be one file, which must not be there yet, rather than a folder.

    Raises:
        InputError: its name does not go with what is asked for, or something is there already.
    """
    name = output.name.lower()
    is_mask, is_dicom = name.endswith(LABEL_MAP_ENDINGS), name.endswith(DICOM_ENDING)
    if name.endswith(ENDINGS) and not is_mask:
        raise InputError(f"-o {output}: masks are not written in this format; {EXPECTED}; give another name")
    if (is_mask or is_dicom) and output.is_dir():
        raise InputError(
            f"-o {output}: is a folder with the name of a file; {EXPECTED}; rename it, or give another name"
        )
    if os.path.lexists(output) and not output.is_dir():
        raise InputError(f"-o {output}: is there already; {EXPECTED}; move it elsewhere, or give another name")
    if is_mask or is_dicom:
        _check_asked(output, outputs, is_dicom=is_dicom)
    return is_mask or is_dicom


def _check_asked(output: Path, outputs: Outputs, *, is_dicom: bool) -> None:
    """Refuse a file that would hold something else than what is asked for, or less."""
    if outputs.maps.kinds:
        raise InputError(f"-o {output}: is one file, and {outputs.maps.kinds[0]} are others; give a folder")
    if is_dicom and (len(outputs.formats) > 1 or not outputs.dicom):
        raise InputError(
            f"-o {output}: a DICOM file holds one object; give --format {' or '.join(DICOM_FORMATS)} alone"
        )
    fits = output.name.lower().endswith(f".{outputs.formats[0]}") and len(outputs.formats) == 1
    # Nothing was asked for, or what the name says.
    if not is_dicom and not fits and outputs.formats != AS_USUAL.formats:
        raise InputError(
            f"-o {output}: is one file, and --format {', '.join(outputs.formats)} is asked for; leave --format out, or give a folder"
        )


def predict_into_file(
    ensemble: Ensemble, inputs: Inputs, output: Path, *, options: PredictOptions, outputs: Outputs
) -> Predicted:
    """Segment the one case there is into a file.

    Args:
        ensemble: the models; `alone` makes one of a model.
        inputs: of which there must be one.
        output: a file that `is_one_file` allows.
        options: how.
        outputs: what is asked for.

    Raises:
        InputError: there are more cases, what is asked for cannot be made of it, or the file came to be there meanwhile.
        StorageError: it cannot be written.
        TumorsegError: the case is refused.
    """
    names = [case.case_id for case in inputs.cases]
    names += [failure.case_id for failure in inputs.refused]
    if len(names) != 1:
        raise InputError(
            f"-o {output}: is one file, and the inputs are {len(names)} cases ({', '.join(names[:5])}); give one case, "
            "or a folder to -o"
        )
    if inputs.refused:
        raise failed_cases([*inputs.refused], 1, "prediction")
    check_sources(outputs, inputs.cases)
    kept = kept_labels(options.only_labels, ensemble.dataset)
    hashed = hash_inputs(ensemble, inputs.cases[0])
    require_writable(output.parent)
    images = read_inputs(ensemble, hashed.case, options)
    found = images.lead
    like = hashed.case.images[found.grid]
    series = read_series(like, outputs)
    if series is None:
        check_label_map(output, found.affine)
    observer = None if ensemble.trust is None or not ensemble.has_slices else TrustObserver(ensemble.targets, found)
    with_votes = observer is not None and has_several_voters(ensemble, mirroring=options.mirroring)
    running = RunOptions(options.mirroring, with_votes=with_votes, scratch=output.parent)
    observers = () if observer is None else (observer,)
    segmentation = segment_ensemble(ensemble, images, options=running, observers=observers)
    trusts: dict[str, CaseTrust] = {}
    if ensemble.trust is not None:
        trusts[names[0]] = judge(ensemble.trust, found, observer, final=segmentation)
    if kept is not None:
        segmentation = keep_labels(segmentation, kept.values())
    check_inputs(ensemble, hashed)
    is_one_file(output, outputs)  # still not there
    if series is not None:
        method = method_of(ensemble, options._replace(only_labels=tuple(kept or ())))
        origin = Origin(ensemble.name, ensemble.dataset, (method, hashed.input_hash), kept)
        write_dicom(output, segmentation, series, kind=outputs.dicom[0], made=(origin, outputs))
    else:
        write_segmentation(output, segmentation, like=like, affine=found.affine)
    return Predicted(output, {names[0]: output}, all_files={names[0]: (output,)}, trusts=trusts)
