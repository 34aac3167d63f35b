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
from tumorseg.stages.inference.ensembles import Ensemble
from tumorseg.stages.inference.intensities import check_intensities
from tumorseg.stages.inference.method import PredictOptions, reading_for
from tumorseg.stages.inference.segment_case import read_known_previous
from tumorseg.stages.inference.segment_ensemble import CaseImages
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import CaseImage, read_case_image, reoriented, warn_of_forms
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


def hash_inputs(ensemble: Ensemble, case: Case) -> HashedCase:
    """Hash the files of a case.

    Raises:
        InputError: a file cannot be read.
    """
    case = unlabelled(case)
    states = hash_files(_files_of(ensemble, case))
    hashes = {path: state.digest for path, state in states.items()}
    input_hash = combine_hashes(case, hashes)
    for known in _previous_files(ensemble, case):
        input_hash = content_hash([input_hash, hashes[known]])
    return HashedCase(case, states, input_hash)


def check_inputs(ensemble: Ensemble, hashed: HashedCase) -> None:
    """Refuse a case whose files are no longer those that were hashed.

    Raises:
        InputError: files came, went or changed.
    """
    # A folder of DICOM may still be being filled.
    if set(_files_of(ensemble, hashed.case)) != hashed.states.keys():
        raise InputError(
            "files came or went while it was segmented; give the command again", case_id=hashed.case.case_id
        )
    check_unchanged(hashed.states)


def _files_of(ensemble: Ensemble, case: Case) -> list[str]:
    """Return all files that a mask is made of."""
    return [*case_files(case), *_previous_files(ensemble, case)]


def _previous_files(ensemble: Ensemble, case: Case) -> list[str]:
    """Return the files of what cascades are shown of a case."""
    files = [member.previous_file(case.case_id) for member in ensemble.members]
    return [str(file) for file in files if file is not None]


def read_inputs(ensemble: Ensemble, case: Case, options: PredictOptions) -> CaseImages:
    """Read the images of a case without labels, and the class indices that cascades are shown, where files hold them.

    Members that read the same channels in the same way share the voxels, whatever their axis orders.

    Args:
        ensemble: for which it is read.
        case: its images are the ensemble's channels in order, without those that `options` says are absent.
        options: how it is segmented.

    Raises:
        InputError: a file cannot be read, or does not hold what a model needs.
    """
    warn_of_forms(case)
    if options.assumed_orientation is None:
        _warn_of_planned_orientation(ensemble, case)
    reader = _Reader(ensemble, case, options)
    found, previous = zip(*map(reader.read, ensemble.members), strict=True)
    return CaseImages(found, previous)


class _Reader:
    """Reads a case for each member, and keeps what others may read alike."""

    def __init__(self, ensemble: Ensemble, case: Case, options: PredictOptions) -> None:
        self._ensemble, self._case, self._options = ensemble, case, options
        self._known: list[tuple[Case, CaseReading, CaseImage]] = []
        self._grid: int | None = None
        self._judged: list[tuple[int, dict[str, int] | None]] = []

    def read(self, member: Model) -> tuple[CaseImage, Segmentation | None]:
        """Return the case as a member sees it, and what it is shown if it is a cascade with files."""
        case, reading = self._seen_by(member)
        order = axis_order(member.plan)
        known = next((one for *what, one in self._known if what == [case, reading]), None)
        if known is None:
            known = self._read_anew(case, reading, member)
            # As who comes next is told to read it.
            self._known.append((case, reading.changed(grid=known.grid), known))
        found = reoriented(known, order)
        self._judge(member, known, found)
        return found, read_known_previous(member, case, found)

    def _seen_by(self, member: Model) -> tuple[Case, CaseReading]:
        """Return the part of the case that a member sees, and how it is read."""
        reading, positions = reading_for(member.plan, self._options), self._ensemble.positions(member)
        if len(self._ensemble.members) == 1:
            return self._case, reading
        # All are to answer on the first one's grid, so that who leaves the grid open is told of it.
        if reading.grid is None and self._grid in positions:
            reading = reading.changed(grid=positions.index(self._grid))
        images = tuple(self._case.images[position] for position in positions)
        return self._case.changed(images=images), reading

    def _read_anew(self, case: Case, reading: CaseReading, member: Model) -> CaseImage:
        absent, order = self._options.absent, axis_order(member.plan)
        if absent is None:
            found = read_case_image(case, reading, order)
        else:
            # Counted among the ensemble's channels, which are a member's own only where it is alone.
            assert len(self._ensemble.members) == 1
            num_channels = len(member.plan.dataset.channels)
            found = read_case_image(case, _reading_present(reading, absent, num_channels), order)
            image, covered = with_room(found.image, absent), cover_with_room(found.covered, absent)
            found = found._replace(image=image, covered=covered, absent=absent)
        if self._grid is None:
            self._grid = self._ensemble.positions(member)[found.grid]
        return found

    def _judge(self, member: Model, known: CaseImage, found: CaseImage) -> None:
        """Check intensities, once for all members that expect the same of the same voxels: nothing is told twice."""
        expected = (id(known), member.plan.fingerprint.not_hounsfield)
        if expected not in self._judged:
            self._judged.append(expected)
            check_intensities(member.plan, self._case.case_id, found)


def _reading_present(reading: CaseReading, absent: AbsentChannels, num_channels: int) -> CaseReading:
    """Return how files are read where some channels have none: by positions among the channels that are there."""
    present = present_positions(absent, num_channels)
    values = reading.outside_values
    return reading.changed(
        grid=present.index(reading.grid) if reading.grid in present else None,
        outside_values=tuple(values[number] for number in present) if values else (),
    )


def _warn_of_planned_orientation(ensemble: Ensemble, case: Case) -> None:
    """Tell of files that state no orientation and get the plan's: they need not be of the planned dataset's kind."""
    stated = [member.plan.dataset.reading.assumed_orientation for member in ensemble.members]
    planned = next((one for one in stated if one is not None), None)
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
