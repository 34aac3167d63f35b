"""The layouts of BraTS: a folder per case, with one file per channel and `seg` where labelled.

| years | files of a case | enhancing tumour |
|---|---|---|
| 2018 to 2021 | `<id>_t1.nii.gz`, `_t1ce`, `_t2`, `_flair`, `_seg` | 4 |
| 2023 and later | `<id>-t1n.nii.gz`, `-t1c`, `-t2w`, `-t2f`, `-seg` | 3 (and 4: resection cavity, from 2024) |

From 2023 on an id ends in the number of a time point; what is before it names the patient, and is the case's group. Cases may
lie in folders of grades, as in `HGG/` and `LGG/` of 2018 and 2019. Channels bear the same names in all years, so that
a model of one year predicts on another.

References:
    Menze et al., The Multimodal Brain Tumor Image Segmentation Benchmark, IEEE TMI 2015; Baid et al., The RSNA-ASNR-MICCAI
    BraTS 2021 benchmark, arXiv:2107.02314; de Verdier et al., The 2024 BraTS challenge, arXiv:2405.18368: label values and regions.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, Channel, Dataset, ImageFile, Region
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
    note_or_warn,
    visible,
)
from tumorseg.sources.leaving_out import is_left_out, used

NEEDS = "a folder per case, <id>/<id>_t1.nii.gz, _t1ce, _t2, _flair, _seg (from 2023 on: <id>-t1n.nii.gz, -t1c, -t2w, -t2f, -seg)"
CHANNELS = ("t1", "t1ce", "t2", "flair")
"""Names of the channels, in the order in which networks see them."""
NECROTIC_CORE, EDEMA = 1, 2
"""BraTS's own label values, the same in all years."""
CAVITY = "resection cavity"

TIME_POINT = re.compile(r"(.+)-\d{3}")
"""An id of 2023 and later: the patient, then the time point."""
GRADES = ("HGG", "LGG")
"""Folders of cases by grade."""


class Convention(NamedTuple):
    """File names of a case in some years, and the values of its labels."""

    years: str
    endings: tuple[str, ...]
    """What follows the id, for each of `CHANNELS`."""
    label_ending: str
    enhancing: int
    """Label value of enhancing tumour."""
    cavity: int | None = None
    """Label value of the resection cavity; it belongs to none of the regions."""

    def description(self) -> dict[str, Any]:
        """Return channels, labels and the nested regions that BraTS scores, outermost first: inner ones paint over it."""
        whole, core, enhancing = (NECROTIC_CORE, EDEMA, self.enhancing), (NECROTIC_CORE, self.enhancing), self.enhancing
        cavity = {} if self.cavity is None else {CAVITY: self.cavity}
        return {
            "channels": [Channel(name=name, kind="mr") for name in CHANNELS],
            "labels": {
                "background": 0,
                "necrotic core": NECROTIC_CORE,
                "edema": EDEMA,
                "enhancing tumour": enhancing,
                **cavity,
            },
            "optional_labels": tuple(cavity),  # in no case before 2024, and in none before surgery
            "regions": (
                Region(name="WT", labels=whole, value=EDEMA),
                Region(name="TC", labels=core, value=NECROTIC_CORE),
                Region(name="ET", labels=(enhancing,), value=enhancing),
            ),
        }


CONVENTIONS = (
    Convention("2018 to 2021", ("_t1", "_t1ce", "_t2", "_flair"), "_seg", 4),
    Convention("2023 and later", ("-t1n", "-t1c", "-t2w", "-t2f"), "-seg", 3, 4),
)


def is_brats_case(folder: Path) -> bool:
    """Tell whether a folder holds a channel of a BraTS case of the folder's name."""
    return _convention_of(folder) is not None


def is_brats(folder: Path) -> bool:
    """Tell whether a folder holds folders of BraTS cases, itself or in `HGG` and `LGG`."""
    return any(is_brats_case(case) for case in _candidates(folder))


