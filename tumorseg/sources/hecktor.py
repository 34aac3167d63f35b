"""The layouts of HECKTOR: CT and PET of head and neck, on grids of their own; PET is brought onto the CT's when it is read.

| year | images | label |
|---|---|---|
| 2022 | `imagesTr/<id>__CT.nii.gz`, `<id>__PT.nii.gz` | `labelsTr/<id>.nii.gz`: 1 GTVp, 2 GTVn |
| 2021 | `<id>_ct.nii.gz`, `<id>_pt.nii.gz`, maybe in `hecktor_nii/` | `<id>_gtvt.nii.gz`: 1 GTVp |

An id begins with the centre's letters, which become the case's site.

References:
    Andrearczyk et al., Overview of the HECKTOR challenge at MICCAI 2022, arXiv:2201.04138 (2021) and LNCS 13626 (2022).
"""

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from tumorseg.schema.dataset import Case, Channel, Dataset, ImageFile
from tumorseg.sources.folders import (
    Listing,
    Problems,
    build_case,
    build_dataset,
    find_image,
    find_label,
    find_rivals,
    folder_name,
    image_files,
    image_id,
    is_there,
    note_or_warn,
)
from tumorseg.sources.leaving_out import is_left_out, used

NEEDS = "imagesTr/<id>__CT.nii.gz and __PT, labelsTr/<id>.nii.gz (2021: <id>_ct.nii.gz, _pt, _gtvt)"
CHANNELS = (Channel(name="CT", kind="ct"), Channel(name="PT", kind="pet"))
"""In the order in which networks see them; the first gives the grid."""
SITE = re.compile(r"[A-Za-z]+")


class Convention(NamedTuple):
    """Folders, file names and labels of one year."""

    images: str
    """Folder of the images, below the dataset's."""
    tests: str | None
    """Folder of the test images."""
    endings: tuple[str, str]
    """What follows the id, for CT and PET."""
    labels: str
    """Folder of the labels."""
    label_ending: str
    names: tuple[str, ...]
    """Labels 1 and up."""


CONVENTIONS = (
    Convention("imagesTr", "imagesTs", ("__CT", "__PT"), "labelsTr", "", ("GTVp", "GTVn")),
    Convention("hecktor_nii", None, ("_ct", "_pt"), "hecktor_nii", "_gtvt", ("GTVp",)),
    Convention(".", None, ("_ct", "_pt"), ".", "_gtvt", ("GTVp",)),
)


def is_hecktor(folder: Path) -> bool:
    """Tell whether a folder holds CT and PET files called as in HECKTOR."""
    return _convention_of(folder) is not None


def read_hecktor(folder: Path) -> Dataset:
    """Read the training cases. A file that is missing is given the path where it should be, so that its case fails alone.

    Raises:
        InputError: there is no case.
    """
    convention = _convention_of(folder) or CONVENTIONS[0]
    cases = _cases(folder, convention, convention.images, is_labelled=True)
    _check_rivals(folder, convention, cases)
    for path in _lone_labels(folder, convention, {case.case_id for case in cases}).values():
        note_or_warn(f"{path}: found a label, but neither CT nor PET of its case; it is left out; restore or remove it")
    return build_dataset(
        folder,
        cases,
        name=folder_name(folder),
        channels=list(CHANNELS),
        labels={"background": 0} | {name: value for value, name in enumerate(convention.names, start=1)},
        optional_labels=convention.names[1:],  # not every patient has an involved lymph node
    )


def list_hecktor(folder: Path) -> Listing:
    """List the training and the test cases; those whose label is not there have none."""
    convention = _convention_of(folder) or CONVENTIONS[0]
    cases = _cases(folder, convention, convention.images, is_labelled=True)
    tests = _cases(folder, convention, convention.tests, is_labelled=False) if convention.tests else []
    _check_rivals(folder, convention, [*cases, *tests])
    lone = _lone_labels(folder, convention, {case.case_id for case in cases})
    known = [_without_missing_label(case) for case in cases]
    return Listing(
        tuple(channel.name for channel in CHANNELS), (*known, *tests), lone_labels=tuple(sorted(lone.items()))
    )


def _without_missing_label(case: Case) -> Case:
    is_labelled = case.label is not None and is_there(Path(case.label))
    return case if is_labelled else case.changed(label=None)


def _convention_of(folder: Path) -> Convention | None:
    return next((found for found in CONVENTIONS if _case_ids(folder / found.images, found)), None)


def _lone_labels(folder: Path, convention: Convention, known: Collection[str]) -> dict[str, str]:
    """Return case id and file of labels whose images are not there."""
    found = {}
    for path in image_files(folder / convention.labels):
        case_id = image_id(path).removesuffix(convention.label_ending)
        is_lone = case_id not in known and not is_left_out(case_id)
        if image_id(path).endswith(convention.label_ending) and is_lone:
            found[case_id] = str(path)
    return found


def _check_rivals(folder: Path, convention: Convention, cases: Iterable[Case]) -> None:
    """Refuse each case with an image or label that lies there twice, with different endings."""
    problems = Problems(folder)
    for case in cases:
        if rivals := find_rivals(folder / convention.labels, f"{case.case_id}{convention.label_ending}"):
            problems.add(rivals, case_id=case.case_id, part="label")
        for file in case.images:
            image = Path(file.path)
            if rivals := find_rivals(image.parent, image_id(image)):
                problems.add(rivals, case_id=case.case_id, part="image")
    problems.check()


def _case_ids(folder: Path, convention: Convention) -> list[str]:
    """Return the ids of which CT or PET lie in a folder, if it has both kinds."""
    stems = [image_id(path) for path in image_files(folder)]
    by_ending = []
    for ending in convention.endings:
        by_ending.append({stem.removesuffix(ending) for stem in stems if stem.endswith(ending)})
    # Other folders have names in `_ct` as well; only both kinds together say HECKTOR. A single case may lack one.
    return sorted(by_ending[0] | by_ending[1]) if all(by_ending) else []


def _cases(folder: Path, convention: Convention, part: str, *, is_labelled: bool) -> list[Case]:
    case_ids = used(folder, _case_ids(folder / part, convention), str)
    return [_case(folder, convention, part, case_id, is_labelled=is_labelled) for case_id in case_ids]


def _case(folder: Path, convention: Convention, part: str, case_id: str, *, is_labelled: bool) -> Case:
    stems = [f"{case_id}{ending}" for ending in convention.endings]
    images = [ImageFile(path=_path(find_image, folder / part, stem)) for stem in stems]
    label_stem = f"{case_id}{convention.label_ending}"
    label = _path(find_label, folder / convention.labels, label_stem) if is_labelled else None
    site = SITE.match(case_id)
    return build_case(folder, case_id=case_id, images=images, label=label, site=site[0] if site else None)


def _path(find: Callable[[Path, str], Path | None], folder: Path, stem: str) -> str:
    return str(find(folder, stem) or folder / f"{stem}.nii.gz")
