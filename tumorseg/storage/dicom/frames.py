"""Positions of the planes of a DICOM file in the patient, and the scaling of its pixels to values.

An old kind of file is one plane; in an enhanced file, and in a segmentation, each frame says so for itself or all share it.

References:
    DICOM PS3.3: C.7.6.2 (Image Plane), C.7.6.16 (Multi-frame Functional Groups), C.11.1 (Modality LUT).
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.ops.geometry import EDGE_DECIMALS, is_edge
from tumorseg.storage.dicom.files import KIND
from tumorseg.storage.dicom.pixels import check_claim, num_frames
from tumorseg.storage.formats.stored import damaged

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
MOST_MM = 1e9
"""Beyond which no coordinate is a place."""
MOST_SHOWN = 16
"""Numbers that a message lists."""
PERPENDICULAR = 1e-3
"""How far the two directions of a plane may be from perpendicular unit vectors."""


FACTS = (
    ("MREchoSequence", "EffectiveEchoTime"),
    ("", "EchoTime"),
    ("", "EchoNumbers"),
    ("FrameContentSequence", "TemporalPositionIndex"),
    ("", "TemporalPositionIdentifier"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("", "TriggerTime"),
    ("", "NominalPercentageOfCardiacPhase"),
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("", "InversionTime"),
    ("", "FlipAngle"),
    ("", "ConvolutionKernel"),
    ("", "KVP"),
    ("", "ContrastBolusAgent"),
    ("", "AcquisitionNumber"),
    ("FrameContentSequence", "FrameAcquisitionNumber"),
    ("", "ImageType"),
    ("PixelValueTransformationSequence", "RescaleSlope"),
    ("PixelValueTransformationSequence", "RescaleIntercept"),
    ("", "AcquisitionTime"),
    ("", "ContentTime"),
    ("", "InstanceNumber"),
    ("", "SOPInstanceUID"),
)
"""Group and name of what may set planes in one place apart, what says most first."""


class Frame(NamedTuple):
    """One plane of pixels."""

    path: str
    """Its file."""
    number: int
    """Of the frames in the file, from 0."""
    shape: tuple[int, int]
    """Rows and columns."""
    origin: NDArray[np.float64]
    """(3,) RAS+ mm, the centre of the first pixel."""
    axes: NDArray[np.float64]
    """(3, 2) RAS+ mm, from a pixel to that of the next column, and of the next row."""
    thickness_mm: float | None
    """From this plane to the next, as far as one file knows."""
    scaling: tuple[float, float]
    """Slope and intercept from stored to real values."""
    facts: tuple[tuple[str, str], ...] = ()
    """What sets planes in one place apart, by the names of elements, as far as the file says."""


def frames_of(dataset: Any, path: str) -> list[Frame]:
    """Return the planes of a file. To be called in `reading`.

    Raises:
        InputError: what says where they lie is missing or senseless, or they are in colour.
    """
    if "Rows" not in dataset:
        raise damaged(path, KIND, "its header ends early")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise InputError("found a colour image, expected one of grey values; leave it out, or convert it", file=path)
    check_claim(dataset, path, Path(path).stat().st_size)
    if "PerFrameFunctionalGroupsSequence" in dataset:
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
        groups = dataset.PerFrameFunctionalGroupsSequence
        if len(groups) != num_frames(dataset):
            raise InputError(
                f"found places of {len(groups)} of its {num_frames(dataset)} frames; export it again", file=path
            )
        return [_frame(_Grouped(own, shared), dataset, path, number=number) for number, own in enumerate(groups)]
    if num_frames(dataset) > 1:
        raise InputError(
            f"found {num_frames(dataset)} frames without a place each; export it as single slices", file=path
        )
    return [_frame(_Flat(dataset), dataset, path, number=0)]


def stated(dataset: Any, number: int, group: str, name: str) -> Any:
    """Return what a frame states of its place, by itself or with all others of its file; None where nothing does.

    To be called in `reading`.

    Args:
        dataset: the file.
        number: of the frame, from 0.
        group: of an enhanced file, in which the element stands: `PlanePositionSequence`, ….
        name: of the element.
    """
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return dataset.get(name)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    return _Grouped(dataset.PerFrameFunctionalGroupsSequence[number], shared).find(group, name)


class _Flat(NamedTuple):
    """Looks elements up in the header of a file of one plane."""

    dataset: Any

    def find(self, group: str, name: str) -> Any:
        return self.dataset.get(name)


class _Grouped(NamedTuple):
    """Looks elements up in a frame's own groups, then in those that all frames share."""

    own: Any
    shared: Any

    def find(self, group: str, name: str) -> Any:
        found = self.own.get(group) or self.shared.get(group)
        return found[0].get(name) if found else None


