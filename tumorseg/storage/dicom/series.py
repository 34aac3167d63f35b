"""One DICOM image series as a volume: planes sorted by their place in the patient, never by name or number.

What is no regular stack of planes is refused. Planes that are stacked aslant, as with a tilted gantry, keep their places: the
affine is sheared then.

References:
    DICOM PS3.3, C.7.6.2.1.1: where a pixel lies; x and y of DICOM's patient are turned to RAS.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.dicom.copies import SAME_PLACE_MM, one_place, told_copies, without_copies
from tumorseg.storage.dicom.files import (
    IMAGE_CLASSES,
    KIND,
    LABEL_CLASSES,
    parts_of,
    read_dataset,
    reading,
)
from tumorseg.storage.dicom.frames import Frame, frames_of
from tumorseg.storage.dicom.headers import read_headers
from tumorseg.storage.dicom.pixels import read_frames
from tumorseg.storage.file_warnings import warn
from tumorseg.storage.formats.stored import Geometry, Stored, check_affine, damaged
from tumorseg.types import Affine, Image

MOST_UNEVEN = 0.1
"""Share of the distance between planes by which one may be off its place; where one is missing it is a third or more."""
MOST_UNEVEN_MM = 0.5
"""The same in mm, for thick slices."""
MOST_TURNED = 1e-3
"""How far the directions of two planes or, relatively, their pixel sizes may differ."""
SLANT = 1e-2
"""Tangent from which a stack counts as slanted; below is what headers round."""


class Stack(NamedTuple):
    """The planes of a series, each once, in the order of their places."""

    frames: list[Frame]
    affine: Affine
    """(4, 4), voxels (x, y, z, 1) to RAS+ mm."""
    copies: dict[str, str]
    """Files that are left out, and which they are copies of."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the voxels (Z, Y, X)."""
        return (len(self.frames), *self.frames[0].shape)

    @property
    def tilt_degrees(self) -> float:
        """Return the angle between the stack and the planes' normal; 0 unless the gantry was tilted."""
        normal = np.cross(self.affine[:3, 0], self.affine[:3, 1])
        step = self.affine[:3, 2]
        cosine = abs(float(step @ normal)) / float(np.linalg.norm(step) * np.linalg.norm(normal))
        # Rounding may carry the cosine of parallel vectors beyond 1.
        angle = float(np.arccos(min(cosine, 1.0)))
        return float(np.degrees(angle)) if np.tan(angle) > SLANT else 0.0


def open_series(file: ImageFile) -> Stored:
    """Read and check the headers of all planes.

    Files that are copies of others count once; that, and a tilted gantry, is warned of when voxels are read.

    Args:
        file: a folder and the files in it that make up the series, a folder of one series, or a file with all planes.

    Raises:
        InputError: a file is damaged, or the planes are no regular stack of grey images.
    """
    stack = read_stack(file)
    geometry = Geometry(stack.shape, stack.affine, 1)

    def read(indices: Sequence[int]) -> list[NDArray[Any]]:
        # Said when voxels are read: that is once in a command, while headers may be opened often.
        _warn(file.path, stack)
        return [_read_volume(stack.frames) for _ in indices]

    return Stored(file.path, geometry, (1.0, 0.0), read)


def read_stack(file: ImageFile) -> Stack:
    """Return the planes of a series in the order of the volume that `open_series` makes of it.

    Args:
        file: as for `open_series`.

    Raises:
        InputError: as from `open_series`.
    """
    frames: list[Frame] = []
    for path in _image_parts(file):
        with reading(path):
            dataset = read_dataset(path, has_pixels=False)
            _check_class(path, str(dataset.get("SOPClassUID", "")))
            frames += frames_of(dataset, path)
    distinct = without_copies(frames)
    ordered, affine = stack_planes(file.path, distinct.frames)
    return Stack(ordered, check_affine(file.path, affine), distinct.copies)


def stack_planes(where: str, frames: Sequence[Frame]) -> tuple[list[Frame], Affine]:
    """Return planes in the order of their places along their normal, and the affine of their stack.

    Args:
        where: the series, for messages.
        frames: at least one.

    Raises:
        InputError: they differ in size or direction, two are in one place, or one is missing.
    """
    _check_alike(where, frames)
    normal = np.cross(*frames[0].axes.T)
    normal /= np.linalg.norm(normal)
    ordered = sorted(frames, key=lambda frame: float(frame.origin @ normal))
    affine = np.eye(4)
    affine[:3, :2] = ordered[0].axes
    affine[:3, 2] = _step(where, ordered, normal)
    affine[:3, 3] = ordered[0].origin
    return ordered, affine


def _image_parts(file: ImageFile) -> list[str]:
    """Return the files of the planes; where a folder is named as a whole, its other files are left out."""
    if file.parts or not Path(file.path).is_dir():
        return parts_of(file)
    headers = list(read_headers(Path(file.path)))
    images = [header for header in headers if header.sop_class in IMAGE_CLASSES and not header.is_localizer]
    broken = [header.path for header in headers if not header.sop_class]
    found = {header.series: f"{header.modality} {header.description}".strip() for header in images}
    if len(found) != 1:
        listed = f": {', '.join(sorted(found.values()))}" if found else ""
        raise InputError(
            f"found {len(found)} image series{listed}; expected a folder of one DICOM series; "
            "give each a folder of its own",
            file=file.path,
        )
    # A damaged file may be a plane of the series: left out at an end, it would leave no gap to be seen.
    return [header.path for header in images] + broken


