"""What trust in a chosen ensemble is learnt from: what it says of held-out cases, and how good that was."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tumorseg.errors import StorageError
from tumorseg.ops.choosing.protocol import Choice, IntArray
from tumorseg.ops.cropping import box_slices
from tumorseg.schema.base import content_hash, record_hash
from tumorseg.schema.ensembles import Combination
from tumorseg.schema.trust import TrustCase, TrustProfile, TrustSubject
from tumorseg.stages.inference.case_inputs import read_inputs, unlabelled
from tumorseg.stages.inference.ensembles import together
from tumorseg.stages.inference.method import AS_PLANNED
from tumorseg.stages.inference.segment_case import RunOptions
from tumorseg.stages.inference.segment_ensemble import segment_ensemble
from tumorseg.stages.inference.trusting import TrustObserver, learn_trust, profile_of, subject_of, trust_case
from tumorseg.stages.selection.case_scores import confusion, dsc_of
from tumorseg.stages.selection.chosen_cases import case_for
from tumorseg.stages.selection.combining_cases import OpenCase, slabs_of
from tumorseg.stages.selection.pool import Pool
from tumorseg.stages.selection.scorer import choice_key
from tumorseg.stages.selection.unseen import UnseenCase
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.types import Segmentation

logger = logging.getLogger(__name__)


class _Run(NamedTuple):
    """What all cases share."""

    pool: Pool
    choice: Choice
    combination: Combination
    subject: TrustSubject
    files: Mapping[str, Path]
    """Where the record of each case is kept."""
    parts: Mapping[str, int]


def learn(pool: Pool, choice: Choice, combination: Combination, *, parts: IntArray, folder: Path) -> TrustProfile:
    """Segment every held-out case with the chosen ensemble, each member by the fold that did not see it, and learn from that.

    Unlike the probabilities that were kept, this tells what single views decide, and goes the way that `predict` goes.

    Args:
        pool: the cases.
        choice: of members.
        combination: of the choice, with its temperature.
        parts: (N,), part of each case.
        folder: keeps a record for each case, so that a killed run goes on.

    Raises:
        TumorsegError: cases failed; all are listed.
    """
    cases = pool.subjects.cases
    stem = record_stem(choice, combination)
    run = _Run(
        pool,
        choice,
        combination,
        subject_of(pool.subjects.candidates[choice.used[0]].plan),
        {case.case_id: folder / f"{stem} {case.case_id}.json" for case in cases},
        {case.case_id: part for case, part in zip(cases, parts.tolist(), strict=True)},
    )
    known = {case.case_id: _read(run.files[case.case_id]) for case in cases}
    left = [case for case in cases if known[case.case_id] is None]
    if left:
        known |= pool.each_case(partial(_look, run), title="learn trust", cases=left, candidates=())
    return learn_trust([case for case in known.values() if case is not None], run.subject)


def record_stem(choice: Choice, combination: Combination) -> str:
    """Return what the names of records begin with; the combination alone does not say which candidates are members."""
    return content_hash([choice_key(choice), record_hash(combination)])


def _read(path: Path) -> TrustCase | None:
    """Return the record of a case; None where it is missing or damaged."""
    try:
        return read_record(TrustCase, path, error=StorageError) if path.is_file() else None
    except StorageError:
        return None


def _look(run: _Run, case: UnseenCase, opened: OpenCase) -> TrustCase:
    """Segment one case, and keep what is learnt of it."""
    models = [run.pool.shelf.model(number, case.folds[number]) for number in run.choice.used]
    ensemble = together(models, run.combination)
    own = unlabelled(case_for(ensemble.dataset.channels, case, run.pool.subjects))
    images = read_inputs(ensemble, own, AS_PLANNED)
    observer = TrustObserver(ensemble.targets, images.lead)
    segmentation = segment_ensemble(ensemble, images, options=RunOptions(with_votes=True), observers=(observer,))
    profile = profile_of(images.lead, run.subject)
    record = trust_case(
        case.case_id, run.parts[case.case_id], profile, observer.features(segmentation), group=own.group
    )
    record = record.changed(dsc=_real_dsc(run, opened, segmentation))
    path = run.files[case.case_id]
    write_record(path, record)
    # As the next run will read it, whose order of names is that of the file.
    return read_record(TrustCase, path, error=StorageError)


def _real_dsc(run: _Run, opened: OpenCase, segmentation: Segmentation) -> dict[str, float | None]:
    """Return the DSC of each label or region; None where neither mask has it."""
    targets = run.pool.question.wanted
    table: IntArray = np.zeros((targets.num_classes, targets.num_classes), np.int64)
    for slab in slabs_of(opened, opened.whole, run.pool.question):
        table += confusion(segmentation[box_slices(slab.window)], slab.reference, targets)
    dsc: dict[str, float | None] = {}
    for name, classes, score in zip(targets.scored_names, targets.scored_classes, dsc_of(table, targets), strict=True):
        chosen = list(classes)
        dsc[name] = score if table[chosen].any() or table[:, chosen].any() else None
    return dsc
