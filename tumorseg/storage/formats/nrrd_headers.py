"""Axes of a NRRD header and their directions in the world.

References:
    The NRRD format (teem.sourceforge.net/nrrd/format.html), sections 3 to 5.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.storage.formats.assumed import Doubt
from tumorseg.storage.formats.header_text import header_lines, integers, millimetres, numbers
from tumorseg.types import Affine

MAGIC = "NRRD"
RAS = (1.0, 1.0, 1.0)
LAS = (-1.0, 1.0, 1.0)
LPS = (-1.0, -1.0, 1.0)
SPACES = {
    "right-anterior-superior": RAS,
    "ras": RAS,
    "left-anterior-superior": LAS,
    "las": LAS,
    "left-posterior-superior": LPS,
    "lps": LPS,
}
"""Signs that turn the coordinates of a space into RAS."""
NOT_THE_PATIENTS = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
"""Spaces that do not say where the patient lies in them."""
TIMED = ("-time", "-t")
TIMED_SHORT = ("rast", "last", "lpst")
DOMAIN_KINDS = ("domain", "space", "time", "none", "???")
"""Kinds of axes along which voxels follow each other; along others lie the numbers of a voxel."""
MOST_AXES = 16
"""That the format knows."""
VECTOR = re.compile(r"\([^()]*\)|none")
"""Without a bracket inside, or each of a million open ones would be followed to the end of the line."""
SEPARATOR = re.compile(r":=|:\s")
"""What ends the key of a pair of free text, or the name of a field; either may contain a colon."""
QUOTED = re.compile(r'"([^"]*)"')


class NrrdHeader(NamedTuple):
    """The fields of a header, by name without blanks, in small letters."""

    path: str
    fields: dict[str, str]
    end: int
    """Where the text ends, in bytes."""
    sizes: list[int]
    """Voxels along each axis, the fastest first."""


class NrrdAxes(NamedTuple):
    """Spatial axes of a NRRD file, and the axis of its channels."""

    spatial: tuple[int, ...]
    """Two or three."""
    channels: int | None
    """Along which the numbers of a voxel lie, if it has several."""


def read_header(path: str) -> NrrdHeader:
    """Read a header.

    Raises:
        InputError: it has no sizes.
        OSError: the file cannot be read.
        EOFError: it does not begin as NRRD does.
    """
    lines = header_lines(path)
    magic, end = next(lines, ("", 0))
    if not magic.startswith(MAGIC):
        raise EOFError("it does not begin like that")
    fields = {}
    for line, position in lines:
        end = position
        if not line:
            break
        found = SEPARATOR.search(line)
        separator = found[0] if found else ":"
        name, is_field, value = line.partition(separator)
        # `key:=value` is free text, `#` a comment
        if is_field and not line.startswith("#") and separator != ":=":
            key = name.replace(" ", "").lower()
            if key in fields:
                raise InputError(
                    f"found the field {name[:60]!r} twice in its header, expected it once; mend the header", file=path
                )
            fields[key] = value.strip()
    count = integers(path, "dimension", fields.get("dimension", ""), 1)[0]
    if not 1 <= count <= MOST_AXES:
        raise InputError(f"found {count} axes, expected 2 to 4; split the file, or mend the header", file=path)
    sizes = integers(path, "sizes", fields.get("sizes", ""), count)
    if min(sizes) < 1:
        raise InputError(
            f"found the sizes {sizes}, expected at least one voxel along each axis; mend the header", file=path
        )
    return NrrdHeader(path, fields, end, sizes)


def axes_of(header: NrrdHeader) -> NrrdAxes:
    """Return which axes are x, y, z, and which is that of channels.

    Raises:
        InputError: there are others.
    """
    directions, kinds = _directions(header), header.fields.get("kinds", "").lower().split()
    if directions is not None:
        spatial = tuple(axis for axis, direction in enumerate(directions) if direction is not None)
    else:
        # A header may name the kinds of fewer axes than it has, or of none.
        kinds += ["none"] * (len(header.sizes) - len(kinds))
        spatial = tuple(axis for axis, kind in enumerate(kinds[: len(header.sizes)]) if kind in DOMAIN_KINDS)
    others = [axis for axis in range(len(header.sizes)) if axis not in spatial]
    if "complex" in kinds:
        raise InputError("found complex numbers, expected real ones; store their magnitude", file=header.path)
    if len(spatial) not in (2, 3) or len(others) > 1:
        raise InputError(
            f"found {len(header.sizes)} axes, {len(spatial)} of them of space; expected 2 or 3, and at most one of "
            "the numbers of a voxel (`kinds`: list, vector, …); split the file, or mend the header",
            file=header.path,
        )
    return NrrdAxes(spatial, others[0] if others else None)


def affine_of(header: NrrdHeader, axes: NrrdAxes) -> tuple[Affine, Doubt | None]:
    """Return where voxels lie, in RAS+ mm, and why that is in doubt.

    A space that is not the patient's, or none, is taken for LPS, as ITK does.

    Raises:
        InputError: what the header says of it contradicts itself, or is in units that are not known.
    """
    path, fields = header.path, header.fields
    space = fields.get("space", "").lower()
    if space.endswith(TIMED) or space in TIMED_SHORT:
        raise InputError(f"found the space {space[:60]!r}, expected one without time; split the file", file=path)
    if space and space not in SPACES and space not in NOT_THE_PATIENTS:
        known = ", ".join((*SPACES, *NOT_THE_PATIENTS))
        raise InputError(f"found the space {space[:60]!r}, expected one of {known}; mend the header", file=path)
    _space_dimension(header)  # must make sense even where nothing is measured by it
    directions = _directions(header)
    if directions is None:
        columns, origin = _scalar_grid(header, axes)
    else:
        columns, origin = _oriented_grid(header, [directions[axis] or [] for axis in axes.spatial])
    signs = SPACES.get(space, LPS)
    return np.diag([*signs, 1.0]) @ _complete(columns, origin), _doubt(space, has_directions=directions is not None)


def _doubt(space: str, *, has_directions: bool) -> Doubt | None:
    if space in NOT_THE_PATIENTS:
        return Doubt(f"space is {space}, which is not the patient's", is_usual=False)
    if not space:
        return Doubt("the header names no space")
    return None if has_directions else Doubt("the header has no space directions")


def _directions(header: NrrdHeader) -> list[list[float] | None] | None:
    """Return the step along each axis in the space's own units; None for axes, or headers, without."""
    text = header.fields.get("spacedirections")
    if text is None:
        return None
    words = VECTOR.findall(text)
    if len(words) != len(header.sizes):
        raise InputError(
            f"found {len(words)} space directions, expected one for each of {len(header.sizes)} axes; mend the header",
            file=header.path,
        )
    return [None if word == "none" else _vector(header, "space directions", word) for word in words]


