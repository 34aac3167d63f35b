"""One case through the fold that did not see it: its probabilities, quantised and cropped, into a folder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tumorseg.engine.segmentation import SliceResult
from tumorseg.engine.uncertainty import probabilities
from tumorseg.ops.cropping import box_slices
from tumorseg.ops.geometry import AS_STORED, between, oriented_box, restore_orientation, spacing_of
from tumorseg.ops.quantised import STEPS, num_stored, quantise
from tumorseg.schema.base import content_hash
from tumorseg.schema.dataset import Case
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.stages.inference.case_inputs import check_inputs, hash_inputs, read_inputs
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.method import AS_PLANNED, method_hash
from tumorseg.stages.inference.segment_ensemble import segment_ensemble
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import CaseImage
from tumorseg.stages.selection.candidates import TrainedFold
from tumorseg.storage.plane_scratch import PlaneScratch
from tumorseg.storage.probability_cache import SLAB, StoredVolumes, Volume, Volumes, affine_rows, write_volumes
from tumorseg.types import Box

LEAST = 0.001
"""Outside the box of voxels where any label or region is this probable, it is taken to be impossible."""
FORM_VERSION = 1
"""Raised when the same masks' probabilities would be stored otherwise."""
NOWHERE: tuple[tuple[int, int], ...] = ((0, 0), (0, 0), (0, 0))


def probability_key(fold: TrainedFold, case_hash: str, previous_hash: str | None) -> str:
    """Return the name of what a fold finds in a case: the hash of its method, its weights and the case's files.

    Args:
        fold: that predicts.
        case_hash: of the case's files.
        previous_hash: of the previous segmentation that a cascade is shown; None for a model that is none.
    """
    configuration = fold.plan.configurations[fold.run.configuration]
    method = method_hash(fold.plan, configuration, weights=(fold.weights,), options=AS_PLANNED)
    return content_hash([FORM_VERSION, LEAST, method, case_hash, previous_hash])


def write_probabilities(model: Model, case: Case, folder: Path, *, least: float = LEAST) -> Volumes:
    """Segment a case and write its probabilities, in the axis order in which the image is stored.

    Never more than one volume is in memory, however many classes there are.

    Args:
        model: of one fold.
        case: with the channels of the model's plan.
        folder: an empty one, on a disk that has room for the planes.
        least: outside the box of voxels where any label or region is this probable, it is taken to be impossible; 0: where it is not a step.

    Raises:
        InputError: the case's files cannot be read, are not what the model needs, or changed meanwhile.
        StorageError: the folder cannot be written.
    """
    targets, ensemble = targets_of(model.plan.dataset), alone(model)
    hashed = hash_inputs(ensemble, case)
    images = read_inputs(ensemble, hashed.case, AS_PLANNED)
    found = images.lead
    with PlaneScratch(folder, found.image.shape[1:]) as scratch:
        seen = _Seen(targets, scratch, least)
        segment_ensemble(ensemble, images, observers=(seen,))
        check_inputs(ensemble, hashed)
        return write_volumes(folder, _about(found, seen.box(), targets), seen.volumes(found))


class _Seen:
    """Takes up slices: their steps go into the scratch, and where anything is found is remembered."""

    def __init__(self, targets: Targets, scratch: PlaneScratch, least: float) -> None:
        self._targets, self._scratch, self._least_steps = targets, scratch, max(least * STEPS, 1)
        # By position, since all slices are shown again where memory ran out.
        self._boxes: dict[int, Box] = {}

    def __call__(self, seen: SliceResult) -> None:
        """Take up a slice."""
        found = probabilities(seen.logits, self._targets).float().cpu().numpy()
        decided = seen.logits > 0 if self._targets.has_regions else seen.logits.argmax(dim=0)
        steps = quantise(found, decided.cpu().numpy(), self._targets)
        self._scratch.add(seen.position, seen.window, steps)
        self._boxes.pop(seen.position, None)
        rows, columns = np.nonzero((steps >= self._least_steps).any(axis=0))
        if rows.size:
            row, column = seen.window[0].start, seen.window[1].start
            self._boxes[seen.position] = (
                (seen.position, seen.position + 1),
                (row + int(rows.min()), row + int(rows.max()) + 1),
                (column + int(columns.min()), column + int(columns.max()) + 1),
            )

    def box(self) -> Box:
        """Return the box around all that was found, in the plan's axis order."""
        if not self._boxes:
            return NOWHERE
        axes = zip(*self._boxes.values(), strict=True)
        return tuple((min(low for low, _ in each), max(high for _, high in each)) for each in axes)

    def volumes(self, found: CaseImage) -> Iterator[Volume]:
        """Yield the part of each volume that lies in the box, in the stored axis order."""
        window = box_slices(_stored_box(self.box(), found))
        for number in range(num_stored(self._targets)):
            yield restore_orientation(self._scratch.volume(number, 0), found.orientation)[window]


def _about(found: CaseImage, box: Box, targets: Targets) -> StoredVolumes:
    depth, rows, columns = _stored_box(box, found)
    shape = found.stored_shape
    return StoredVolumes(
        shape=(shape[0], shape[1], shape[2]),
        spacing_mm=spacing_of(found.affine),
        affine=affine_rows(found.affine),
        box=(depth, rows, columns),
        num_volumes=num_stored(targets),
    )


def _stored_box(box: Box, found: CaseImage) -> Box:
    """Return a box of the oriented image in the stored axis order, its first axis grown to whole slabs."""
    if box == NOWHERE:
        return box
    stored = oriented_box(box, found.image.shape[1:], between(found.orientation, AS_STORED))
    low, high = stored[0]
    # What is read slab by slab is then unpacked once, whichever members are read together.
    return ((low - low % SLAB, min(high + -high % SLAB, found.stored_shape[0])), *stored[1:])
