"""Segment cases into a folder of predictions, which says what is done."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tumorseg.engine.sliding_window import LARGE_SUMS_BYTES, tiling_of
from tumorseg.errors import InputError, Stopped, StorageError
from tumorseg.schema.base import parse_record
from tumorseg.schema.dataset import Case
from tumorseg.schema.targets import targets_of
from tumorseg.schema.trust import CaseTrust
from tumorseg.stages.inference.case_job import CaseJob, asks_for_votes, update_case
from tumorseg.stages.inference.case_report import CaseEntry, label_groups
from tumorseg.stages.inference.ensembles import Ensemble
from tumorseg.stages.inference.journal import Header
from tumorseg.stages.inference.method import AS_PLANNED, PredictOptions
from tumorseg.stages.inference.outputs import AS_USUAL, Outputs, check_apart, check_sources, kept_labels
from tumorseg.stages.inference.prediction_folder import PredictionFolder
from tumorseg.stages.inference.provenance import made_by, run_entry
from tumorseg.stages.inference.report_file import read_entries
from tumorseg.stages.inference.segment_ensemble import has_several_voters
from tumorseg.stages.inference.shards import Shard, cases_of
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import expected_bytes
from tumorseg.stages.opening.stopping import UntilStopped
from tumorseg.storage.layout import REPORT
from tumorseg.tracking.progress import progress
from tumorseg.workers.lanes import run_lanes
from tumorseg.workers.machine import available_bytes
from tumorseg.workers.outcomes import Failure, Outcome, Success

logger = logging.getLogger(__name__)

NUM_LANES = 2
"""Cases at once: one is read, prepared or written while the network looks at the other."""


class Predicted(NamedTuple):
    """Result of a prediction."""

    output: Path
    files: dict[str, Path]
    """Mask by case_id, or what is written first where no mask is; those of cases that failed may not be there."""
    left_alone: tuple[str, ...] = ()
    """Cases that were done already."""
    failures: tuple[Failure, ...] = ()
    """Cases that failed."""
    all_files: Mapping[str, tuple[Path, ...]] = {}
    """All files of each case by case_id, the mask first."""
    trusts: Mapping[str, CaseTrust] = {}
    """How far cases are to be trusted, by case_id, those left alone included; empty where the model has no profile to judge by."""


class Filling(NamedTuple):
    """What a folder of predictions is filled with."""

    outputs: Outputs = AS_USUAL
    """Files of each case."""
    shard: Shard | None = None
    """Part of the cases that is segmented here; all of them if None."""
    stale: Sequence[Path] = ()
    """Files that are no longer true once a mask has changed, to be removed then."""


AS_ASKED = Filling()


def predict_cases(
    ensemble: Ensemble,
    cases: Sequence[Case],
    output: Path,
    *,
    options: PredictOptions = AS_PLANNED,
    filling: Filling = AS_ASKED,
) -> Predicted:
    """Segment cases into a folder that the caller holds. A case that fails leaves the others alone.

    Args:
        ensemble: the models; `alone` makes one of a model.
        cases: what to segment, those of other shards included; labels are not looked at.
        output: the folder.
        options: how.
        filling: what is written, and of which cases.

    Raises:
        InputError: the folder holds inputs, files that are no results, or a record that cannot be read; the model finds no such
            label; or what is asked for cannot be made of these images.
        StorageError: the folder cannot be written, or another shard makes something else.
        Stopped: a signal asked to stop before the last case had begun; those that had begun were written.
    """
    check_apart(cases, output)
    chosen = cases_of(filling.shard, cases)
    check_sources(filling.outputs, chosen)
    check_maps(ensemble, filling.outputs, options)
    job = _job(ensemble, output, options, filling)
    names = {case.case_id: job.outputs.names(case.case_id) for case in chosen}
    job.folder.begin_run(names)
    _warn_of_others(job, cases)
    try:
        outcomes = _update_all(job, chosen)
    finally:
        unrecorded = job.folder.end_run()
    failures = tuple(outcome for outcome in outcomes if isinstance(outcome, Failure))
    if unrecorded is not None and not failures:
        raise unrecorded
    left_alone = sorted(done.case_id for done in outcomes if isinstance(done, Success) and not done.value)
    all_files = {case_id: tuple(output / name for name in found) for case_id, found in names.items()}
    files = {case_id: found[0] for case_id, found in all_files.items()}
    trusts = {} if ensemble.trust is None else _trusts(output, chosen)
    return Predicted(output, files, tuple(left_alone), failures, all_files, trusts)


def _trusts(output: Path, cases: Iterable[Case]) -> dict[str, CaseTrust]:
    """Return what the report tells of how far cases are to be trusted."""
    asked, found = {case.case_id for case in cases}, {}
    for case_id, text in read_entries(output / REPORT, StorageError):
        if case_id in asked:
            entry = parse_record(CaseEntry, text, source=str(output / REPORT), error=StorageError)
            if entry.trust is not None:
                found[case_id] = entry.trust
    return found


def check_maps(ensemble: Ensemble, outputs: Outputs, options: PredictOptions) -> None:
    """Refuse maps of what is not there: disagreement of one alone, or probabilities where there are only masks.

    Raises:
        InputError: there would be nothing to show.
    """
    kinds = outputs.maps.kinds
    if kinds and not ensemble.has_slices:
        raise InputError(
            f"--{kinds[0]}: STAPLE makes a mask of the models' masks, and no probabilities; give another --method, or no maps"
        )
    if outputs.maps.disagreement and not has_several_voters(ensemble, mirroring=options.mirroring):
        raise InputError(
            "--disagreement: found one fold and one view, expected several; give more folds, or leave --no-mirroring out"
        )


def _job(ensemble: Ensemble, output: Path, options: PredictOptions, filling: Filling) -> CaseJob:
    dataset, outputs = ensemble.dataset, filling.outputs
    kept = kept_labels(options.only_labels, dataset)
    # By what is kept: all labels by name are no other masks than all of them.
    options = options._replace(only_labels=tuple(kept or ()))
    run = run_entry(ensemble, options)
    header = Header(made_by=made_by(ensemble, options, outputs), run=run, outputs=outputs.identity)
    folder = PredictionFolder(output, header, shard=filling.shard, stale=filling.stale)
    return CaseJob(ensemble, folder, options, outputs, groups=label_groups(dataset, kept), kept=kept, run=run)


def _update_all(job: CaseJob, cases: Sequence[Case]) -> list[Outcome[bool]]:
    outcomes: list[Outcome[bool]] = []
    items = UntilStopped((case.case_id, case) for case in cases)
    with_votes = asks_for_votes(job.ensemble, job.outputs, job.options)
    count = num_lanes(job.ensemble, cases, with_votes=with_votes)
    lanes = run_lanes(partial(update_case, job), items, num_lanes=count, stop=job.ensemble.stop)
    with progress("predict", len(cases)) as advance, closing(lanes):
        for outcome in lanes:
            outcomes.append(outcome)
            advance(outcome.case_id)
    if items.has_more:
        count = sum(isinstance(outcome, Success) for outcome in outcomes)
        raise Stopped(f"{count} of {len(cases)} cases are predicted and kept")
    return outcomes


def num_lanes(ensemble: Ensemble, cases: Sequence[Case], *, with_votes: bool = False) -> int:
    """Return how many cases are worked on at once: one where two of the largest might not be held in memory."""
    available = available_bytes()
    images = expected_bytes(cases) + sum(map(prepared_bytes, ensemble.members[1:]))
    # Logits count once, as the networks look at one case at a time; maps lie in files.
    expected = NUM_LANES * images + sums_bytes(ensemble, with_votes=with_votes)
    has_room = available is None or expected <= available
    return NUM_LANES if has_room and len(cases) > 1 else 1


def sums_bytes(ensemble: Ensemble, *, with_votes: bool = False) -> int:
    """Return roughly what the logits of a row of tiles take in main memory: of a median case, as sizes are known once files are read.

    Each member of an ensemble holds its own, as they go through an image side by side.

    Args:
        ensemble: the models.
        with_votes: whether the share of votes for each class is added up beside its logits.
    """
    per_output = 2 if with_votes else 1
    return sum(_sums_bytes(member, per_output) for member in ensemble.members)


def _sums_bytes(model: Model, per_output: int) -> int:
    if model.device.type != "cpu" and not model.runtime.sums_on_cpu:
        return 0
    tile = tiling_of(model.configuration).patch_size
    # Images are padded to a tile at least.
    plane = map(max, tile[1:], model.configuration.median_shape[-2:])
    num_outputs = per_output * targets_of(model.plan.dataset).num_outputs
    num_bytes = 4 * num_outputs * tile[0] * math.prod(plane)
    return num_bytes // 2 if num_bytes > LARGE_SUMS_BYTES else num_bytes


def prepared_bytes(model: Model) -> int:
    """Return roughly what a further member's image takes on its networks' grid, and what it read for itself: float32, of a median case."""
    *depth, rows, columns = model.configuration.median_shape
    # Of a network of two axes slices keep their number.
    num_slices = depth[0] if depth else model.plan.fingerprint.median_shape_after_crop[0]
    voxels = round(num_slices * rows * columns)
    return 2 * 4 * len(model.plan.dataset.channels) * voxels


def _warn_of_others(job: CaseJob, cases: Iterable[Case]) -> None:
    asked = [name for case in cases for name in job.outputs.names(case.case_id)]
    if others := job.folder.of_others(asked):
        logger.warning(
            "%s holds %d other files too, which another model or other options made: %s",
            job.folder.root,
            len(others),
            ", ".join(others[:5]),
        )
