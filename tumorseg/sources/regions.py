"""The user's choice of regions to predict and channels to use."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tumorseg.errors import InputError
from tumorseg.ops.matching.channels import match_channels
from tumorseg.ops.matching.gliomas import BRATS_VALUES, PARTS, has_brats_values, part_of
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.dataset import Channel, Dataset, Reading, Region, repeated_values
from tumorseg.storage.json_files import read_json

logger = logging.getLogger(__name__)


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
    """Return a dataset with some of its channels, in the order of `names`, which may be synonyms: `t1ce` for `T1Gd`.

    Raises:
        InputError: a name is unknown or given twice, or none is given.
    """
    known = [channel.name for channel in dataset.channels]
    # Unchecked: a text that can be no channel is no channel of this dataset.
    wanted = [Channel.model_construct(name=name) for name in dict.fromkeys(names)]
    match = match_channels(wanted, dataset.channels, is_one=True)
    repeated = repeated_values(names)
    if match.missing or repeated or not names:
        is_twice = repeated and not match.missing
        what = f"{', '.join(repeated)} asked for twice" if is_twice else f"no channel {', '.join(match.missing)}"
        raise InputError(f"{dataset.name}: {what}; channels are {', '.join(known)}; choose among them")
    chosen = [match.found[name] for name in names]
    order = [known.index(name) for name in chosen]
    cases = []
    for case in dataset.cases:
        images = tuple(case.images[i] for i in order)
        cases.append(case.changed(images=images))
    channels = tuple(dataset.channels[i] for i in order)
    return dataset.changed(channels=channels, cases=tuple(cases), reading=_reading(dataset, chosen))


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
    foreground = dataset.foreground
    # Labels that were found in files are called by their values; who asks for these regions says that they are of BraTS.
    if has_brats_values(foreground):
        return BRATS_VALUES["edema"], BRATS_VALUES["core"], BRATS_VALUES["ET"]
    found = []
    for part in PARTS:
        found.append([value for name, value in foreground.items() if part_of(name) == part])
    if all(len(values) == 1 for values in found):
        return found[0][0], found[1][0], found[2][0]
    listed = ", ".join(f"{name}={value}" for name, value in foreground.items())
    raise InputError(
        f"{dataset.name}: found the labels {listed}, expected one each for edema, necrotic or non-enhancing core and "
        "enhancing tumour; give --regions a JSON file"
    )


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
