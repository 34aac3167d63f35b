"""One case of a prediction, from its files to its results and their note in the record."""

from collections.abc import Mapping
from typing import NamedTuple

from tumorseg.engine.segmentation import Observer
from tumorseg.engine.stopwatch import Stopwatch
from tumorseg.ops.labels import keep_labels
from tumorseg.schema.dataset import Case
from tumorseg.schema.trust import CaseTrust
from tumorseg.stages.inference.case_inputs import HashedCase, check_inputs, hash_inputs, read_inputs
from tumorseg.stages.inference.case_report import RunEntry, case_entry
from tumorseg.stages.inference.dicom_results import Origin, read_series, write_dicom
from tumorseg.stages.inference.ensembles import Ensemble
from tumorseg.stages.inference.maps import CaseMaps, open_maps
from tumorseg.stages.inference.method import PredictOptions
from tumorseg.stages.inference.outputs import Outputs
from tumorseg.stages.inference.prediction_folder import PredictionFolder
from tumorseg.stages.inference.report_file import run_key
from tumorseg.stages.inference.segment_case import RunOptions
from tumorseg.stages.inference.segment_ensemble import has_several_voters, prepare_run
from tumorseg.stages.inference.trusting import TrustObserver, judge
from tumorseg.stages.opening.reading import CaseImage
from tumorseg.storage.atomic import require_writable
from tumorseg.storage.dicom.sources import SourceSeries
from tumorseg.storage.image_writing import check_label_map, write_segmentation
from tumorseg.types import Segmentation
from tumorseg.workers.pages import return_freed_pages


class CaseJob(NamedTuple):
    """What all cases of a run share; several threads use it at once."""

    ensemble: Ensemble
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
    trust: CaseTrust | None
    """How far it is to be trusted; None where nobody asks."""


def update_case(job: CaseJob, case: Case) -> bool:
    """Bring the files of a case up to date; return whether there was anything to do.

    Cases share nothing but the folder and the networks, so that reading and writing of some overlap with the network of another.

    Raises:
        InputError: its files cannot be read, are not what the model needs, or changed meanwhile; or a result was edited.
        StorageError: a result cannot be written.
    """
    stopwatch = Stopwatch()
    with stopwatch.part("read"):
        hashed = hash_inputs(job.ensemble, case)
        if job.folder.is_done(case.case_id, hashed.input_hash, job.outputs.names(case.case_id)):
            return False
        images = read_inputs(job.ensemble, hashed.case, job.options)
        found = images.lead
        series = read_series(hashed.case.images[found.grid], job.outputs)
    if job.outputs.ending is not None:
        check_label_map(job.folder.root / f"{case.case_id}{job.outputs.ending}", found.affine)
    observer = _observer(job, found)
    running = RunOptions(
        job.options.mirroring,
        with_votes=asks_for_votes(job.ensemble, job.outputs, job.options),
        stopwatch=stopwatch,
        scratch=job.folder.root,
    )
    if job.outputs.maps.kinds or len(job.ensemble.members) > 1:
        require_writable(job.folder.root)  # what is made meanwhile begins there before anything else is written
    run = prepare_run(job.ensemble, images, options=running)
    if job.ensemble.trust is None:
        # Whoever judges looks at the image once more; else what is prepared of it is enough.
        num_bytes, found = found.image.nbytes, found.without_voxels()
        del images
        return_freed_pages(num_bytes)
    targets = job.ensemble.targets
    with open_maps(job.outputs.maps, found, targets, root=job.folder.root, case_id=case.case_id) as maps:
        observers: list[Observer] = [*maps.observers]
        if observer is not None:
            observers.append(observer)
        segmentation = run(observers)
        check_inputs(job.ensemble, hashed)
        trust = None
        if job.ensemble.trust is not None:
            with stopwatch.part("judge"):
                trust = judge(job.ensemble.trust, found, observer, final=segmentation)
        if job.kept is not None:
            segmentation = keep_labels(segmentation, job.kept.values())
        _write(job, _Segmented(hashed, found, segmentation, maps, series, trust), stopwatch)
    return True


def asks_for_votes(ensemble: Ensemble, outputs: Outputs, options: PredictOptions) -> bool:
    """Return whether it is asked what each model, fold and view decides by itself, by a map or to judge how far a case is to be trusted."""
    is_judged = ensemble.trust is not None and ensemble.has_slices
    return (outputs.maps.disagreement or is_judged) and has_several_voters(ensemble, mirroring=options.mirroring)


def _observer(job: CaseJob, found: CaseImage) -> TrustObserver | None:
    """Return what gathers how far the case is to be trusted; None where nobody asks, or slices are shown to nobody."""
    if job.ensemble.trust is None or not job.ensemble.has_slices:
        return None
    return TrustObserver(job.ensemble.targets, found)


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
    job.folder.finish(case_id, input_hash, names, measured.changed(trust=done.trust))


def _write_files(job: CaseJob, done: _Segmented) -> None:
    case, affine = done.hashed.case, done.found.affine
    like, root = case.images[done.found.grid], job.folder.root
    # The mask last: where it lies, whoever reads the folder finds all that belongs to it.
    done.maps.write(like, affine)
    hashes = job.run.method_hash, done.hashed.input_hash
    origin = Origin(job.ensemble.name, job.ensemble.dataset, hashes, job.kept)
    if done.series is not None:
        for name, kind in job.outputs.dicom_names(case.case_id).items():
            write_dicom(root / name, done.segmentation, done.series, kind=kind, made=(origin, job.outputs))
    if job.outputs.ending is not None:
        write_segmentation(root / f"{case.case_id}{job.outputs.ending}", done.segmentation, like=like, affine=affine)
