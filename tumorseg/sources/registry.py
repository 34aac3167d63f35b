"""From what `-d` says to a Dataset."""

import difflib
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Dataset
from tumorseg.sources.folders import folder_name, visible
from tumorseg.sources.layouts import find_layout, unknown_layout


class Registered(NamedTuple):
    """A public dataset that tumorseg knows by name."""

    folder: str
    """As its archive unpacks, below the data root."""
    how_to_get: str
    """One sentence."""


def _decathlon(folder: str) -> Registered:
    return Registered(folder, f"get {folder}.tar from medicaldecathlon.com and unpack it below the data root")


def _brats(year: int) -> Registered:
    how = f"get the BraTS {year} training data from synapse.org (registration needed) and unpack its case folders into"
    return Registered(f"BraTS{year}", f"{how} BraTS{year} below the data root")


REGISTERED: dict[str, Registered] = {
    "MSD_Brain": _decathlon("Task01_BrainTumour"),
    "MSD_Heart": _decathlon("Task02_Heart"),
    "MSD_Liver": _decathlon("Task03_Liver"),
    "MSD_Hippocampus": _decathlon("Task04_Hippocampus"),
    "MSD_Prostate": _decathlon("Task05_Prostate"),
    "MSD_Lung": _decathlon("Task06_Lung"),
    "MSD_Pancreas": _decathlon("Task07_Pancreas"),
    "MSD_HepaticVessel": _decathlon("Task08_HepaticVessel"),
    "MSD_Spleen": _decathlon("Task09_Spleen"),
    "MSD_Colon": _decathlon("Task10_Colon"),
    "HECKTOR": Registered(
        "HECKTOR",
        "get the training data from hecktor.grand-challenge.org (registration needed) and unpack imagesTr and labelsTr into "
        "HECKTOR below the data root",
    ),
    **{f"BraTS{year}": _brats(year) for year in (2018, 2019, 2020, 2021, 2023, 2024)},
}
"""Name to folder."""


class Listed(NamedTuple):
    """A registered dataset, and where it is."""

    name: str
    path: Path | None
    """None where it is not below the data root."""
    how_to_get: str


def list_registered(data_root: Path) -> list[Listed]:
    """Return every registered dataset in the order of `REGISTERED`."""
    return [
        Listed(
            name,
            next((place for place in (data_root / known.folder, data_root / name) if place.is_dir()), None),
            known.how_to_get,
        )
        for name, known in REGISTERED.items()
    ]


def open_dataset(name: str, data_root: Path) -> Dataset:
    """Open a dataset by its registered name, its folder, its folder's name below the data root, or its manifest file.

    Args:
        name: what `-d` says.
        data_root: where registered names and folder names are looked for.

    Returns:
        The dataset; one in a registered folder bears the registered name however it was opened.

    Raises:
        InputError: there is no such dataset, it has no known layout, or its files are wrong.
    """
    if (path := locate_dataset(name, data_root)) is None:
        raise _not_found(name, data_root, _places(name, data_root))
    if (layout := find_layout(path)) is None:
        raise unknown_layout(path)
    dataset = layout.read(path)
    return dataset.model_copy(update={"name": _registered_name(path) or dataset.name})


def locate_dataset(name: str, data_root: Path) -> Path | None:
    """Return the folder or manifest that a name means, or None: the likeliest place that has a known layout, or is there.

    Raises:
        InputError: a dataset.json is not JSON.
    """
    there = [place for place in _places(name, data_root) if place.exists()]
    return next((place for place in there if find_layout(place) is not None), there[0] if there else None)


def _places(name: str, data_root: Path) -> list[Path]:
    """Return where a dataset may be, the likeliest first."""
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
