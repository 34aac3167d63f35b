"""One case through an ensemble: its images in, label values on the first member's grid out.

Members that have the first one's axis order run slice by slice side by side. Others run before, one after the other, each into a mapped
file; there a probability is rounded to a step of 1/65535.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import numpy as np

from tumorseg.engine.combining import decision_of
from tumorseg.engine.lockstep import MemberAnswer, in_lockstep
from tumorseg.engine.segmentation import Observer, Prepared, decide_slices
from tumorseg.errors import InputError
from tumorseg.ops.geometry import Orientation, restore_orientation, spacing_of
from tumorseg.ops.postprocessing import postprocess
from tumorseg.stages.inference.ensembles import Ensemble
from tumorseg.stages.inference.member_runs import MemberRun, through_file
from tumorseg.stages.inference.segment_case import (
    AS_PLANNED,
    RunOptions,
    num_voters,
    prepare_case,
    segment_prepared,
    within_memory,
)
from tumorseg.stages.inference.staple import staple
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import CaseImage
from tumorseg.types import Segmentation, Spacing

SAME_GRID_MM = 1e-4
"""Two affines whose numbers differ by no more put voxels on the same places."""


Run = Callable[[Sequence[Observer]], Segmentation]
"""Segments a case, and shows each slice to some observers."""


class CaseImages(NamedTuple):
    """A case as each member of an ensemble sees it."""

    found: tuple[CaseImage, ...]
    """One for each member: its channels in its plan's axis order; members that read alike share the voxels."""
    previous: tuple[Segmentation | None, ...]
    """Class indices that a cascade is shown, in its plan's axis order, where a file holds them; one for each member."""

    @property
    def lead(self) -> CaseImage:
        """Return the first member's: observers are shown slices in its axis order, and masks lie on its grid."""
        return self.found[0]


def segment_ensemble(
    ensemble: Ensemble,
    images: CaseImages,
    *,
    options: RunOptions = AS_PLANNED,
    observers: Sequence[Observer] = (),
) -> Segmentation:
    """Segment the images of a case; several cases may be given at once, from several threads.

    Args:
        ensemble: the models, and how they are combined.
        images: of the case.
        options: how; the decision is the ensemble's.
        observers: are shown each slice of the result, in the first member's axis order, as it is decided: before postprocessing.

    Returns:
        Label values (Z, Y, X) in the axis order in which the image was stored.

    Raises:
        InputError: as from `segment_case`, members answer on different grids, or somebody wants to observe what has no probabilities.
        StorageError: the disk has no room for what is made in another axis order.
    """
    return prepare_run(ensemble, images, options=options)(observers)


def prepare_run(ensemble: Ensemble, images: CaseImages, *, options: RunOptions = AS_PLANNED) -> Run:
    """Return what segments the images of a case; of one model, they are prepared by then, and their voxels no longer needed.

    Args and Raises:
        As for `segment_ensemble`.
    """
    options = options._replace(decision=decision_of(ensemble.combination, ensemble.targets))
    run: Run
    if len(ensemble.members) == 1:
        # Slices pass as they are: logits, however far beyond what probabilities can tell apart.
        found, (previous,) = images.lead, images.previous
        prepared = prepare_case(ensemble.lead, found, options=options, previous=previous)
        run = partial(_run_alone, ensemble.lead, prepared, found.orientation, options)
    else:
        run = partial(_run_several, ensemble, images, options)
    if not ensemble.combination.postprocessing:
        return run
    return partial(_postprocessed, run, ensemble, spacing_of(images.lead.affine))


def _run_alone(
    model: Model, prepared: Prepared, orientation: Orientation, options: RunOptions, observers: Sequence[Observer]
) -> Segmentation:
    return segment_prepared(model, prepared, orientation, options=options, observers=observers)


def _run_several(
    ensemble: Ensemble, images: CaseImages, options: RunOptions, observers: Sequence[Observer]
) -> Segmentation:
    if ensemble.combination.method == "staple":
        return _by_staple(ensemble, images, options, observers)
    _check_grids(images)
    oriented = _side_by_side(ensemble, images, options, observers)
    return np.ascontiguousarray(restore_orientation(oriented, images.lead.orientation))


def _postprocessed(run: Run, ensemble: Ensemble, spacing_mm: Spacing, observers: Sequence[Observer]) -> Segmentation:
    steps, values = ensemble.combination.postprocessing, ensemble.targets.values_by_name
    return postprocess(run(observers), steps, spacing_mm=spacing_mm, values=values)


def has_several_voters(ensemble: Ensemble, *, mirroring: bool | None) -> bool:
    """Return whether more than one decides by itself: models, folds and views. One alone agrees with itself, which says nothing.

    Args:
        ensemble: the models.
        mirroring: whether mirrored views are averaged; as each plan says if None.
    """
    options = RunOptions(mirroring)
    return sum(num_voters(member, options) for member in ensemble.members) > 1


def _check_grids(images: CaseImages) -> None:
    """Refuse members that answer on different grids: their channels were not taken on one."""
    lead = images.lead
    for other in images.found[1:]:
        is_same = np.allclose(other.affine, lead.affine, rtol=0, atol=SAME_GRID_MM)
        if other.stored_shape != lead.stored_shape or not is_same:
            raise InputError(
                f"the models answer on different grids, of {lead.stored_shape} and {other.stored_shape} voxels (Z, Y, X), as their "
                "channels do not lie on one; resample the channels onto one grid"
            )


def _run(ensemble: Ensemble, images: CaseImages, number: int, options: RunOptions) -> MemberRun:
    """Prepare a member's image; a cascade's previous model takes its turn at the networks meanwhile."""
    member, found = ensemble.members[number], images.found[number]
    prepared = prepare_case(member, found, options=options, previous=images.previous[number])
    return MemberRun(member, prepared, found.orientation, options)


def _by_staple(
    ensemble: Ensemble, images: CaseImages, options: RunOptions, observers: Sequence[Observer]
) -> Segmentation:
    if observers:
        raise InputError("STAPLE makes a mask of masks, so that there are no probabilities to be shown")
    _check_grids(images)
    # One by one, so that one member's image is in memory at a time.
    runs = (_run(ensemble, images, number, options) for number in range(len(ensemble.members)))
    return staple(runs, ensemble.targets, ensemble.combination.thresholds)


def _side_by_side(
    ensemble: Ensemble, images: CaseImages, options: RunOptions, observers: Sequence[Observer]
) -> Segmentation:
    """Return label values in the first member's axis order."""
    lead, targets = images.lead, ensemble.targets
    with ExitStack() as files:
        begins: dict[int, Callable[[], MemberAnswer]] = {}
        for number, found in enumerate(images.found):
            if found.orientation != lead.orientation:
                # Of these one image is in memory at a time.
                begins[number] = through_file(
                    _run(ensemble, images, number, options), lead.orientation, targets, files=files
                )
        others = [number for number in range(len(ensemble.members)) if number not in begins]
        for number in others:
            begins[number] = partial(_run(ensemble, images, number, options).begin, targets)

        def decide() -> Segmentation:
            answers = [begin() for _, begin in sorted(begins.items())]
            answer = in_lockstep(answers, ensemble.combination, targets)
            shape = lead.image.shape[1:]
            return decide_slices(answer, shape, targets, observers=observers, decision=options.decision)

        # Members share the turn, so that it is taken once for all of them.
        with ensemble.lead.runtime.turn:
            return within_memory([ensemble.members[number] for number in others], decide, options)