def _frame(place: _Flat | _Grouped, dataset: Any, path: str, *, number: int) -> Frame:
    position = _numbers(place, "PlanePositionSequence", "ImagePositionPatient", count=3, path=path)
    cosines = _numbers(place, "PlaneOrientationSequence", "ImageOrientationPatient", count=6, path=path)
    row_mm, column_mm = _numbers(place, "PixelMeasuresSequence", "PixelSpacing", count=2, path=path)
    directions = cosines.reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > PERPENDICULAR:
        raise InputError(
            f"found ImageOrientationPatient {cosines.tolist()}, expected two perpendicular unit vectors; mend the header",
            file=path,
        )
    if not is_edge(float(min(row_mm, column_mm))):
        found = f"found PixelSpacing {[float(row_mm), float(column_mm)]}"
        least = f"{10**-EDGE_DECIMALS:g} at least"
        raise InputError(f"{found}, expected millimetres, {least}; mend the header", file=path, kind="bad_affine")
    # Slices may overlap or leave gaps, so their distance says more than their thickness; some write it as negative.
    between = [place.find("PixelMeasuresSequence", name) for name in ("SpacingBetweenSlices", "SliceThickness")]
    thickness_mm = next((abs(float(value)) for value in between if value), None)
    # PixelSpacing begins with the step from row to row, ImageOrientationPatient with the direction along a row.
    axes = directions.T * [column_mm, row_mm]
    return Frame(
        path,
        number,
        (int(dataset.Rows), int(dataset.Columns)),
        LPS_TO_RAS @ position,
        LPS_TO_RAS @ axes,
        thickness_mm,
        _scaling(place, dataset, path),
        _facts(place, dataset),
    )


def _facts(place: _Flat | _Grouped, dataset: Any) -> tuple[tuple[str, str], ...]:
    facts = []
    for group, name in FACTS:
        value = place.find(group, name) if group else dataset.get(name)
        if value not in (None, ""):
            facts.append((name, str(value)))
    return tuple(facts)


def _numbers(place: _Flat | _Grouped, group: str, name: str, *, count: int, path: str) -> NDArray[np.float64]:
    """Return an element's finite values."""
    found = place.find(group, name)
    values = np.array([float(value) for value in found or ()])
    if values.size != count or not (np.abs(values) < MOST_MM).all():
        shown = values.tolist() if values.size <= MOST_SHOWN else f"{values.size} numbers"
        state = "no" if found is None else f"{shown} as"
        raise InputError(
            f"found {state} {name}, expected {count} numbers below {MOST_MM:g}; without it no plane has a place; mend it",
            file=path,
        )
    return values


def _scaling(place: _Flat | _Grouped, dataset: Any, path: str) -> tuple[float, float]:
    if "ModalityLUTSequence" in dataset:
        raise InputError(
            "found a table of values (Modality LUT), expected a rescale slope; convert the image", file=path
        )
    names = ("RescaleSlope", "RescaleIntercept")
    found = [place.find("PixelValueTransformationSequence", name) for name in names]
    if found == [None, None]:  # some enhanced files say it once for all, against the standard
        found = [dataset.get(name) for name in names]
    slope = 1.0 if found[0] is None else float(found[0])
    intercept = 0.0 if found[1] is None else float(found[1])
    if not slope or not np.isfinite([slope, intercept]).all():
        raise InputError(
            f"found RescaleSlope {slope}, RescaleIntercept {intercept}; expected others; mend it", file=path
        )
    return slope, intercept
