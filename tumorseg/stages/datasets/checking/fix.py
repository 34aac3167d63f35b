"""A copy of a dataset in which is mended what needs no guess: headers that nearly agree, and the type of labels."""

import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tumorseg.errors import InputError
from tumorseg.ops.geometry import AS_STORED, grid_mismatch_mm
from tumorseg.ops.grids import Grid, same_voxels
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.schema.findings import FIXABLE, Finding
from tumorseg.sources.folders import collecting
from tumorseg.sources.registry import open_dataset
from tumorseg.storage import atomic
from tumorseg.storage.atomic import storage_error
from tumorseg.storage.formats.nifti_headers import form_mismatch, mend_grid
from tumorseg.storage.formats.stored import NIFTI_ENDINGS
from tumorseg.storage.hashing import case_files
from tumorseg.storage.image_writing import write_segmentation
from tumorseg.storage.images import read_geometry, read_stored_labels
from tumorseg.tracking.progress import progress

ELSEWHERE = "--fix copies whole folders; import the dataset into one first"


def check_fix_target(target: Path, place: Path, files: Sequence[str]) -> None:
    """Refuse a target that is not new, or that lies in the dataset, and a dataset that is not all in one folder.

    Args:
        target: where the copy goes.
        place: the dataset's folder or manifest.
        files: of all its cases.

    Raises:
        InputError: the copy cannot be made.
    """
    root = _root(place)
    if target.exists() and not (target.is_dir() and next(target.iterdir(), None) is None):
        raise InputError(f"--fix {target}: is there already, expected a new folder; give another")
    if target.resolve().is_relative_to(root.resolve()):
        raise InputError(f"--fix {target}: lies in the dataset's own folder {root}; give another")
    if outside := [path for path in files if _inside(path, root) is None]:
        raise InputError(f"--fix: {len(outside)} files lie outside {root}, such as {outside[0]}; {ELSEWHERE}")


def write_fixed(
    target: Path, place: Path, cases: Sequence[Case], findings: Sequence[Finding]
) -> dict[str, tuple[str, ...]]:
    """Copy a dataset, mending the files that findings name; the folder appears whole or not at all.

    Args:
        target: as checked by `check_fix_target`.
        place: the dataset's folder, of which everything is copied, or its manifest, of which only what it names is.
        cases: those whose files may be opened.
        findings: of the check.

    Returns:
        What was mended, by path relative to the target.

    Raises:
        InputError: the copy would not be the same dataset, since its description names files by absolute paths.
        StorageError: the copy cannot be written.
    """
    kinds: dict[str, set[str]] = defaultdict(set)
    for found in findings:
        if found.kind in FIXABLE and found.file is not None:
            kinds[found.file].add(found.kind)
    hidden = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        copy = hidden / target.name
        copy.mkdir()
        _copy(place, cases, copy)
        fixed = _mend(_root(place), copy, cases, kinds)
        _check_copy(place, copy, cases)
        # An empty folder, which alone may be there, gives way to it.
        copy.replace(target)
    except OSError as error:
        raise storage_error(target, error) from error
    finally:
        if hidden is not None:
            shutil.rmtree(hidden, ignore_errors=True)
    return fixed


def _root(place: Path) -> Path:
    return place if place.is_dir() else place.parent


def _inside(path: str, root: Path) -> Path | None:
    """Return a file's path relative to the dataset's folder, or None where it lies outside."""
    relative = Path(os.path.relpath(path, root))
    return None if ".." in relative.parts or relative.is_absolute() else relative


def _copy(place: Path, cases: Sequence[Case], copy: Path) -> None:
    """Copy what belongs to a dataset; what is not there stays missing."""
    files = dict.fromkeys([*_own_files(place), *_named_files(place, cases)])
    with progress("copy", len(files)) as advance:
        for relative in files:
            (copy / relative).parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(copy / relative, (_root(place) / relative).read_bytes())
            advance()


def _own_files(place: Path) -> Iterator[Path]:
    """Yield all that lies in a dataset's folder, but for links that lead out of it; of a manifest, the file itself."""
    if not place.is_dir():
        yield Path(place.name)
        return
    for folder, _, names in os.walk(place):
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_file() and path.resolve().is_relative_to(place.resolve()):
                yield path.relative_to(place)


