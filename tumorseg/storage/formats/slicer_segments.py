"""3D Slicer's segmentations (`.seg.nrrd`): NRRD whose header describes segments.

The header gives each segment a name, a layer and a value in it. Values differ between files, so that segments are known by their names. Segments that
overlap are in different layers; the voxels may be only that part of the image where segments are.

References:
    3D Slicer's documentation, "Segmentations": the file format.
    The NRRD format, section 5: key/value pairs, and what is escaped in them.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.ops.grids import Grid
from tumorseg.ops.labels import count_values
from tumorseg.ops.placement import Placement, find_placement, place
from tumorseg.storage.file_warnings import warn
from tumorseg.storage.formats.itk import open_itk
from tumorseg.storage.formats.stored import Geometry, Stored
from tumorseg.storage.formats.structures import BACKGROUND, Structures, foreground, plain_name
from tumorseg.types import Mask

ENDING = ".nrrd"
LABEL_ENDINGS = (".seg.nrrd",)
"""How the name of a file ends that is a label, never an image."""
MAGIC = b"NRRD"
SEGMENTATION_KEY = "Segmentation_"
"""How keys begin that are of the segmentation as a whole; a file that nothing was drawn in has no others."""
SEGMENT_KEY = re.compile(r"Segment(\d{1,18})_(\w+)")
"""Python refuses to make an integer of thousands of digits."""
ESCAPED = re.compile(r"\\([\\n])")
MOST_HEADER_BYTES = 1 << 24
REPRESENTATIONS = ("Segmentation_SourceRepresentation", "Segmentation_MasterRepresentation")
"""Keys that say what voxels mean, in newer and in older files."""
FRACTIONAL = "fractional labelmap"
MOST_LISTED = 5
"""Values that a message lists at most."""


class _Segment(NamedTuple):
    """One segment as its header describes it."""

    name: str
    layer: int
    value: int | None
    """None in files from before 2020 (4.10), where each segment has a layer to itself."""


def has_segments(path: str) -> bool:
    """Tell whether a file is NRRD whose header describes segments, or says that there are none; what cannot be read is none."""
    keys = [key for key, _ in _fields(path)] if path.lower().endswith(ENDING) else []
    if any(map(SEGMENT_KEY.fullmatch, keys)):
        return True
    return any(key.startswith(SEGMENTATION_KEY) for key in keys) and _has_one_voxel(path)


def _has_one_voxel(path: str) -> bool:
    try:
        return _is_one_voxel(open_itk(path))
    except InputError:
        return False


def _is_one_voxel(stored: Stored) -> bool:
    """Tell whether all segments are empty, or there is none: a file without any voxel cannot be written."""
    return math.prod(stored.geometry.shape) == 1


def segment_names(path: str) -> tuple[str, ...]:
    """Return the names of a file's segments, the background's aside.

    Raises:
        InputError: the header is damaged.
    """
    open_itk(path)
    return foreground(segment.name for segment in _segments(path, dict(_fields(path))))


def open_segments(path: str) -> Structures:
    """Read the header of a file; its voxels are read when the first segment is painted.

    Segments of one name are united, values that no segment has are left out, both with a warning.

    Raises:
        InputError: the file is damaged, or contradicts itself; also as a segment is painted.
    """
    stored = open_itk(path)
    fields = dict(_fields(path))
    segments = _segments(path, fields)
    if any(fields.get(key, "").casefold() == FRACTIONAL for key in REPRESENTATIONS):
        raise InputError("found a fractional labelmap, expected a binary one; convert it in 3D Slicer", file=path)
    names = foreground(segment.name for segment in segments)
    if _is_one_voxel(stored):
        return Structures(path, (), names, lambda _, grid: np.zeros(grid.shape, np.bool_))
    _check_layers(path, segments, stored)
    _warn_of_repeated(path, segments)
    read = cache(lambda: _read_layers(stored, segments))
    return Structures(path, names, names, lambda name, grid: _paint(stored, segments, read(), name=name, grid=grid))


def _read_layers(stored: Stored, segments: Sequence[_Segment]) -> list[NDArray[Any]]:
    layers = [_as_integers(stored.path, layer) for layer in stored.read(range(stored.geometry.num_volumes))]
    _check_values(stored.path, segments, layers)
    return layers


def _paint(
    stored: Stored, segments: Sequence[_Segment], layers: Sequence[NDArray[Any]], *, name: str, grid: Geometry
) -> Mask:
    """Return the voxels of the segments of a name on the grid of an image."""
    mask = np.zeros(grid.shape, np.bool_)
    placement = _placement(stored, grid)
    for segment in segments:
        if segment.name == name and (outside := place(_inside(segment, layers), placement, mask)):
            raise InputError(
                f"{name}: found {outside} voxels outside the image, expected them inside; is it of another image?",
                file=stored.path,
            )
    return mask


def _placement(stored: Stored, grid: Geometry) -> Placement:
    own = Grid(stored.geometry.shape, stored.geometry.affine)
    if stored.doubt is not None:
        raise InputError(
            f"it is not known where its segments lie: {stored.doubt.reason}; expected a space of the patient, with directions "
            "and an origin, which --assume-orientation cannot tell; mend the header in the program that wrote it",
            file=stored.path,
        )
    try:
        return find_placement(own, Grid(grid.shape, grid.affine))
    except InputError as error:
        raise InputError(
            f"{error}, expected segments on the image's own voxels; is it of another image? in 3D Slicer, set the "
            "image as the segmentation's source geometry",
            file=stored.path,
        ) from None


def _inside(segment: _Segment, layers: Sequence[NDArray[Any]]) -> Mask:
    layer = layers[segment.layer]
    return np.asarray(layer != 0 if segment.value is None else layer == segment.value)


def _segments(path: str, fields: dict[str, str]) -> list[_Segment]:
    """Return what a header describes, by the numbers of segments."""
    found: dict[int, dict[str, str]] = {}
    for key, value in fields.items():
        if match := SEGMENT_KEY.fullmatch(key):
            found.setdefault(int(match[1]), {})[match[2]] = value
    return [_segment(path, number, found[number], place=place) for place, number in enumerate(sorted(found))]


def _segment(path: str, number: int, stated: dict[str, str], *, place: int) -> _Segment:
    name = plain_name(stated.get("Name", "")) or plain_name(stated.get("ID", "")) or f"segment {number}"
    value = _integer(path, f"Segment{number}_LabelValue", stated["LabelValue"]) if "LabelValue" in stated else None
    if value == 0:
        raise InputError(f"{name}: found the label value 0, which is the background; save it again", file=path)
    # What states no layer lies in the only one, or, where there are no values either, in one of its own.
    layer = _integer(path, f"Segment{number}_Layer", stated.get("Layer", "0" if value is not None else str(place)))
    return _Segment(name, layer, value)


def _integer(path: str, key: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"found {key} {text[:40]!r}, expected an integer; save it again", file=path) from None


def _check_layers(path: str, segments: Sequence[_Segment], stored: Stored) -> None:
    """Check that all layers are there."""
    count = stored.geometry.num_volumes
    if beyond := [segment for segment in segments if not 0 <= segment.layer < count]:
        name, layer, value = beyond[0]
        missing = "" if value is not None else ", nor a label value in another"
        raise InputError(
            f"{name}: found no layer {layer}{missing}: the file has {count} layer(s); expected one for it; save it again",
            file=path,
        )


def _warn_of_repeated(path: str, segments: Sequence[_Segment]) -> None:
    counts = Counter(segment.name for segment in segments if segment.name.casefold() != BACKGROUND)
    if repeated := [f"{name} ({count})" for name, count in sorted(counts.items()) if count > 1]:
        warn(path, f"segments of one name are united: {', '.join(repeated)}")


def _as_integers(path: str, layer: NDArray[Any]) -> NDArray[Any]:
    if layer.dtype.kind != "f":
        return layer
    with np.errstate(invalid="ignore"):
        # Negated, so that NaN, which equals nothing, counts as off.
        is_off = ~((layer == np.rint(layer)) & (np.abs(layer) < 2**31))
    if is_off.any():
        raise InputError(
            f"found the value {layer[is_off][0]:g}, expected integers; save it again as a segmentation", file=path
        )
    return layer.astype(np.int32)


def _check_values(path: str, segments: Sequence[_Segment], layers: Sequence[NDArray[Any]]) -> None:
    """Check that it is plain which voxels belong to which segment, and tell of those that belong to none."""
    unknown = []
    for number, layer in enumerate(layers):
        held = [segment for segment in segments if segment.layer == number]
        nameless = sorted(set(count_values(layer)[0]) - {0} - {segment.value for segment in held})
        bare = next((segment.name for segment in held if segment.value is None), None)
        if bare is None:
            unknown += nameless
        # In files without values the one value of a layer is its segment's.
        elif len(nameless) > 1:
            raise InputError(
                f"{bare}: found the values {_listed(nameless)} in its layer and no label value of its own, expected one of the "
                "two; save it again with a newer version of 3D Slicer",
                file=path,
            )
    if unknown:
        warn(path, f"values that no segment has are left out: {_listed(sorted(set(unknown)))}")


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:MOST_LISTED])) + (", …" if len(values) > MOST_LISTED else "")


def _fields(path: str) -> Iterator[tuple[str, str]]:
    """Yield the key/value pairs of a header; none where the file is no NRRD or cannot be read."""
    try:
        with Path(path).open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return
            # an empty line ends the header
            for line in iter(lambda: file.readline(MOST_HEADER_BYTES).rstrip(b"\r\n"), b""):
                key, is_pair, value = line.partition(b":=")
                if is_pair and not line.startswith(b"#"):
                    yield _text(key).strip(), ESCAPED.sub(_unescape, _text(value))
    except OSError:
        return


def _unescape(match: "re.Match[str]") -> str:
    return "\n" if match[1] == "n" else "\\"


def _text(part: bytes) -> str:
    try:
        return part.decode("utf-8")
    except UnicodeDecodeError:
        return part.decode("latin-1")
