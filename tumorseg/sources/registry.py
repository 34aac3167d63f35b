"""From what `-d` says to a Dataset."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Dataset
from tumorseg.sources.folders import folder_name, is_there, visible
from tumorseg.sources.layouts import find_layout, unknown_layout


class Archive(NamedTuple):
    """A tar archive that anyone may download."""

    url: str
    md5: str
    """Of the whole file, in hex digits."""


class Registered(NamedTuple):
    """A public dataset that tumorseg knows by name."""

    folder: str
    """As its archive unpacks, below the data root."""
    how_to_get: str
    """One sentence."""
    archive: Archive | None = None
    """None where it cannot be had without registration."""


DECATHLON_URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
DECATHLON = (
    ("MSD_Brain", "Task01_BrainTumour", "240a19d752f0d9e9101544901065d872"),
    ("MSD_Heart", "Task02_Heart", "06ee59366e1e5124267b774dbd654057"),
    ("MSD_Liver", "Task03_Liver", "a90ec6c4aa7f6a3d087205e23d4e6397"),
    ("MSD_Hippocampus", "Task04_Hippocampus", "9d24dba78a72977dbd1d2e110310f31b"),
    ("MSD_Prostate", "Task05_Prostate", "35138f08b1efaef89d7424d2bcc928db"),
    ("MSD_Lung", "Task06_Lung", "8afd997733c7fc0432f71255ba4e52dc"),
    ("MSD_Pancreas", "Task07_Pancreas", "4f7080cfca169fa8066d17ce6eb061e4"),
    ("MSD_HepaticVessel", "Task08_HepaticVessel", "641d79e80ec66453921d997fbf12a29c"),
    ("MSD_Spleen", "Task09_Spleen", "410d4a301da4e5b2f6f86ec3ddba524e"),
    ("MSD_Colon", "Task10_Colon", "bad7a188931dc2f6acf72b08eb6202d0"),
)
"""Name, folder, MD5 of the archive `<folder>.tar`: addresses and checksums are those of `monai.apps.DecathlonDataset`."""


def _decathlon(name: str, folder: str, md5: str) -> Registered:
    how = f"`tumorseg data fetch {name}` gets it, or unpack {folder}.tar from medicaldecathlon.com below the data root"
    return Registered(folder, how, Archive(f"{DECATHLON_URL}/{folder}.tar", md5))


def _brats(year: int) -> Registered:
    how = f"get the BraTS {year} training data from synapse.org (registration needed) and unpack its case folders into"
    return Registered(f"BraTS{year}", f"{how} BraTS{year} below the data root")


REGISTERED: dict[str, Registered] = {
    **{name: _decathlon(name, folder, md5) for name, folder, md5 in DECATHLON},
    "HECKTOR": Registered(
        "HECKTOR",
        "get the training data from hecktor.grand-challenge.org (registration needed) and unpack imagesTr and labelsTr into "
        "HECKTOR below the data root",
    ),
    **{f"BraTS{year}": _brats(year) for year in (2018, 2019, 2020, 2021, 2023, 2024)},
}
"""Name to folder and archive."""


class Listed(NamedTuple):
    """A registered dataset, and where it is."""

    name: str
    path: Path | None
    """None where it is not below the data root."""
    num_cases: int | None
    """Training cases; None where it is not there, or cannot be opened."""
    problem: str | None
    """Why it cannot be opened."""
    can_fetch: bool
    """Whether `tumorseg data fetch` gets it."""
    how_to_get: str


def list_registered(data_root: Path) -> list[Listed]:
    """Return every registered dataset in the order of `REGISTERED`."""
    return [_listed(name, known, data_root) for name, known in REGISTERED.items()]


def _listed(name: str, known: Registered, data_root: Path) -> Listed:
    path = find_registered(name, data_root)
    num_cases = problem = None
    try:
        num_cases = len(open_dataset(str(path), data_root).cases) if path else None
    except InputError as error:
        problem = str(error)
    return Listed(name, path, num_cases, problem, known.archive is not None, known.how_to_get)


def find_registered(name: str, data_root: Path) -> Path | None:
    """Return the folder of a registered dataset below the data root, or None; an empty one counts for none."""
    places = (data_root / REGISTERED[name].folder, data_root / name)
    return next((place for place in places if place.is_dir() and any(place.iterdir())), None)


def registered_name(name: str) -> str:
    """Return the registered name that a user means by it, or by its folder.

    Raises:
        InputError: there is none; near ones are named.
    """
    for known, entry in REGISTERED.items():
        if name in (known, entry.folder):
            return known
    near = _near_names(name, list(REGISTERED))
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(f"no dataset is registered as {name!r}; {meant}registered names are {', '.join(REGISTERED)}")


def open_dataset(
    name: str, data_root: Path, *, labels: Mapping[str, int] | None = None, allow_outside: bool = False
) -> Dataset:
    """Open a dataset by its registered name, its folder, its folder's name below the data root, or its manifest file.

    Args:
        name: what `-d` says.
        data_root: where registered names and folder names are looked for.
        labels: names and values, if known; then a layout that would look for them in every label file does not.
        allow_outside: whether a dataset.json may name files outside its folder, itself or by links; never one that `fetch` unpacked.

    Returns:
        The dataset; one in a registered folder bears the registered name however it was opened.

    Raises:
        InputError: there is no such dataset, it has no known layout, or its files are wrong.
    """
    if (path := locate_dataset(name, data_root)) is None:
        raise _not_found(name, data_root, _places(name, data_root))
    if (layout := find_layout(path)) is None:
        raise unknown_layout(path)
    dataset = layout.open(path, labels=labels, allow_outside=allow_outside)
    return dataset.changed(name=_registered_name(path) or dataset.name)


def locate_dataset(name: str, data_root: Path) -> Path | None:
    """Return the folder or manifest that a name means, or None: the likeliest place that has a known layout, or is there.

    Raises:
        InputError: a dataset.json is not JSON.
    """
    there = [place for place in _places(name, data_root) if is_there(place)]
    for place in there:
        if find_layout(place) is not None:
            return place
    # What is there without a known layout is named in an error of its own, rather than called missing.
    return there[0] if there else None


def _places(name: str, data_root: Path) -> list[Path]:
    """Return where a dataset may be, the likeliest first."""
    # Some folders are called as their datasets are registered: no place is to be named twice.
    if name in REGISTERED:
        return list(dict.fromkeys([data_root / REGISTERED[name].folder, data_root / name, Path(name)]))
    return [Path(name), data_root / name] if name else []


def _registered_name(path: Path) -> str | None:
    if not path.is_dir():
        return None
    found = folder_name(path)
    return next((name for name, known in REGISTERED.items() if found in (known.folder, name)), None)


def _not_found(name: str, data_root: Path, places: list[Path]) -> InputError:
    looked = ", ".join(str(place) for place in places)
    entries = [entry.name for entry in visible(data_root.iterdir()) if entry.is_dir()] if data_root.is_dir() else []
    near = [known for known in _near_names(name, [*REGISTERED, *entries]) if known != name]
    known = next((entry for key, entry in REGISTERED.items() if name in (key, entry.folder)), None)
    advice = known.how_to_get if known else f"registered names are {', '.join(REGISTERED)}"
    meant = "" if known or not near else f"did you mean {' or '.join(near)}? "
    return InputError(f"dataset {name!r} is not there; looked for {looked}; {meant}{advice}; or give --data-root")


def _near_names(name: str, known: list[str]) -> list[str]:
    """Return up to three names that resemble one, whatever the case of letters."""
    lowered = {entry.casefold(): entry for entry in known}
    return [lowered[match] for match in difflib.get_close_matches(name.casefold(), lowered, n=3, cutoff=0.6)]
