"""Reference segmentations that know labels by name: DICOM SEG, RTSTRUCT, and 3D Slicer's segments, painted on an image's grid."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tumorseg.errors import InputError
from tumorseg.ops.painting import Overlap, OverlapError, Painted, paint_structures, wholes
from tumorseg.schema.dataset import ImageFile, repeated_values
from tumorseg.storage.dicom.files import is_dicom_file, parts_of
from tumorseg.storage.dicom.labels import open_label, summarize_label
from tumorseg.storage.file_warnings import warn
from tumorseg.storage.formats.slicer_segments import has_segments, open_segments, segment_names
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.formats.structures import Structures
from tumorseg.types import Mask, Segmentation

MOST_WHOLES = 4
"""Structures that are listed as regions at most, and labels of each."""


def label_names(files: Sequence[str]) -> set[str]:
    """Return the names of all structures in the files, or folders of files, of one reference.

    Raises:
        InputError: a file is damaged, or no segmentation.
    """
    found: set[str] = set()
    for path in _label_parts(files):
        found.update(segment_names(path) if has_segments(path) else summarize_label(path).names)
    return found


def paint_labels(
    files: Sequence[str], grid: Geometry, values: Mapping[str, int], *, paint_order: Sequence[str] = ()
) -> Segmentation:
    """Paint the structures of a reference on the grid of its image.

    Structures whose names have no value are left out, and what is painted over is lost, both with a warning.

    Args:
        files: SEG, RTSTRUCT and `.seg.nrrd` files, or folders of such.
        grid: of the image.
        values: label value of each name.
        paint_order: names in the order in which structures that overlap are painted.

    Returns:
        (Z, Y, X), 0 where nothing is.

    Raises:
        InputError: a file is damaged or does not fit the grid, no structure has a name that is asked for, two files have
            structures of one name, or it is open which of two structures lies on top.
    """
    opened = [_open(path) for path in _label_parts(files)]
    where = ", ".join(files)
    _check_names(files, opened, values)
    try:
        painted = paint_structures(_masks(opened, grid, values), values, shape=grid.shape, order=paint_order)
    except OverlapError as error:
        raise InputError(str(error), file=where) from None
    _report(files, painted)
    return painted.segmentation


def _check_names(files: Sequence[str], opened: Sequence[Structures], values: Mapping[str, int]) -> None:
    """Check that files have what is asked for, and each of it once; tell of what they have besides."""
    where = ", ".join(files)
    drawn: list[str] = []
    known: set[str] = set()
    for one in opened:
        drawn += one.names
        known.update(one.known)
    if repeated := repeated_values(drawn):
        raise InputError(
            f"found two files with structures called {', '.join(repeated[:5])}, expected one; name the one that is meant in a manifest",
            file=where,
        )
    # 3D Slicer saves a segmentation in which nothing was drawn without any segment.
    if opened and not known and all(has_segments(one.path) for one in opened):
        _warn(files, "nothing was drawn in it; it is taken for a reference without any label")
        return
    if not known & set(values):
        listed = ", ".join(sorted(known)) or "none"
        raise InputError(
            f"found the structures {listed}, expected one of {', '.join(values) or 'none'}; "
            "correct the labels of the dataset, or leave the file out",
            file=where,
        )
    if unknown := sorted(set(drawn) - set(values)):
        _warn(files, f"structures that are no labels of the dataset are left out: {', '.join(unknown)}")


def _masks(opened: list[Structures], grid: Geometry, values: Mapping[str, int]) -> Iterator[tuple[str, Mask]]:
    """Yield the structures that are labels, one after the other; files are forgotten on the way, as each holds its voxels."""
    while opened:
        one = opened.pop(0)
        for name in one.names:
            if values.get(name, 0) != 0:
                yield name, one.paint(name, grid)


def _report(files: Sequence[str], painted: Painted) -> None:
    """Tell what was painted over."""
    for overlap in painted.overlaps:
        _warn(files, _describe(overlap))
    for name, uppers in painted.hidden.items():
        _warn(files, f"nothing is left of {name}, by the stated order, under {', '.join(uppers)}")
    if whole := wholes(overlap for overlap in painted.overlaps if overlap.lower not in painted.hidden):
        sums = [f"{name} = {_shortened([name, *inner], ' + ')}" for name, inner in whole.items()]
        regions = _shortened(sums, ", ")
        _warn(
            files,
            f"labels keep what lies around others in them; each whole is predicted with --regions FILE ({regions})",
        )


def _warn(files: Sequence[str], reason: str) -> None:
    warn(files[0], reason, source=", ".join(files))


def _shortened(parts: Sequence[str], between: str) -> str:
    shown = list(parts[:MOST_WHOLES])
    if len(parts) > MOST_WHOLES:
        shown.append("…")
    return between.join(shown)


def _describe(overlap: Overlap) -> str:
    lower, upper, count, share, why = overlap
    how = {"stated": "lies over", "nested": "lies in", "touching": "touches"}[why]
    by = "is, by the stated order," if why == "stated" else "is"
    voxels = "1 voxel" if count == 1 else f"{count} voxels"
    return f"{upper} {how} {lower} ({100 * share:.3g} % of it) and {by} painted over it in {voxels}"


def _label_parts(files: Sequence[str]) -> list[str]:
    """Return the files of a reference; of folders, those that hold structures."""
    found = []
    for file in files:
        parts = parts_of(ImageFile(path=file))
        found += [part for part in parts if part == file or is_dicom_file(Path(part)) or has_segments(part)]
    return found


def _open(path: str) -> Structures:
    return open_segments(path) if has_segments(path) else open_label(path)
