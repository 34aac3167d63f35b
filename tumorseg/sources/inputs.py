"""From what `-i` and `-r` say to cases to predict on and label files to score: what is wrong with one refuses it alone."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError, escaped
from tumorseg.schema.dataset import Case, ChannelKind, name_fault
from tumorseg.schema.wording import shown
from tumorseg.sources.brats import is_brats_case
from tumorseg.sources.channel_matching import Matched, Wanted, match_listing
from tumorseg.sources.dicom import list_dicom, list_dicom_apart, list_dicom_labels
from tumorseg.sources.folders import Collected, Listing, Part, Problems, collecting, image_files, image_id
from tumorseg.sources.layouts import LAYOUTS, Layout, find_layout
from tumorseg.sources.nnunet import has_images
from tumorseg.sources.plain_files import plain_cases, plain_files, without_labels
from tumorseg.storage.dicom.files import is_dicom_file
from tumorseg.storage.images import strip_ending
from tumorseg.workers.outcomes import Failure

logger = logging.getLogger(__name__)

MOST_NAMED = 5
"""Files that one message names at most."""
MOST_LETTERS = 100
"""Of an id that cannot be one."""


class Inputs(NamedTuple):
    """Cases found by `-i`."""

    cases: tuple[Case, ...]
    """Sorted by id."""
    refused: tuple[Failure, ...]
    """Cases that cannot be predicted on, sorted by id."""


class Segmentations(NamedTuple):
    """Label files to be scored, or to be scored against."""

    files: dict[str, tuple[str, ...]]
    """Case id to its file, or files where it is DICOM, sorted by id."""
    refused: tuple[Failure, ...]
    """Cases that cannot be scored, sorted by id."""
    cases: Mapping[str, Case] = {}
    """Case id to what a dataset or manifest says of it: images, patient, site, columns."""


def open_inputs(
    paths: Sequence[Path],
    channels: Sequence[str],
    kinds: Sequence[ChannelKind | None] = (),
    *,
    allow_outside: bool = False,
) -> Inputs:
    """Find the cases to predict on; their labels are not looked at.

    A layout that names its channels is matched by name, whatever the case of letters; DICOM also by kind. A plain file of as many volumes
    as there are channels is a case; so are files `<id>_0000`, `<id>_0001`, … of one volume each. A file that cannot be
    read passes here and fails when its own case is predicted.

    Args:
        paths: image files, dataset folders of any layout, BraTS case folders, plain folders of images, manifests.
        channels: what the model takes, in its order.
        kinds: what made their intensities, as far as known.
        allow_outside: whether a dataset.json may name files outside its folder, itself or by links.

    Raises:
        InputError: a path is missing or holds no image, or a layout lacks a channel.
    """
    wanted = Wanted(tuple(channels), tuple(kinds or [None] * len(channels)))
    found = Matched([], [])
    loose: dict[Path, list[Path]] = {}
    for path in paths:
        if (matched := _match_layout(path, wanted, allow_outside=allow_outside)) is not None:
            _add(found, matched)
        else:
            # By folder: the channels of a case lie in one, whether it was given or each of its files.
            for file in plain_files(path):
                loose.setdefault(file.parent, []).append(file)
    for folder, files in loose.items():
        with collecting() as collected:
            matched = plain_cases(folder, without_labels(files), wanted)
        sound, refused = _sort_out(folder, collected, matched.cases, part="image")
        _add(found, Matched(sound, [*matched.refused, *refused]))
    # A path at which nothing lies has raised by now; what was left out are labels by their format.
    if not found.cases and not found.refused:
        raise InputError("found only segmentations, expected images; give the images", file=", ".join(map(str, paths)))
    return _without_repeated(found)


def open_labels(paths: Sequence[Path], *, allow_outside: bool = False, may_be_empty: bool = False) -> Segmentations:
    """Find segmentations to score, or to score against.

    Args:
        paths: as for `open_inputs`; plain files are `<case_id>.nii.gz`.
        allow_outside: as for `open_inputs`.
        may_be_empty: whether a folder may hold no file of an image.

    Raises:
        InputError: a path is missing or holds no label.
    """
    found: dict[str, list[tuple[str, ...]]] = {}
    refused: list[Failure] = []
    cases: dict[str, Case] = {}
    for path in paths:
        there = _labels_of(path, allow_outside=allow_outside, may_be_empty=may_be_empty)
        refused += there.refused
        cases |= {case.case_id: case for case in there.cases}
        for case_id, files in there.labels:
            found.setdefault(case_id, []).append(files)
    for case_id, given in found.items():
        if (fault := _label_fault(case_id, given)) is not None:
            refused.append(Failure(_printable(case_id), fault))
    refused = _one_for_each(refused)
    # Failures bear ids as they can be printed, so that is what ids are compared by.
    known = {failure.case_id for failure in refused}
    sound = {case_id: files[0] for case_id, files in sorted(found.items()) if _printable(case_id) not in known}
    return Segmentations(sound, tuple(refused), cases)


def _label_fault(case_id: str, files: Sequence[tuple[str, ...]]) -> str | None:
    """Return why the segmentations of one id cannot be scored, or None."""
    if (fault := name_fault(case_id)) is not None:
        return f"found {shown(case_id)} in {Path(files[0][0]).parent}: the name {fault}; rename the file"
    # One file may be given twice, by itself and in its folder.
    if len(set(files)) == 1:
        return None
    return _rivalry(dict.fromkeys(first for first, *_ in files))


def _rivalry(files: Iterable[str]) -> str:
    return f"found {' and '.join(files)}, expected one of them; rename or move the others away"


class _There(NamedTuple):
    """What one path holds."""

    labels: Sequence[tuple[str, tuple[str, ...]]]
    """Case id and files of each."""
    refused: Sequence[Failure] = ()
    cases: Sequence[Case] = ()
    """Those that a layout lists."""


def _labels_of(path: Path, *, allow_outside: bool, may_be_empty: bool) -> _There:
    """Return the segmentations at a path, and what is wrong with some.

    Raises:
        InputError: there are cases, and none has a label.
    """
    layout = _layout_of(path)
    if layout is None and may_be_empty and path.is_dir() and not image_files(path):
        return _There([])
    if layout is None:
        return _There([(image_id(file), (str(file),)) for file in plain_files(path)])
    if layout is LAYOUTS["DICOM"]:
        found = _There(list_dicom_labels(path))
    else:
        found = _listed_labels(path, layout, allow_outside=allow_outside)
    if not (found.labels or found.refused):
        raise InputError("found cases, but no label among them; expected reference segmentations", file=path)
    return found


def _listed_labels(path: Path, layout: Layout, *, allow_outside: bool) -> _There:
    with collecting() as collected:
        listing = layout.list_cases(path, allow_outside=allow_outside)
    sound, refused = _sort_out(path, collected, listing.cases, part="label")
    labels = [(case.case_id, case.label_files) for case in sound if case.label is not None]
    lone = [(case_id, (file,)) for case_id, file in listing.lone_labels]
    return _There([*labels, *lone], refused, sound)


def _layout_of(path: Path) -> Layout | None:
    """Return the layout of a folder, case folder, manifest or DICOM file; None for plain images, there or not."""
    if not path.exists():
        # It is called like an image, so it is one case that fails when it is read; the others go on.
        if strip_ending(path.name) is not None:
            return None
        raise InputError("no such file or folder; expected images; check the path", file=path)
    # A single case's folder is no dataset, so that no layout would know it.
    if is_brats_case(path):
        return LAYOUTS["BraTS"]
    if path.is_file() and strip_ending(path.name) is None and is_dicom_file(path):
        return LAYOUTS["DICOM"]
    layout = find_layout(path)
    return None if layout is LAYOUTS["nnU-Net"] and not has_images(path) else layout


def _match_layout(path: Path, wanted: Wanted, *, allow_outside: bool) -> Matched | None:
    """Return the cases of a path that has a layout."""
    if (layout := _layout_of(path)) is None:
        return None
    if layout is LAYOUTS["DICOM"]:
        return _match_dicom(path, wanted)
    with collecting() as collected:
        listing = layout.list_cases(path, allow_outside=allow_outside)
    sound, refused = _sort_out(path, collected, listing.cases, part="image")
    if listing.masks:
        logger.warning("%s: labels of images beside them are left out: %s", path, _some(listing.masks))
    matched = match_listing(path, listing._replace(cases=tuple(sound)), wanted)
    return Matched(matched.cases, [*matched.refused, *refused])


def _some(files: Sequence[str]) -> str:
    more = f", and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else ""
    return ", ".join(files[:MOST_NAMED]) + more


def _match_dicom(path: Path, wanted: Wanted) -> Matched:
    """Return the studies that have the channels; where they differ, each is looked at by itself."""
    try:
        with collecting() as collected:
            matched = match_listing(path, list_dicom(path), wanted)
    except InputError:
        # Collected anew: what the first attempt noted would be told twice.
        with collecting() as collected:
            listings = list_dicom_apart(path)
        matched = _match_apart(path, listings, wanted)
        # No study fits: the error about all of them says it better than one failure for each.
        if not matched.cases:
            raise
    sound, refused = _sort_out(path, collected, matched.cases, part="image")
    return Matched(sound, [*matched.refused, *refused])


def _match_apart(path: Path, listings: Iterable[Listing], wanted: Wanted) -> Matched:
    found = Matched([], [])
    for listing in listings:
        try:
            _add(found, match_listing(path, listing, wanted))
        except InputError as error:
            case_id = listing.cases[0].case_id
            found.refused.append(Failure(case_id, error.text(case_id=case_id)))
    return found


def _add(found: Matched, more: Matched) -> None:
    found.cases.extend(more.cases)
    found.refused.extend(more.refused)


def _sort_out(
    path: Path, collected: Collected, cases: Iterable[Case], *, part: Part
) -> tuple[list[Case], list[Failure]]:
    """Return the cases of which images, or labels, are sound, and what is wrong with the others; remarks are logged.

    Raises:
        InputError: something is wrong with all of them.
    """
    whole = Problems(path)
    lines: dict[str, list[str]] = {}
    for problem in collected.problems:
        # To predict, a bad label does no harm; to score, a bad image.
        if problem.part not in (None, part):
            continue
        if problem.is_remark:
            logger.warning("%s", problem.line)
        elif problem.case_id is None:
            whole.add(problem.text)
        else:
            lines.setdefault(problem.case_id, []).append(problem.text)
    whole.check()
    sound = [case for case in cases if case.case_id not in lines]
    return sound, list(_failures(lines, collected.renamed))


def _failures(lines: Mapping[str, Sequence[str]], renamed: Mapping[str, str]) -> Iterator[Failure]:
    for case_id, found in lines.items():
        yield Failure(_printable(renamed.get(case_id, case_id)), "; ".join(dict.fromkeys(found)))


def _printable(name: str) -> str:
    """Return a name without signs that speak to a terminal, or that are no text; an endless one is cut."""
    text = escaped(name)
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…"


def _without_repeated(found: Matched) -> Inputs:
    """Return cases of different ids; those that share one are refused, unless they are the same."""
    by_id: dict[str, list[Case]] = {}
    for case in found.cases:
        # Equal records are one case that was given twice, such as by its file and by its folder.
        if case not in by_id.setdefault(case.case_id, []):
            by_id[case.case_id].append(case)
    known = {failure.case_id for failure in found.refused}
    refused = list(found.refused)
    for case_id, cases in by_id.items():
        if len(cases) > 1 or case_id in known:
            refused.append(Failure(case_id, _rivalry(case.images[0].path for case in cases)))
    refused = _one_for_each(refused)
    known = {failure.case_id for failure in refused}
    sound = (cases[0] for case_id, cases in sorted(by_id.items()) if case_id not in known)
    return Inputs(tuple(sound), tuple(refused))


def _one_for_each(failures: Iterable[Failure]) -> list[Failure]:
    """Return one failure for each id, sorted."""
    by_id: dict[str, list[str]] = {}
    for failure in failures:
        by_id.setdefault(failure.case_id, []).append(failure.message)
    return [Failure(case_id, "; ".join(dict.fromkeys(found))) for case_id, found in sorted(by_id.items())]
