"""Warnings of doubtful images and uncovered voxels, and reasons for how files are read."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

from tumorseg.planning.evidence.kinds import kind_from_name
from tumorseg.schema.cases import OUTSIDE_CT
from tumorseg.schema.dataset import Channel, DatasetDescription
from tumorseg.schema.fingerprint import Fingerprint, ImageDoubt
from tumorseg.schema.plan import Reason

MOST_LISTED = 3
"""Cases that a message lists at most."""
WARNINGS = {
    "not_hounsfield": "{count} of {total} cases have {channel} that cannot be in Hounsfield units: {listed}; look "
    "whether the scanner's slope and intercept were applied, once, or state another kind in a manifest",
    "constant": "{count} of {total} cases have nothing to see in {channel}: {listed}; restore the images, or leave the "
    "cases out",
}
"""By kind of doubt."""


def with_named_kinds(description: DatasetDescription) -> DatasetDescription:
    """Return a dataset whose channels have the kinds that their names state, as far as nothing else states them."""
    channels = [channel.changed(kind=channel.kind or kind_from_name(channel.name)) for channel in description.channels]
    return description.changed(channels=tuple(channels))


def with_outside_value(channel: Channel) -> Channel:
    """Return a channel with a value where it covers nothing: air for CT; null for others, whose least value counts."""
    if channel.outside_value is not None or channel.kind != "ct":
        return channel
    return channel.changed(outside_value=OUTSIDE_CT)


def reading_reasons(dataset: DatasetDescription, unplaced: Sequence[str]) -> dict[str, Reason]:
    """Return why files are read as the plan says, by dotted field; nothing where they leave nothing open.

    Args:
        dataset: as planned.
        unplaced: files that state no orientation.
    """
    reading = dataset.reading
    reasons = {}
    if reading.assumed_orientation is None and unplaced:
        reasons["dataset.reading.assumed_orientation"] = Reason(
            rule="not stated: files without orientation are read as their format takes for usual",
            inputs={"files": len(unplaced), "such as": unplaced[0]},
            alternative="--assume-orientation CODE: as somebody says who knows where they come from",
        )
    if reading.assumed_orientation is not None:
        reasons["dataset.reading.assumed_orientation"] = Reason(
            source="user",
            rule="stated by --assume-orientation or a manifest, for files that state no orientation",
            alternative="what their format takes for usual, with a warning for each file",
        )
    if reading.paint_order:
        reasons["dataset.reading.paint_order"] = Reason(
            source="user",
            rule="stated by --paint-order or a manifest, for structures that overlap",
            alternative="the smaller of two on top, which is refused where it is not beyond doubt",
        )
    if reading.grid_channel is not None:
        reasons["dataset.reading.grid_channel"] = Reason(
            rule="channels lie on grids of their own: that counts on which the labels lie, or which a manifest states",
            alternative="another channel's grid, onto which the labels would have to be resampled",
        )
    for number, channel in enumerate(dataset.channels):
        # A single channel is the grid, so that nothing lies outside it.
        if channel.outside_value is not None and len(dataset.channels) > 1:
            is_air = channel.kind == "ct" and channel.outside_value == OUTSIDE_CT
            reasons[f"dataset.channels.{number}.outside_value"] = Reason(
                rule="what lies outside of CT is air" if is_air else "stated by a manifest",
                alternative="the image's least value, as for other kinds of channels",
            )
    return reasons


def doubtful_images(fingerprint: Fingerprint, kind: str) -> dict[str, list[tuple[str, ImageDoubt]]]:
    """Return channel to the (case_id, doubt) pairs of a kind."""
    found: dict[str, list[tuple[str, ImageDoubt]]] = defaultdict(list)
    for case in fingerprint.cases:
        for doubt in case.image_doubts or ():
            if doubt.kind == kind:
                found[doubt.channel].append((case.case_id, doubt))
    return dict(sorted(found.items()))


def not_hounsfield(fingerprint: Fingerprint) -> dict[str, int] | None:
    """Return the number of cases by channel whose CT cannot be in Hounsfield units; None where nobody looked."""
    # No number can be given either where only some were looked at.
    if any(case.image_doubts is None for case in fingerprint.cases):
        return None
    return {name: len(found) for name, found in doubtful_images(fingerprint, "not_hounsfield").items()}


def image_warnings(fingerprint: Fingerprint) -> list[str]:
    """Return a line for each channel whose images are doubtful, or do not cover the grid of their case."""
    total = len(fingerprint.cases)
    lines = []
    for kind, text in WARNINGS.items():
        for channel, doubts in doubtful_images(fingerprint, kind).items():
            listed = ", ".join(f"{case_id} ({doubt.message})" for case_id, doubt in doubts[:MOST_LISTED])
            lines.append(text.format(count=len(doubts), total=total, channel=channel, listed=listed))
    return [*lines, *_uncovered(fingerprint), *_unplaced(fingerprint)]


def unplaced_files(fingerprint: Fingerprint) -> list[str]:
    """Return the names of the files that state no orientation."""
    return list(chain.from_iterable(case.unplaced for case in fingerprint.cases))


def _unplaced(fingerprint: Fingerprint) -> list[str]:
    found = unplaced_files(fingerprint)
    if not found or fingerprint.dataset.reading.assumed_orientation is not None:
        return []
    listed = ", ".join(found[:MOST_LISTED]) + (", …" if len(found) > MOST_LISTED else "")
    return [
        f"{len(found)} files state no orientation ({listed}); they are taken to lie as is usual for their format; "
        "state it with --assume-orientation CODE or in a manifest"
    ]


def _uncovered(fingerprint: Fingerprint) -> list[str]:
    cases: dict[str, list[str]] = defaultdict(list)
    for case in fingerprint.cases:
        for channel in case.uncovered_voxels or {}:
            cases[channel].append(case.case_id)
    lines = []
    for channel, ids in sorted(cases.items()):
        share = f"{len(ids)} of {len(fingerprint.cases)} cases, such as {ids[0]}"
        lines.append(
            f"{channel} does not cover the whole grid in {share}; what it leaves out gets its outside_value and stays "
            "out of its statistics"
        )
    return lines
