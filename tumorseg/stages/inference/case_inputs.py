"""Files of a case that is to be segmented: hashed, read, checked, and checked again before the result is written."""

import logging
from collections.abc import Mapping
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.absent_channels import AbsentChannels, cover_with_room, present_positions, with_room
from tumorseg.ops.preprocessing import axis_order
from tumorseg.schema.base import content_hash
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.dataset import Case
from tumorseg.stages.inference.intensities import check_intensities
from tumorseg.stages.inference.method import PredictOptions, reading_for
from tumorseg.stages.inference.segment_case import read_known_previous
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import CaseImage, read_case_image, warn_of_forms
from tumorseg.storage.hashing import FileState, case_files, check_unchanged, combine_hashes, hash_files
from tumorseg.storage.images import read_geometry
from tumorseg.types import Segmentation

logger = logging.getLogger(__name__)


class HashedCase(NamedTuple):
    """A case whose files were hashed before they were read."""

    case: Case
    """Without labels."""
    states: Mapping[str, FileState]
    """Of all files that a mask is made of."""
    input_hash: str
    """Of their content."""


def unlabelled(case: Case) -> Case:
    """Return a case without labels, which prediction does not look at."""
    return case.changed(label=None, more_labels=())


def hash_inputs(model: Model, case: Case) -> HashedCase:
    """Hash the files of a case.

    Raises:
        InputError: a file cannot be read.
    """
    case = unlabelled(case)
    states = hash_files(_files_of(model, case))
    hashes = {path: state.digest for path, state in states.items()}
    input_hash = combine_hashes(case, hashes)
    known = model.previous_file(case.case_id)
    if known is not None:
        input_hash = content_hash([input_hash, hashes[str(known)]])
    return HashedCase(case, states, input_hash)


def check_inputs(model: Model, hashed: HashedCase) -> None:
    """Refuse a case whose files are no longer those that were hashed.

    Raises:
        InputError: files came, went or changed.
    """
    if set(_files_of(model, hashed.case)) != hashed.states.keys():  # a folder of DICOM that is still being filled
        raise InputError(
            "files came or went while it was segmented; give the command again", case_id=hashed.case.case_id
        )
    check_unchanged(hashed.states)


def read_inputs(model: Model, case: Case, options: PredictOptions) -> tuple[CaseImage, Segmentation | None]:
    """Read the image of a case without labels, and the class indices that a cascade is shown, where a file holds them.

    Args:
        model: for which it is read.
        case: its images are the model's channels in order, without those that `options` says are absent.
        options: how it is segmented.

    Raises:
        InputError: a file cannot be read, or does not hold what the model needs.
    """
    warn_of_forms(case)
    if options.assumed_orientation is None:
        _warn_of_planned_orientation(model, case)
    plan = model.plan
    reading, absent = reading_for(plan, options), options.absent
    if absent is None:
        found = read_case_image(case, reading, axis_order(plan))
    else:
        num_channels = len(plan.dataset.channels)
        found = read_case_image(case, _reading_present(reading, absent, num_channels), axis_order(plan))
        image, covered = with_room(found.image, absent), cover_with_room(found.covered, absent)
        found = found._replace(image=image, covered=covered, absent=absent)
    check_intensities(plan, case.case_id, found)
    return found, read_known_previous(model, case, found)


def _reading_present(reading: CaseReading, absent: AbsentChannels, num_channels: int) -> CaseReading:
    """Return how files are read where some channels have none: by positions among the channels that are there."""
    present = present_positions(absent, num_channels)
    values = reading.outside_values
    return reading.changed(
        grid=present.index(reading.grid) if reading.grid in present else None,
        outside_values=tuple(values[number] for number in present) if values else (),
    )


def _files_of(model: Model, case: Case) -> list[str]:
    """Return all files that a mask is made of."""
    known = model.previous_file(case.case_id)
    return case_files(case) if known is None else [*case_files(case), str(known)]


def _warn_of_planned_orientation(model: Model, case: Case) -> None:
    """Tell of files that state no orientation and get the plan's: they need not be of the planned dataset's kind."""
    planned = model.plan.dataset.reading.assumed_orientation
    if planned is None:
        return
    for path in dict.fromkeys(file.path for file in case.images):
        if not read_geometry(path, planned).is_placed:
            logger.warning(
                "case %s: %s states no orientation; %s is assumed, as the plan says; --assume-orientation CODE states "
                "another",
                case.case_id,
                path,
                planned,
            )
