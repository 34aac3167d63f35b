"""The dataset of a plan: kinds of channels, labels that mirror each other, and cases left out."""

from collections.abc import Sequence
from typing import NamedTuple

from tumorseg.planning.common_ground import CommonGround
from tumorseg.planning.decided import Decided
from tumorseg.planning.evidence.images import reading_reasons, unplaced_files, with_outside_value
from tumorseg.planning.evidence.kinds import KindDecision
from tumorseg.planning.evidence.laterality import mirrored_in_images
from tumorseg.planning.folds.fold_choice import unused_reasons
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Reason
from tumorseg.schema.planned_dataset import PlannedDataset


class UserSelection(NamedTuple):
    """Channels, regions and cases that the user chose or left out before the dataset was measured."""

    channels: tuple[str, ...]
    """Channels that were picked; empty for all."""
    regions: str | None
    """Where the regions come from; None for the dataset's own."""
    common: CommonGround | None
    """What the dataset has in common with others, where only that is planned for."""
    excluded: tuple[str, ...]
    """Cases that were left out."""
    kept_back: tuple[str, ...]
    """Cases in no list of the split file."""
    listed: tuple[str, ...] | None
    """Cases of a split file with `train` lists."""


def choose_dataset(
    fingerprint: Fingerprint, kinds: Sequence[KindDecision], selection: UserSelection
) -> Decided[PlannedDataset]:
    """Return the dataset as it is planned for.

    Args:
        fingerprint: of the cases that are used.
        kinds: one per channel.
        selection: the user's.
    """
    described = fingerprint.dataset
    channels = []
    for channel, kind in zip(described.channels, kinds, strict=True):
        # In this order: what lies outside a channel depends on its kind.
        channels.append(with_outside_value(channel.changed(kind=kind.kind)))
    # Not `model_dump`, which would turn the records inside into dictionaries, to be validated once more.
    fields = {name: getattr(described, name) for name in type(described).model_fields}
    fields["channels"] = tuple(channels)
    dataset = PlannedDataset(
        **fields,
        content_hash=fingerprint.content_hash,
        excluded=selection.excluded,
        kept_back=selection.kept_back,
        listed=selection.listed,
        mirrored_labels=tuple(mirrored_in_images(fingerprint.cases, _foreground(described))),
    )
    reasons = reading_reasons(dataset, unplaced_files(fingerprint))
    return Decided(dataset, reasons | unused_reasons(dataset) | _selection_reasons(selection))


def _foreground(dataset: DatasetDescription) -> list[str]:
    return [name for name, value in dataset.labels.items() if value not in (0, dataset.ignore_label)]


def _selection_reasons(selection: UserSelection) -> dict[str, Reason]:
    reasons = {}
    if selection.channels:
        rule = "--channels: these, in this order"
        reasons["dataset.channels"] = Reason(source="user", rule=rule, alternative="all channels of the dataset")
    if selection.regions is not None:
        alternative = "the dataset's own regions, or none"
        reasons["dataset.regions"] = Reason(
            source="user", rule=f"--regions {selection.regions}", alternative=alternative
        )
    # Was found among the channels and regions that were picked before, if any were.
    return reasons | (selection.common.reasons() if selection.common else {})
