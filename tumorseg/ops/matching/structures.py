"""The structures that a dataset's labels tell: its regions, its labels, and the regions of gliomas that follow from them."""

from collections.abc import Iterable
from typing import NamedTuple

from tumorseg.ops.matching.gliomas import PARTS, glioma_of, part_of
from tumorseg.ops.matching.spelling import is_telling, spelled
from tumorseg.schema.dataset import DatasetDescription

GLIOMA = "glioma "
"""Begins the keys of a glioma's parts; as `spelled` leaves no spaces, no other key is one of them."""


class Structures(NamedTuple):
    """Structures of one dataset, by a key that is the same in every dataset that has them."""

    dataset: str
    """Its name."""
    values: dict[str, tuple[int, ...]]
    """Key to the label values that make up the structure."""
    own: dict[str, str]
    """Keys of what the dataset itself scores, regions or else labels, to their names."""
    has_regions: bool
    """Whether these are regions."""
    speechless: tuple[str, ...]
    """Names that do not tell what they are."""
    repeated: tuple[str, ...]
    """Names that mean the same as another of this dataset."""


def has_all_parts(description: DatasetDescription) -> bool:
    """Tell whether a dataset labels edema, core and enhancing tumour, one each, as all conventions of gliomas do."""
    values = glioma_of(description).values
    return all(len(values.get(part, ())) == 1 for part in PARTS)


def structures_of(description: DatasetDescription, *, is_same: bool = False, are_gliomas: bool = False) -> Structures:
    """Return what a dataset's labels tell.

    Args:
        description: the dataset.
        is_same: whether it is compared with itself or a part of itself, so that every name counts as it is, `label_1` too.
        are_gliomas: whether all datasets that are compared have all parts of a glioma.
    """
    glioma = glioma_of(description)
    regions = {region.name: region.labels for region in description.regions}
    labels: dict[str, tuple[int, ...]] = {name: (value,) for name, value in description.foreground.items()}
    derived = {f"{GLIOMA}{region}": values for region, values in glioma.regions().items()}
    scored = regions or labels
    keyed = {name: name for name in scored} if is_same else _keyed(scored, are_gliomas)
    own = keyed or {key: key.removeprefix(GLIOMA) for key in derived}
    telling = [name for name in scored if is_same or is_telling(name)]
    values = {key: labels[name] for key, name in _keyed(labels, are_gliomas).items()}
    # The later one counts: the whole tumour is all of its parts, also where its label is painted around them.
    values |= derived | {key: scored[name] for key, name in keyed.items() if regions or is_same}
    return Structures(
        description.name,
        values,
        own,
        bool(regions),
        # Values of BraTS beside its channels tell what names do not.
        tuple(name for name in scored if name not in telling and (keyed or not derived)),
        tuple(name for name in telling if name not in own.values()),
    )


def _keyed(names: Iterable[str], are_gliomas: bool) -> dict[str, str]:
    """Return the names by key, without those that say nothing, and without those that share a key."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        if is_telling(name):
            grouped.setdefault(_key(name, are_gliomas), []).append(name)
    return {key: alike[0] for key, alike in grouped.items() if len(alike) == 1}


def _key(name: str, are_gliomas: bool) -> str:
    part = part_of(name)
    # What lies in the core has many names, which are the same only where edema, core and enhancing tumour are all there is.
    is_clear = part is not None and (part != "core" or are_gliomas)
    return f"{GLIOMA}{part}" if is_clear else spelled(name)