def read_brats(folder: Path) -> Dataset:
    """Read every case folder; folders without any image are no cases. Links are followed.

    A channel whose file is missing is given the path where it should be, so that its own case fails when it is read.

    Raises:
        InputError: there is no case, or cases are called by the conventions of different years.
    """
    found = _case_folders(folder)
    conventions: set[Convention] = set()
    for case in found:
        conventions.update(_conventions_of(case))
    if len(conventions) > 1:
        raise InputError(_mixed(conventions), file=folder)
    # Files of other names belong to no year; any year's will do to say what is missing.
    convention = conventions.pop() if conventions else CONVENTIONS[0]
    problems = Problems(folder)
    cases = [_read_case(case, convention, problems) for case in found]
    problems.check()
    return build_dataset(folder, cases, name=folder_name(folder), **convention.description())


def _case_folders(folder: Path) -> list[Path]:
    """Return the folders that hold images of cases that are used; those that hold nothing are reported."""
    for case in sorted(_candidates(folder)):
        case_id = folder_name(case)
        is_empty = not any(case.iterdir())
        # Most likely a case whose files were lost, whereas a folder of other files was never one.
        if is_empty and not is_left_out(case_id):
            note_or_warn(f"found no file in its folder {case}; restore them, or remove the folder", case_id=case_id)
    return used(folder, [case for case in _candidates(folder) if image_files(case)], folder_name)


def _mixed(conventions: Iterable[Convention]) -> str:
    years = " and ".join(sorted(convention.years for convention in conventions))
    return f"found files called as in {years}, whose label values differ; keep cases of each in folders of their own"


def list_brats(folder: Path) -> Listing:
    """List the cases of a folder of case folders, or the one case of a case folder; each is called as in its own year.

    Raises:
        InputError: cases are called by the conventions of different years.
    """
    found = [folder] if is_brats_case(folder) else _case_folders(folder)
    problems = Problems(folder)
    by_case = {case: list(_conventions_of(case)) for case in found}
    years: set[Convention] = set()
    for case, conventions in by_case.items():
        years.update(conventions)
        if len(conventions) > 1:
            problems.add(_mixed(conventions), case_id=folder_name(case))
    # Only labels mean different things in different years; images of all of them can be predicted on together.
    if len(years) > 1:
        problems.add(_mixed(years), part="label")
    cases = []
    for case, conventions in by_case.items():
        convention = conventions[0] if conventions else CONVENTIONS[0]
        cases.append(_read_case(case, convention, problems))
    problems.check()
    return Listing(CHANNELS, tuple(sorted(cases, key=lambda case: case.case_id)))


def _convention_of(folder: Path) -> Convention | None:
    """Return the convention by which a folder holds a channel of a case of its own name, or None."""
    return next(_conventions_of(folder), None)


def _conventions_of(folder: Path) -> Iterator[Convention]:
    """Yield every convention by which a folder holds a channel; more than one is a fault."""
    if not folder.is_dir():
        return
    stem = folder_name(folder)
    for convention in CONVENTIONS:
        if any(find_image(folder, f"{stem}{ending}") for ending in convention.endings):
            yield convention


def _candidates(folder: Path) -> Iterable[Path]:
    """Return the folders that may be cases: those in a folder, and those in its folders of grades."""
    found: list[Path] = []
    for upper in (folder, *(folder / grade for grade in GRADES)):
        if upper.is_dir():
            found += [entry for entry in visible(upper.iterdir()) if entry.is_dir()]
    return found


def _read_case(folder: Path, convention: Convention, problems: Problems) -> Case:
    case_id = folder_name(folder)
    if rivals := find_rivals(folder, f"{case_id}{convention.label_ending}"):
        problems.add(rivals, case_id=case_id, part="label")
    images = []
    for ending in convention.endings:
        stem = f"{case_id}{ending}"
        if rivals := find_rivals(folder, stem):
            problems.add(rivals, case_id=case_id, part="image")
        images.append(ImageFile(path=str(find_image(folder, stem) or folder / f"{stem}.nii.gz")))
    label = find_label(folder, f"{case_id}{convention.label_ending}")
    # Before 2023 a number at the end is no time point; the years since are those whose labels have a cavity.
    patient = TIME_POINT.fullmatch(case_id)
    group = patient[1] if patient and convention.cavity is not None else None
    return build_case(folder, case_id=case_id, images=images, label=str(label) if label else None, group=group)
