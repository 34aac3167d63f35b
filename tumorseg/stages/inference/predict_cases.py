"""Segment cases into a folder of predictions, which says what is done."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tumorseg.engine.sliding_window import LARGE_SUMS_BYTES, tiling_of
from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case
from tumorseg.schema.targets import targets_of
from tumorseg.stages.inference.case_job import CaseJob, update_case
from tumorseg.stages.inference.case_report import label_groups
from tumorseg.stages.inference.journal import Header
from tumorseg.stages.inference.method import AS_PLANNED, PredictOptions, averaged_axes
from tumorseg.stages.inference.outputs import AS_USUAL, Outputs, check_apart, check_sources, kept_labels
from tumorseg.stages.inference.prediction_folder import PredictionFolder
from tumorseg.stages.inference.provenance import made_by, run_entry
from tumorseg.stages.inference.shards import Shard, cases_of
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import expected_bytes
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
    model: Model,
    cases: Sequence[Case],
    output: Path,
    *,
    options: PredictOptions = AS_PLANNED,
    filling: Filling = AS_ASKED,
) -> Predicted:
    """Segment cases into a folder that the caller holds. A case that fails leaves the others alone.

    Args:
        model: the networks and their plan.
        cases: what to segment, those of other shards included; labels are not looked at.
        output: the folder.
        options: how.
        filling: what is written, and of which cases.

    Raises:
        InputError: the folder holds inputs, files that are no results, or a record that cannot be read; the model finds no such
            label; or what is asked for cannot be made of these images.
        StorageError: the folder cannot be written, or another shard makes something else.
    """
    check_apart(cases, output)
    chosen = cases_of(filling.shard, cases)
    check_sources(filling.outputs, chosen)
    if filling.outputs.maps.disagreement:
        _check_members(model, options)
    job = _job(model, output, options, filling)
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
    return Predicted(output, files, tuple(left_alone), failures, all_files)


def _check_members(model: Model, options: PredictOptions) -> None:
    """Refuse a map of disagreement where there is nobody to disagree with."""
    if len(model.networks) == 1 and not averaged_axes(model.configuration, options.mirroring):
        raise InputError(
            "--disagreement: found one fold and one view, expected several; give more folds, or leave --no-mirroring out"
        )


def _job(model: Model, output: Path, options: PredictOptions, filling: Filling) -> CaseJob:
    dataset, outputs = model.plan.dataset, filling.outputs
    kept = kept_labels(options.only_labels, dataset)
    # By what is kept: all labels by name are no other masks than all of them.
    options = options._replace(only_labels=tuple(kept or ()))
    run = run_entry(model, options)
    header = Header(made_by=made_by(model, options, outputs), run=run, outputs=outputs.identity)
    folder = PredictionFolder(output, header, shard=filling.shard, stale=filling.stale)
    return CaseJob(model, folder, options, outputs, groups=label_groups(dataset, kept), kept=kept, run=run)


def _update_all(job: CaseJob, cases: Sequence[Case]) -> list[Outcome[bool]]:
    outcomes: list[Outcome[bool]] = []
    items = ((case.case_id, case) for case in cases)
    lanes = run_lanes(partial(update_case, job), items, num_lanes=num_lanes(job.model, cases), stop=job.model.stop)
    with progress("predict", len(cases)) as advance, closing(lanes):
        for outcome in lanes:
            outcomes.append(outcome)
            advance(outcome.case_id)
    return outcomes


def num_lanes(model: Model, cases: Sequence[Case]) -> int:
    """Return how many cases are worked on at once: one where two of the largest might not be held in memory."""
    available = available_bytes()
    # Logits count once, as the network looks at one case at a time; maps lie in files.
    expected = NUM_LANES * expected_bytes(cases) + sums_bytes(model)
    has_room = available is None or expected <= available
    return NUM_LANES if has_room and len(cases) > 1 else 1


def sums_bytes(model: Model) -> int:
    """Return roughly what the logits of a row of tiles take in main memory: of a median case, as sizes are known once files are read."""
    if model.device.type != "cpu" and not model.runtime.sums_on_cpu:
        return 0
    tile = tiling_of(model.configuration).patch_size
    # Images are padded to a tile at least.
    plane = map(max, tile[1:], model.configuration.median_shape[-2:])
    num_bytes = 4 * targets_of(model.plan.dataset).num_outputs * tile[0] * math.prod(plane)
    return num_bytes // 2 if num_bytes > LARGE_SUMS_BYTES else num_bytes


def _warn_of_others(job: CaseJob, cases: Iterable[Case]) -> None:
    asked = [name for case in cases for name in job.outputs.names(case.case_id)]
    if others := job.folder.of_others(asked):
        logger.warning(
            "%s holds %d other files too, which another model or other options made: %s",
            job.folder.root,
            len(others),
            ", ".join(others[:5]),
        )
