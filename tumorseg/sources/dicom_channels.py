"""Choice of the image series of DICOM studies that are the channels: those that every study has."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.base import parse_record
from tumorseg.schema.dataset import Channel, ChannelKind
from tumorseg.sources.dicom_studies import Series, Study
from tumorseg.sources.folders import note_or_warn

logger = logging.getLogger(__name__)

KINDS: dict[str, ChannelKind] = {"CT": "ct", "PT": "pet", "MR": "mr"}
"""By modality, in the order of the channels."""
MOST_LISTED = 8
"""Studies that a message lists at most."""


class Chosen(NamedTuple):
    """One channel."""

    channel: Channel
    series: list[Series]
    """One per study."""


def choose_channels(path: Path, studies: Sequence[Study]) -> list[Chosen]:
    """Return the channels of studies: first those that labels were drawn on, whose grid the labels share; then CT, PET, MR.

    A modality of which every study has one series is a channel of that name. Of several, those descriptions are channels that
    every study has just once; failing that, the series that labels were drawn on. Other series are left out with a warning.

    Args:
        path: where they lie, for messages.
        studies: at least one, each with image series.

    Raises:
        InputError: series that are needed cannot be told apart, studies have none in common, or PET is in different units.
    """
    modalities: set[str] = set()
    for study in studies:
        modalities.update(series.modality for series in study.series)
    found: list[Chosen] = []
    for modality in sorted(modalities, key=_rank):
        found += _of_modality(path, modality, studies)
    if not found:
        raise _unlike(path, "no series that every study has", studies)
    for chosen in found:
        units = Counter(series.units for series in chosen.series)
        # Counts and Bq/ml differ by a factor that each scan has of its own: nothing could be learned from both.
        if len(units) > 1:
            listed = ", ".join(f"{unit or 'none'} ({count})" for unit, count in sorted(units.items()))
            raise InputError(
                f"found {chosen.channel.name} in different units: {listed}; expected one; give each a dataset of its own",
                file=path,
            )
    _note_worlds(path, found, studies)
    # The sort is stable: channels that were drawn on equally often stay in the order of their modalities.
    return sorted(found, key=lambda chosen: -_num_drawn_on(chosen, studies))


def _note_worlds(path: Path, found: Sequence[Chosen], studies: Sequence[Study]) -> None:
    """Tell of studies whose channels do not say that they share one frame of reference."""
    apart = []
    for number, study in enumerate(studies):
        frames = {chosen.series[number].frame_of_reference for chosen in found}
        # A frame of reference that is not stated, or was removed, contradicts none.
        if len(frames - {""}) > 1:
            apart.append(study)
    if apart:
        note_or_warn(
            f"{path}: in {len(apart)} studies, such as that of {apart[0].patient or apart[0].uid}, the channels "
            f"{', '.join(chosen.channel.name for chosen in found)} have frames of reference of their own, so that nothing says that "
            "they lie on each other; register them first, or look at them in a viewer"
        )


def _rank(modality: str) -> tuple[int, str]:
    # The modality is the header's own word, and may be none of those that images of these classes have.
    known = list(KINDS)
    return (known.index(modality) if modality in known else len(known), modality)


def _num_drawn_on(chosen: Chosen, studies: Sequence[Study]) -> int:
    return sum(series.uid in _drawn_on(study) for series, study in zip(chosen.series, studies, strict=True))


def _drawn_on(study: Study) -> set[str]:
    return set[str]().union(*(label.series for label in study.labels))


def _of_modality(path: Path, modality: str, studies: Sequence[Study]) -> list[Chosen]:
    """Return the channels of one modality."""
    held: list[list[Series]] = []
    marked: list[list[Series]] = []
    for study in studies:
        drawn_on = _drawn_on(study)
        members = [series for series in study.series if series.modality == modality]
        held.append(members)
        marked.append([series for series in members if series.uid in drawn_on])
    if all(len(members) == 1 for members in held):
        return [_chosen(path, modality, modality, series=[members[0] for members in held])]
    common = _common_descriptions(held)
    needed = {series.description.casefold() for series in chain.from_iterable(marked)}
    # A series that a label was drawn on is never left out, even where others have descriptions in common.
    if common and needed <= common:
        found = [_described(members, common) for members in held]
    elif all(len(members) == 1 for members in marked):
        found = marked
    elif not any(marked) and not all(held):
        # Nothing was drawn on this modality, and some study lacks it: the others can do without it.
        found = [[] for _ in held]
    else:
        raise _unlike(path, f"no one series of {modality} in each study, nor several of the same descriptions", studies)
    _note_left_out(path, modality, held, found=found)
    # The series of each study are in one order, that of their descriptions, which the first study spells.
    names = [series.description for series in found[0]] if len(found[0]) > 1 else [modality]
    # Not strict: where the modality is no channel, one name meets empty lists.
    columns = zip(names, *found, strict=False)
    return [_chosen(path, name, modality, series=list(members)) for name, *members in columns]


def _common_descriptions(held: Sequence[Sequence[Series]]) -> set[str]:
    """Return the descriptions that every study has just once."""
    once = []
    for members in held:
        counts = Counter(series.description.casefold() for series in members)
        # An empty description, as anonymisation leaves it, does not say that two series are alike.
        once.append({name for name, count in counts.items() if name and count == 1})
    return set.intersection(*once)


def _described(members: Sequence[Series], common: set[str]) -> list[Series]:
    """Return the series of the common descriptions, in the order of these."""
    chosen = [series for series in members if series.description.casefold() in common]
    return sorted(chosen, key=lambda series: series.description.casefold())


def _chosen(path: Path, name: str, modality: str, *, series: list[Series]) -> Chosen:
    fields = {"name": name.replace("/", "-").replace("\\", "-"), "kind": KINDS.get(modality, "other")}
    return Chosen(parse_record(Channel, fields, source=str(path), error=InputError), series)


def _note_left_out(
    path: Path, modality: str, held: Sequence[Sequence[Series]], *, found: Sequence[Sequence[Series]]
) -> None:
    left: Counter[str] = Counter()
    for members, chosen in zip(held, found, strict=True):
        left.update(series.description or series.uid for series in members if series not in chosen)
    if left:
        listed = _listed(f"{name} (in {count} studies)" for name, count in sorted(left.items()))
        logger.warning("%s: series of %s that not every study has just once are left out: %s", path, modality, listed)


def _unlike(path: Path, what: str, studies: Sequence[Study]) -> InputError:
    """Return the error for studies that cannot be brought under common channels."""
    held = _listed(map(_contents, studies))
    return InputError(
        f"found {what}; found {held}; expected the same series in each; write a manifest with a folder per channel, or leave out "
        "what differs",
        file=path,
    )


def _contents(study: Study) -> str:
    """Return a study and its series as text."""
    series = ", ".join(f"{one.modality} {one.description or '(no description)'}" for one in study.series)
    return f"{study.patient or 'study'} {study.date or study.uid}: {series}"


def _listed(entries: Iterable[str]) -> str:
    listed = list(entries)
    more = f"; and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
    return "; ".join(listed[:MOST_LISTED]) + more
