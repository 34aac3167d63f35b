"""Image files that two datasets share: the same patients, whatever each dataset calls them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, Dataset, ImageFile


class _Owner(NamedTuple):
    """A case that has a file."""

    dataset: str
    case_id: str
    volume: int | None
    """The volume of it that is an image; None for the whole file."""


def require_files_of_their_own(datasets: Sequence[Dataset]) -> None:
    """Refuse datasets of which two have one image: pooled, a case would stand beside itself in training and in validation.

    Links are followed. Copies of a file are other files: `data check` compares their content.

    Args:
        datasets: no two of one name.

    Raises:
        InputError: two datasets share an image.
    """
    owners: dict[Path, list[_Owner]] = {}
    shared: dict[tuple[str, str], tuple[_Owner, _Owner, Path]] = {}
    for dataset in datasets:
        for case in dataset.cases:
            for file, index in _files(case):
                own = _Owner(dataset.name, case.case_id, index)
                known = owners.setdefault(file, [])
                if (other := next((one for one in known if _is_same(one, own)), None)) is not None:
                    shared.setdefault((own.dataset, own.case_id), (other, own, file))
                known.append(own)
    if shared:
        raise InputError(_told(list(shared.values())))


def _files(case: Case) -> Iterator[tuple[Path, int | None]]:
    """Yield the files of a case's images where they really are, each with the volume that is meant."""
    for image in case.images:
        place = Path(image.path).resolve()
        for name in _parts(image, place):
            yield place / name, image.index


def _parts(image: ImageFile, place: Path) -> Sequence[str]:
    """Return the names of the files in an image's folder; one empty name for a plain file."""
    if image.parts:
        return image.parts
    # A series may be given as a folder by one dataset and by its files by another.
    return sorted(os.listdir(place)) if place.is_dir() else ("",)  # noqa: PTH208 (names are wanted, not paths)


def _is_same(one: _Owner, other: _Owner) -> bool:
    is_one_volume = one.volume == other.volume or None in (one.volume, other.volume)
    return one.dataset != other.dataset and is_one_volume


def _told(shared: Sequence[tuple[_Owner, _Owner, Path]]) -> str:
    one, other, file = shared[0]
    more = f", and {len(shared) - 1} more such cases" if len(shared) > 1 else ""
    return (
        f"case {one.case_id} of {one.dataset} and case {other.case_id} of {other.dataset} are both made of {file}{more}; expected each "
        "image once, lest a case is trained on and validated with; leave one of the datasets out, or these cases in a manifest of it"
    )
