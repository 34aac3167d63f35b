"""The user's choice of regions to predict and channels to use."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tumorseg.errors import InputError
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.dataset import Dataset, Reading, Region, repeated_values
from tumorseg.storage.json_files import read_json

logger = logging.getLogger(__name__)

EDEMA = {"edema", "peritumoraledema", "peritumoraledematousinvadedtissue", "ed"}
CORE = {
    "necroticcore",
    "necrotictumorcore",
    "necrosis",
    "nonenhancingtumor",
    "nonenhancingtumorcore",
    "necroticandnonenhancingtumor",
    "necroticandnonenhancingtumorcore",
    "ncr",
    "ncrnet",
    "netc",
}
ENHANCING = {"enhancingtumor", "gdenhancingtumor", "enhancing", "et"}
"""What the three parts of a glioma are called, without case, spaces and hyphens, in American spelling."""
BRATS_VALUES = (2, 1, 4)
"""Edema, core and enhancing tumour in BraTS files, for labels without speaking names."""


class _StatedRegion(Record):
    """One entry of a regions file."""

    name: str
    labels: tuple[int | str, ...]
    """Values, or names of labels."""
    value: int | str


class _StatedRegions(Record):
    """A regions file: a list of entries."""

    regions: tuple[_StatedRegion, ...]


def choose_regions(dataset: Dataset, choice: str) -> Dataset:
    """Return a dataset with other regions.

    Args:
        dataset: any.
        choice: `brats` (whole tumour, tumour core, enhancing tumour), `none`, or a JSON file with a list of
            {name, labels: values or names, value}, painted in that order.

    Raises:
        InputError: the dataset has not the labels, or the file is malformed.
    """
    if choice == "none":
        return dataset.changed(regions=())
    regions = _brats_regions(dataset) if choice == "brats" else _stated_regions(dataset, Path(choice))
    fields = {name: getattr(dataset, name) for name in Dataset.model_fields}
    return parse_record(Dataset, {**fields, "regions": regions}, source=f"--regions {choice}", error=InputError)


def select_channels(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Return a dataset with some of its channels, in the order of `names`.

    Raises:
        InputError: a name is unknown or given twice, or none is given.
    """
    known = [channel.name for channel in dataset.channels]
    unknown = [name for name in names if name not in known]
    repeated = repeated_values(names)
    if unknown or repeated or not names:
        is_twice = repeated and not unknown
        what = f"{', '.join(repeated)} asked for twice" if is_twice else f"no channel {', '.join(unknown)}"
        raise InputError(f"{dataset.name}: {what}; channels are {', '.join(known)}; choose among them")
    order = [known.index(name) for name in names]
    cases = []
    for case in dataset.cases:
        images = tuple(case.images[i] for i in order)
        cases.append(case.changed(images=images))
    channels = tuple(dataset.channels[i] for i in order)
    return dataset.changed(channels=channels, cases=tuple(cases), reading=_reading(dataset, names))


def _reading(dataset: Dataset, names: Sequence[str]) -> Reading:
    """Return how files are read without the channels that are left out."""
    grid = dataset.reading.grid_channel
    if grid is None or grid in names:
        return dataset.reading
    logger.warning(
        "%s: channel %s, whose grid was stated to count, is left out; that of the channel that labels lie on counts now",
        dataset.name,
        grid,
    )
    return dataset.reading.changed(grid_channel=None)


def _brats_regions(dataset: Dataset) -> tuple[Region, ...]:
    edema, core, enhancing = _glioma_values(dataset)
    return (
        Region(name="WT", labels=tuple(sorted((edema, core, enhancing))), value=edema),
        Region(name="TC", labels=tuple(sorted((core, enhancing))), value=core),
        Region(name="ET", labels=(enhancing,), value=enhancing),
    )


def _glioma_values(dataset: Dataset) -> tuple[int, int, int]:
    """Return the values of edema, core and enhancing tumour."""
    foreground = {name: value for name, value in dataset.labels.items() if value not in (0, dataset.ignore_label)}
    found = []
    for part in (EDEMA, CORE, ENHANCING):
        found.append([value for name, value in foreground.items() if _spelling(name) in part])
    if all(len(values) == 1 for values in found):
        return found[0][0], found[1][0], found[2][0]
    # Labels that were found in files are called by their values; just these are the values of BraTS up to 2021.
    if foreground == {f"label_{value}": value for value in BRATS_VALUES}:
        return BRATS_VALUES
    listed = ", ".join(f"{name}={value}" for name, value in foreground.items())
    raise InputError(
        f"{dataset.name}: found the labels {listed}, expected one each for edema, necrotic or non-enhancing core and "
        "enhancing tumour; give --regions a JSON file"
    )


def _spelling(name: str) -> str:
    """Return a label's name in lower-case American letters only."""
    letters = "".join(letter for letter in name.casefold() if letter.isalnum())
    return letters.replace("tumour", "tumor").replace("oedema", "edema")


def _stated_regions(dataset: Dataset, file: Path) -> list[dict[str, Any]]:
    content = {"regions": read_json(file, InputError)}
    stated = parse_record(_StatedRegions, content, source=str(file), error=InputError).regions

    def value_of(label: int | str) -> int:
        if isinstance(label, int):
            return label
        if label not in dataset.labels:
            raise InputError(
                f"found the label {label!r}, expected one of {', '.join(dataset.labels)}; mend it", file=file
            )
        return dataset.labels[label]

    regions = []
    for region in stated:
        labels = [value_of(label) for label in region.labels]
        regions.append({"name": region.name, "labels": labels, "value": value_of(region.value)})
    return regions
