"""Channels and labels in nnU-Net v2's own keys.

Labels must be consecutive from 0, `background` first and `ignore` last; where one label is a list of values, every entry is a
region with an output of its own, painted in the order of `labels` with the values of `regions_class_order`. A channel's name
decides its normalisation: `CT` and `rgb_to_0_1` are taken for what they are, most others for z-scores.

References:
    nnU-Net's documentation/dataset_format.md, region_based_training.md and ignore_label.md (v2).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from tumorseg.planning.evidence.kinds import kind_from_name
from tumorseg.schema.dataset import Channel, DatasetDescription, Region

BACKGROUND, IGNORE = "background", "ignore"
SCHEME_OF_KIND = {"ct": "CT", "rgb": "rgb_to_0_1"}
"""The name that makes nnU-Net normalise a channel as its kind asks for; all other kinds get z-scores."""


class LabelKeys(NamedTuple):
    """Two keys of dataset.json."""

    labels: dict[str, int | list[int]]
    regions_class_order: list[int] | None
    """None where networks predict labels."""


def channel_name(channel: Channel) -> str:
    """Return the name under which nnU-Net normalises a channel as tumorseg does."""
    kind = channel.kind or kind_from_name(channel.name)
    scheme = SCHEME_OF_KIND.get(kind or "")
    if scheme is not None:
        return channel.name if channel.name.casefold() == scheme.casefold() else scheme
    # Called so, it would be normalised as what it is not.
    is_taken = channel.name.casefold() in {name.casefold() for name in SCHEME_OF_KIND.values()}
    return f"{channel.name} ({kind})" if is_taken else channel.name


def label_keys(description: DatasetDescription) -> LabelKeys:
    """Return labels and regions of a description whose values are consecutive.

    A label that belongs to no region becomes a region of its own, as nnU-Net takes no labels outside regions; it is painted
    before all others. Regions of one label each need no regions.
    """
    foreground = {name: v for name, v in description.labels.items() if v not in (0, description.ignore_label)}
    labels: dict[str, int | list[int]] = {BACKGROUND: 0}
    order: list[int] | None = None
    if any(len(set(region.labels)) > 1 for region in description.regions):
        regions = [*_outside(foreground, description.regions), *description.regions]
        order = [region.value for region in regions]
        for region in regions:
            labels[_free_name(region.name, labels)] = sorted(set(region.labels))
    else:
        for name, value in foreground.items():
            labels[_free_name(name, labels)] = value
    if description.ignore_label is not None:
        labels[IGNORE] = description.ignore_label
    return LabelKeys(labels, order)


def is_value_to_name(labels: Any) -> bool:
    """Tell whether the key `labels` gives names to values, as in version 1: {"0": "background", …}."""
    if not isinstance(labels, dict) or not labels:
        return False
    are_values = all(str(key).strip().lstrip("-").isdecimal() for key in labels)
    return are_values and all(isinstance(name, str) for name in labels.values())


def _outside(foreground: dict[str, int], regions: Iterable[Region]) -> list[Region]:
    """Return the labels of no region as regions of their own."""
    inside = set[int]().union(*(region.labels for region in regions))
    return [Region(name=name, labels=(v,), value=v) for name, v in foreground.items() if v not in inside]


def _free_name(name: str, taken: Iterable[str]) -> str:
    """Return a name that is neither taken nor one of nnU-Net's own."""
    used = {BACKGROUND, IGNORE, *taken}
    while name in used:
        name += "_"
    return name