def _vector(header: NrrdHeader, key: str, text: str) -> list[float]:
    vector = text.strip("() ")
    return numbers(header.path, key, vector, _space_dimension(header))


def _space_dimension(header: NrrdHeader) -> int:
    stated = header.fields.get("spacedimension")
    count = 3 if stated is None else integers(header.path, "space dimension", stated, 1)[0]
    if count not in (2, 3):
        raise InputError(f"found a space of {count} dimensions, expected 2 or 3; split the file", file=header.path)
    return count


def _oriented_grid(header: NrrdHeader, directions: Sequence[list[float]]) -> tuple[Affine, Affine]:
    """Return the steps along x, y, z as columns, and the origin, in mm of the header's space."""
    path, fields = header.path, header.fields
    count = _space_dimension(header)
    units = QUOTED.findall(fields.get("spaceunits", ""))
    if "spaceunits" in fields and len(units) != count:
        raise InputError(
            f"found space units {fields['spaceunits'][:60]}, expected {count} in quotes; mend the header", file=path
        )
    if any(_units(header, list(range(len(header.sizes))))):
        raise InputError("found units beside space directions, expected space units; mend the header", file=path)
    factors = np.array(millimetres(path, "space units", units) or [1.0] * count)
    stated = fields.get("spaceorigin", "none")
    origin = [0.0] * count if stated == "none" else _vector(header, "space origin", stated)
    return factors[:, None] * np.array(directions).T, factors * np.array(origin)


def _scalar_grid(header: NrrdHeader, axes: NrrdAxes) -> tuple[Affine, Affine]:
    """Return the steps along x, y, z, and the origin, in mm, of a header that knows no directions."""
    factors = millimetres(header.path, "units", _units(header, axes.spatial) or [""] * len(axes.spatial))
    least, most, spacings = (_per_axis(header, name) for name in ("axismins", "axismaxs", "spacings"))
    centers = header.fields.get("centerings", header.fields.get("centers", "")).lower().split()
    centers += ["cell"] * (len(header.sizes) - len(centers))  # teem's default
    steps, starts = [], []
    for axis, factor in zip(axes.spatial, factors, strict=True):
        is_node = centers[axis] == "node"
        step = spacings[axis]
        if math.isnan(step):
            # `axis mins` and `axis maxs` are the outer nodes, one step fewer than nodes, or the outer borders of cells.
            steps_between = max(header.sizes[axis] - is_node, 1)
            step = (most[axis] - least[axis]) / steps_between
        if math.isnan(step) and "spacings" in header.fields and header.sizes[axis] > 1:
            raise InputError(f"found the spacing nan along axis {axis}, expected mm; mend the header", file=header.path)
        step = 1.0 if math.isnan(step) else step
        start = 0.0
        if not math.isnan(least[axis]):
            start = least[axis] + (0 if is_node else step / 2)
        steps.append(factor * step)
        starts.append(factor * start)
    return np.diag(steps), np.array(starts)


def _units(header: NrrdHeader, axes: Sequence[int]) -> list[str]:
    """Return the units of axes; none where the header has no such field."""
    units = QUOTED.findall(header.fields.get("units", ""))
    if "units" in header.fields and len(units) != len(header.sizes):
        raise InputError(
            f"found {len(units)} units in quotes, expected one for each axis; mend the header", file=header.path
        )
    return [units[axis] for axis in axes] if units else []


def _per_axis(header: NrrdHeader, name: str) -> list[float]:
    """Return a number for each axis; NaN where none is stated."""
    text = header.fields.get(name)
    if text is None:
        return [math.nan] * len(header.sizes)
    return numbers(header.path, name, text, len(header.sizes), may_be_nan=True)


def _complete(columns: Affine, origin: Affine) -> Affine:
    """Return the (4, 4) affine of two or three columns; a missing third axis is 1 mm along the normal."""
    affine = np.eye(4)
    affine[: columns.shape[0], : columns.shape[1]] = columns
    affine[: len(origin), 3] = origin
    if columns.shape == (3, 2):
        normal = np.cross(columns[:, 0], columns[:, 1])
        affine[:3, 2] = normal / (np.linalg.norm(normal) or 1)
    return affine
