"""Temperature of a choice, fitted on voxels of all held-out cases, and what it is worth on cases that it was not fitted on."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.ops.calibration import Calibration, calibration_at, fit_temperature, sample_voxels
from tumorseg.ops.choosing.protocol import Choice, IntArray
from tumorseg.ops.labels import to_indices
from tumorseg.ops.postprocessing import postprocess
from tumorseg.ops.quantised import STEPS
from tumorseg.schema.targets import IGNORE, Targets
from tumorseg.stages.selection.combining_cases import OpenCase, Question, paint, slabs_of
from tumorseg.stages.selection.pool import Pool
from tumorseg.stages.selection.scorer import choice_key
from tumorseg.stages.selection.unseen import UnseenCase
from tumorseg.storage.atomic import write_bytes

MOST_NUMBERS = 30_000_000
"""Logits of all cases together."""
MOST_OF_A_CASE = 2000
"""Voxels."""
MOST_CERTAIN = math.log(2 * STEPS)
"""Logit of half a step: what is kept does not tell apart what is rarer, and one voxel that was thought impossible must not decide alone."""


class Voxels(NamedTuple):
    """Sampled voxels of a case."""

    logits: NDArray[np.float32]
    """(n, K)"""
    truth: NDArray[np.int64]
    """(n,), class indices."""


class Temperature(NamedTuple):
    """A temperature, and what it changes where it was not fitted."""

    fitted: Calibration
    """On all cases."""
    honest: Calibration
    """Of each part by the temperature that the others gave; its own temperature is that of all cases."""
    num_voxels: int


def calibrate(pool: Pool, choice: Choice, parts: IntArray, folder: Path) -> Temperature:
    """Fit the temperature of a choice.

    Args:
        pool: the cases.
        choice: whose logits are scaled.
        parts: (N,), part of each case.
        folder: keeps the voxels of each case, so that a killed run goes on.

    Raises:
        TumorsegError: cases failed; all are listed.
    """
    targets = pool.question.targets_of(choice)
    cases = pool.subjects.cases
    most = min(MOST_OF_A_CASE, max(1, MOST_NUMBERS // (len(cases) * targets.num_outputs)))
    files = {case.case_id: folder / f"{choice_key(choice)} {case.case_id}.npy" for case in cases}
    found = {case_id: _read(file, targets) for case_id, file in files.items()}

    def work(case: UnseenCase, opened: OpenCase) -> None:
        voxels = sample(opened, choice, pool.question, most=most)
        _write(files[case.case_id], voxels)
        found[case.case_id] = voxels

    left = [case for case in cases if found[case.case_id] is None]
    if left:
        pool.each_case(work, title="calibrate", cases=left, candidates=choice.used)
    known = [voxels for case in cases if (voxels := found[case.case_id]) is not None]
    return _fit(known, parts, targets)


def sample(case: OpenCase, choice: Choice, question: Question, *, most: int) -> Voxels:
    """Return the logits of some voxels around what a case's reference or its prediction has."""
    targets = question.targets_of(choice)
    (mask,) = paint(case, [choice._replace(steps=())], question)
    mask = postprocess(mask, choice.steps, spacing_mm=case.spacing_mm, values=targets.values_by_name)
    reference = case.reference_in(case.whole)
    # What is not known is looked at by nobody, though it may lie in the box.
    places = sample_voxels(np.maximum(reference, 0), to_indices(mask, targets), most=most)
    places = places[reference.ravel()[places] != IGNORE]
    logits = _logits_at(case, choice, question, places=places)
    return Voxels(logits, reference.ravel()[places].astype(np.int64))


def _logits_at(case: OpenCase, choice: Choice, question: Question, *, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the logits (n, K) of voxels by their flat indices, rising."""
    found = np.empty((len(places), question.targets_of(choice).num_outputs), np.float32)
    if not len(places):
        return found
    depths, rows, columns = np.unravel_index(places, case.shape)
    # Beyond the members' boxes too, as the sample has a margin.
    planes = int(depths[0]), int(depths[-1]) + 1
    for slab in slabs_of(case, (planes, *case.whole[1:]), question):
        first, last = slab.window[0]
        inside = slice(*np.searchsorted(depths, (first, last)).tolist())
        picked = slab.logits(choice)[:, depths[inside] - first, rows[inside], columns[inside]]
        found[inside] = picked.clamp(-MOST_CERTAIN, MOST_CERTAIN).T.numpy()
    return found


def _fit(known: Sequence[Voxels], parts: IntArray, targets: Targets) -> Temperature:
    """Fit on all, and for each part on the others."""
    logits = np.concatenate([voxels.logits for voxels in known])
    classes = np.concatenate([voxels.truth for voxels in known])
    owners = np.repeat(parts, [len(voxels.truth) for voxels in known])
    truth = _truth(classes, targets)
    fitted = fit_temperature(logits, truth)
    scaled = logits.copy()
    for part in np.unique(owners):
        others = owners != part
        scaled[~others] /= fit_temperature(logits[others], truth[others]).temperature
    before, after = calibration_at(1.0, logits, truth), calibration_at(1.0, scaled, truth)
    honest = Calibration(fitted.temperature, before.nll_before, after.nll_before, before.ece_before, after.ece_before)
    return Temperature(fitted, honest, len(classes))


def _truth(classes: NDArray[np.int64], targets: Targets) -> NDArray[np.int64] | NDArray[np.bool_]:
    """Return class indices, or whether they are of each region (n, R)."""
    if not targets.has_regions:
        return classes
    inside = [np.isin(classes, region) for region in targets.regions]
    return np.stack(inside, axis=1)


def _write(path: Path, voxels: Voxels) -> None:
    """Keep logits and truth side by side."""
    buffer = BytesIO()
    np.save(buffer, np.column_stack((voxels.logits, voxels.truth.astype(np.float32))), allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def _read(path: Path, targets: Targets) -> Voxels | None:
    """Return what was kept; None where it is missing or damaged."""
    try:
        kept: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if kept.ndim != 2 or kept.shape[1] != targets.num_outputs + 1 or kept.dtype != np.float32:
        return None
    return Voxels(kept[:, :-1], kept[:, -1].astype(np.int64))
