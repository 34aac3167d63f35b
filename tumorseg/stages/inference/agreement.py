"""What members of an ensemble have in common: the labels or regions that masks hold, and the channels that a case has to bring."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.ops.postprocessing import check_steps
from tumorseg.schema.dataset import Channel
from tumorseg.schema.ensembles import Combination
from tumorseg.schema.planned_dataset import PlannedDataset
from tumorseg.schema.targets import Targets, targets_of

ADVICE = "give models of the same labels"


class Named(NamedTuple):
    """The dataset of a model's plan, and what messages call the model."""

    name: str
    dataset: PlannedDataset


def common_dataset(members: Sequence[Named]) -> PlannedDataset:
    """Return the dataset that an ensemble predicts: the first member's, with what others add.

    Channels are those of the first member, then those that only others see, by name. Where some find regions, all are asked for these: what
    finds labels says how likely a voxel is in any of a region's.

    Raises:
        PlanError: masks of two members would not mean the same, or two see different things in channels of one name.
    """
    lead = members[0]
    for other in members[1:]:
        _check_labels(lead, other)
    with_regions = [member for member in members if member.dataset.regions]
    for other in with_regions[1:]:
        _check_regions(with_regions[0], other)
    if len(members) == 1:
        return lead.dataset
    finding = with_regions[0] if with_regions else lead
    # All else, such as the codes of DICOM, is the first one's.
    return lead.dataset.changed(channels=_channels(members), regions=finding.dataset.regions)


def _check_labels(lead: Named, other: Named) -> None:
    if (found := lead.dataset.foreground) != (others := other.dataset.foreground):
        raise PlanError(
            f"{lead.name} and {other.name} cannot be combined: the labels of the first are {_listed(found)}, those of the second "
            f"{_listed(others)}; {ADVICE}"
        )


def _check_regions(lead: Named, other: Named) -> None:
    ours, theirs = targets_of(lead.dataset), targets_of(other.dataset)
    found, others = _regions_of(ours), _regions_of(theirs)
    if found != others:
        raise PlanError(
            f"{lead.name} and {other.name} cannot be combined: the regions of the first are {found}, those of the second {others}; give "
            "models of the same regions"
        )


def _regions_of(targets: Targets) -> str:
    """Return regions as messages show them; equal texts are equal regions, painted in the same order."""
    named = []
    for name, classes, value in zip(targets.region_names, targets.regions, targets.region_values, strict=True):
        labels = "+".join(targets.label_names[index] for index in classes)
        named.append(f"{name}={labels} (painted {value})")
    return ", ".join(named)


def _listed(labels: dict[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items(), key=lambda one: one[1]))


def _channels(members: Sequence[Named]) -> tuple[Channel, ...]:
    """Return the channels of all members, each once.

    Raises:
        PlanError: two members take channels of one name for different kinds of images.
    """
    found: dict[str, tuple[Channel, str]] = {}
    for member in members:
        for channel in member.dataset.channels:
            known, owner = found.setdefault(channel.name, (channel, member.name))
            if None not in (known.kind, channel.kind) and known.kind != channel.kind:
                raise PlanError(
                    f"{owner} and {member.name} cannot be combined: channel {channel.name} is {known.kind} for the first and "
                    f"{channel.kind} for the second; give models whose channels of one name are of one kind"
                )
    return tuple(channel for channel, _ in found.values())


def check_combination(combination: Combination, targets: Targets, num_members: int) -> None:
    """Refuse a combination that speaks of labels, regions or members that are not there.

    Args:
        combination: of an ensemble.
        targets: what its masks hold.
        num_members: how many models it has.

    Raises:
        PlanError: it does.
        InputError: a step of the postprocessing does.
    """
    _check_names("weights", combination.weights, targets.scored_names)
    _check_names("thresholds", combination.thresholds, targets.region_names)
    for name, weights in combination.weights.items():
        if len(weights) != num_members:
            raise PlanError(f"weights of {name}: found {len(weights)}, expected {num_members}, one for each model")
    check_steps(combination.postprocessing, targets.values_by_name)


def _check_names(what: str, named: Iterable[str], known: Sequence[str]) -> None:
    if unknown := sorted(set(named) - set(known)):
        raise PlanError(
            f"{what} of {', '.join(unknown)}: expected some of {', '.join(known) or 'none'}; take these names out"
        )