def _check_class(path: str, sop_class: str) -> None:
    if sop_class in LABEL_CLASSES:
        raise InputError("found a DICOM segmentation, expected an image; name it as the label", file=path)
    if not sop_class:
        raise damaged(path, KIND, "its header ends early")
    if sop_class not in IMAGE_CLASSES:
        from pydicom.uid import UID

        raise InputError(f"found {UID(sop_class).name}, expected a DICOM image of CT, MR or PET", file=path)


def _check_alike(where: str, frames: Sequence[Frame]) -> None:
    """Check that planes are parallel and equally fine as most."""
    # What most planes are is the series, so that messages name the others and not whichever comes second.
    kinds = [(frame.shape, *np.round(frame.axes, 2).ravel().tolist()) for frame in frames]
    usual = Counter(kinds).most_common(1)[0][0]
    first = frames[kinds.index(usual)]
    sizes = np.linalg.norm(first.axes, axis=0)
    for frame in frames:
        if frame.shape != first.shape:
            raise InputError(
                f"found planes of {_by(first.shape)} and of {_by(frame.shape)} pixels, expected one size; "
                f"remove what is not of the series, such as {frame.path}",
                file=where,
            )
        if not np.allclose(np.linalg.norm(frame.axes, axis=0), sizes, rtol=MOST_TURNED):
            raise InputError(
                f"found pixels of {_mm(first)} and of {_mm(frame)} mm, expected one size; "
                f"remove what is not of the series, such as {frame.path}",
                file=where,
            )
        # Twice, as the difference in size that passed above adds to that of the directions.
        if np.abs(frame.axes / sizes - first.axes / sizes).max() > 2 * MOST_TURNED:
            raise InputError(
                f"found planes that are not parallel, as in a localizer, expected one stack; "
                f"remove what is not of the series, such as {frame.path}",
                file=where,
            )


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"


def _mm(frame: Frame) -> str:
    # As in PixelSpacing, rows come first.
    return " x ".join(f"{edge:.5g}" for edge in np.linalg.norm(frame.axes, axis=0)[::-1])


def _step(where: str, ordered: Sequence[Frame], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the way in mm from a plane to the next."""
    if len(ordered) == 1:
        return normal * (ordered[0].thickness_mm or 1.0)
    origins = np.stack([frame.origin for frame in ordered])
    gaps = np.diff(origins @ normal)
    if (num_same := int((gaps < SAME_PLACE_MM).sum())) > 0:
        first = int(gaps.argmin())
        raise one_place(where, ordered[first : first + 2], num_same)
    # The whole way, not its part along the normal, so that a stack that leans keeps its lean.
    step: NDArray[np.float64] = (origins[-1] - origins[0]) / (len(ordered) - 1)
    # The median, which one gap twice as wide does not move.
    typical = float(np.median(gaps))
    allowed = min(MOST_UNEVEN * typical, MOST_UNEVEN_MM)
    # Held against a whole regular stack, since differences that no gap shows may add up.
    off = float(np.linalg.norm(origins - (origins[0] + np.arange(len(ordered))[:, None] * step), axis=1).max())
    if off > allowed:
        worst = int(np.abs(gaps - typical).argmax())
        raise InputError(
            f"found planes {gaps[worst]:.4g} mm apart between {ordered[worst].path} and {ordered[worst + 1].path}, "
            f"expected {typical:.4g} mm as elsewhere (planes are up to {off:.3g} mm off a regular stack, at most {allowed:.3g} mm "
            "are allowed); slices are missing, or do not belong; restore the series",
            file=where,
        )
    return step


def _warn(where: str, stack: Stack) -> None:
    """Tell of what does not keep a series from being read."""
    if stack.copies:
        warn(where, told_copies(stack.copies))
    if stack.tilt_degrees:
        degrees = f"{stack.tilt_degrees:.3g} degrees"
        warn(where, f"the planes are stacked aslant by {degrees} (a tilted gantry); the volume keeps this shear")


def _read_volume(ordered: Sequence[Frame]) -> Image:
    """Return float32 (Z, Y, X), each plane scaled by its own slope and intercept."""
    # By file, so that one of many frames is decoded once.
    places: dict[str, list[int]] = {}
    for place, frame in enumerate(ordered):
        places.setdefault(frame.path, []).append(place)
    volume = np.empty((len(ordered), *ordered[0].shape), np.float32)
    for path, held in places.items():
        with reading(path):
            stored = read_frames(read_dataset(path), path)
        for place in held:
            slope, intercept = ordered[place].scaling
            # What float32 cannot hold becomes infinite, which is found where intensities are.
            with np.errstate(over="ignore"):
                volume[place] = stored[ordered[place].number] * slope + intercept
    return volume
