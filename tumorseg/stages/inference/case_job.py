"""One case of a prediction, from its files to its results and their note in the record."""

from collections.abc import Mapping
from typing import NamedTuple

from tumorseg.engine.stopwatch import Stopwatch
from tumorseg.ops.labels import keep_labels
from tumorseg.schema.dataset import Case
from tumorseg.schema.targets import targets_of
from tumorseg.stages.inference.case_inputs import HashedCase, check_inputs, hash_inputs, read_inputs
from tumorseg.stages.inference.case_report import RunEntry, case_entry
from tumorseg.stages.inference.dicom_results import Origin, read_series, write_dicom
from tumorseg.stages.inference.maps import CaseMaps, open_maps
from tumorseg.stages.inference.method import PredictOptions
from tumorseg.stages.inference.outputs import Outputs
from tumorseg.stages.inference.prediction_folder import PredictionFolder
from tumorseg.stages.inference.report_file import run_key
from tumorseg.stages.inference.segment_case import RunOptions, segment_case
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import CaseImage
from tumorseg.storage.atomic import require_writable
from tumorseg.storage.dicom.sources import SourceSeries
from tumorseg.storage.image_writing import check_label_map, write_segmentation
from tumorseg.types import Segmentation


class CaseJob(NamedTuple):
    """What all cases of a run share; several threads use it at once."""

    model: Model
    folder: PredictionFolder
    options: PredictOptions
    """How cases are segmented."""
    outputs: Outputs
    """What is written of each."""
    kept: Mapping[str, int] | None
    """Label values that masks are confined to, by name; None for all."""
    groups: Mapping[str, tuple[int, ...]]
    """Label values of each name that the report tells of."""
    run: RunEntry
    """As the report calls it."""


class _Segmented(NamedTuple):
    """A case that is about to be written."""

    hashed: HashedCase
    found: CaseImage
    segmentation: Segmentation
    """(Z, Y, X), label values in the stored order."""
    maps: CaseMaps
    series: SourceSeries | None
    """That DICOM objects refer to; None where none are written."""


def update_case(job: CaseJob, case: Case) -> bool:
    """Bring the files of a case up to date; return whether there was anything to do.

    Cases share nothing but the folder and the networks, so that reading and writing of some overlap with the network of another.

    Raises:
        InputError: its files cannot be read, are not what the model needs, or changed meanwhile; or a result was edited.
        StorageError: a result cannot be written.
    """
    stopwatch = Stopwatch()
    with stopwatch.part("read"):
        hashed = hash_inputs(job.model, case)
        if job.folder.is_done(case.case_id, hashed.input_hash, job.outputs.names(case.case_id)):
            return False
        found, previous = read_inputs(job.model, hashed.case, job.options)
        series = read_series(hashed.case.images[found.grid], job.outputs)
    if job.outputs.ending is not None:
        check_label_map(job.folder.root / f"{case.case_id}{job.outputs.ending}", found.affine)
    targets = targets_of(job.model.plan.dataset)
    running = RunOptions(job.options.mirroring, with_votes=job.outputs.maps.disagreement, stopwatch=stopwatch)
    if job.outputs.maps.kinds:
        require_writable(job.folder.root)  # maps begin there before anything else is written
    with open_maps(job.outputs.maps, found, targets, root=job.folder.root, case_id=case.case_id) as maps:
        segmentation = segment_case(job.model, found, options=running, previous=previous, observers=maps.observers)
        check_inputs(job.model, hashed)
        if job.kept is not None:
            segmentation = keep_labels(segmentation, job.kept.values())
        _write(job, _Segmented(hashed, found, segmentation, maps, series), stopwatch)
    return True


def _write(job: CaseJob, done: _Segmented, stopwatch: Stopwatch) -> None:
    case_id, input_hash = done.hashed.case.case_id, done.hashed.input_hash
    names = job.outputs.names(case_id)
    job.folder.is_done(case_id, input_hash, names)  # a result that was edited meanwhile is refused
    job.folder.begin(case_id, input_hash, names)
    with stopwatch.part("write"):
        _write_files(job, done)
    with stopwatch.part("report"):
        measured = case_entry(
            done.segmentation, done.found.affine, groups=job.groups, run=run_key(job.run), seconds=stopwatch.seconds
        )
    job.folder.finish(case_id, input_hash, names, measured)


def _write_files(job: CaseJob, done: _Segmented) -> None:
    case, affine = done.hashed.case, done.found.affine
    like, root = case.images[done.found.grid], job.folder.root
    # The mask last: where it lies, whoever reads the folder finds all that belongs to it.
    done.maps.write(like, affine)
    origin = Origin(job.model.plan, (job.run.method_hash, done.hashed.input_hash), job.kept)
    if done.series is not None:
        for name, kind in job.outputs.dicom_names(case.case_id).items():
            write_dicom(root / name, done.segmentation, done.series, kind=kind, made=(origin, job.outputs))
    if job.outputs.ending is not None:
        write_segmentation(root / f"{case.case_id}{job.outputs.ending}", done.segmentation, like=like, affine=affine)