def _named_files(place: Path, cases: Sequence[Case]) -> Iterator[Path]:
    """Yield the cases' files, wherever links lead."""
    for case in cases:
        for path in case_files(case):
            relative = _inside(path, _root(place))
            if relative is not None and Path(path).is_file():
                yield relative


def _mend(root: Path, copy: Path, cases: Sequence[Case], kinds: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    """Mend the files of a copy, images first: labels are laid on the mended grids."""
    fixed: dict[str, tuple[str, ...]] = {}
    users: Counter[str] = Counter()
    for case in cases:
        # A set, since several channels of a case may be volumes of one file.
        users.update({*(file.path for file in case.images), *case.label_files})
    for case in cases:
        paths = [file.path for file in case.images]
        if case.label:
            paths.append(case.label)
        for path in dict.fromkeys(paths):
            relative = _inside(path, root)
            if relative is None or not kinds.get(path) or str(relative) in fixed:
                continue
            image = _nearest_grid(case, path, root)
            grid = copy / image if image and users[path] == 1 else None  # a label of two cases has two grids
            done = _mend_file(copy / relative, path, kinds[path], grid)
            if done:
                fixed[str(relative)] = done
    return fixed


def _nearest_grid(case: Case, path: str, root: Path) -> Path | None:
    """Return the image, relative to the dataset's folder, off whose voxels a file lies by the least; None if off all of them."""
    grid = _grid_in(path)
    if grid is None:
        return None
    off_mm: dict[str, float] = {}
    for file in case.images:
        onto = _grid_in(file.path)
        if onto is not None and same_voxels(grid, onto) == AS_STORED:
            off_mm[file.path] = grid_mismatch_mm(grid.affine, onto.affine, grid.shape)
    return _inside(min(off_mm, key=lambda other: off_mm[other]), root) if off_mm else None


def _grid_in(path: str) -> Grid | None:
    """Return the voxels of a file; None where its header cannot be read."""
    try:
        geometry = read_geometry(path)
    except InputError:
        return None
    return Grid(geometry.shape, geometry.affine)


def _mend_file(path: Path, source: str, kinds: set[str], image: Path | None) -> tuple[str, ...]:
    """Mend one file of the copy and return what was done."""
    done = []
    if "label_type" in kinds:
        write_segmentation(path, read_stored_labels(source), like=ImageFile(path=source))
        done.append("labels stored as integers")
    is_nifti = path.name.lower().endswith(NIFTI_ENDINGS)
    if "label_header" in kinds and is_nifti and image is not None and image.name.lower().endswith(NIFTI_ENDINGS):
        mend_grid(path, source=str(path), grid=image)
        done.append(f"header's grid taken from {image.name}")
    elif "forms_disagree" in kinds and is_nifti and not _is_mirrored(path):
        mend_grid(path, source=str(path))
        done.append("qform made what the sform says")
    return tuple(done)


def _is_mirrored(path: Path) -> bool:
    """Tell whether sform and qform are mirror images: which side is left is then a guess, though the sform counts."""
    found = form_mismatch(str(path))
    return found is not None and found.is_mirrored


def _check_copy(place: Path, copy: Path, cases: Sequence[Case]) -> None:
    """Open the copy and see that it holds the same cases, each with files of its own.

    Raises:
        InputError: it does not.
    """
    # Collected and forgotten: what was wrong with the original is wrong with its copy.
    with collecting():
        copied = open_dataset(str(copy if place.is_dir() else copy / place.name), copy)
    held = {case.case_id: case for case in copied.cases}
    lost: list[str] = []
    strays: list[str] = []
    for case in cases:
        if case.case_id in held:
            strays += [path for path in case_files(held[case.case_id]) if _inside(path, copy) is None]
        else:
            lost.append(case.case_id)
    if lost or strays:
        raise InputError(
            f"--fix: {place} names files by absolute paths, such as {', '.join([*strays, *lost][:1])}; {ELSEWHERE}"
        )
