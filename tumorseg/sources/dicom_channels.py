"""Choice of the image series of DICOM studies that are the channels: those that every study has."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
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
    modalities = sorted({series.modality for study in studies for series in study.series}, key=_rank)
    found = [chosen for modality in modalities for chosen in _of_modality(path, modality, studies)]
    if not found:
        raise _unlike(path, "no series that every study has", studies)
    for chosen in found:
        if len(units := Counter(series.units for series in chosen.series)) > 1:
            listed = ", ".join(f"{unit or 'none'} ({count})" for unit, count in sorted(units.items()))
            raise InputError(
                f"found {chosen.channel.name} in different units: {listed}; expected one; give each a dataset of its own",
                file=path,
            )
    _note_worlds(path, found, studies)
    return sorted(found, key=lambda chosen: -_num_drawn_on(chosen, studies))


def _note_worlds(path: Path, found: Sequence[Chosen], studies: Sequence[Study]) -> None:
    """Tell of studies whose channels do not say that they share one frame of reference."""
    worlds = [{chosen.series[number].frame_of_reference for chosen in found} - {""} for number in range(len(studies))]
    if apart := [study for study, known in zip(studies, worlds, strict=True) if len(known) > 1]:
        note_or_warn(
            f"{path}: in {len(apart)} studies, such as that of {apart[0].patient or apart[0].uid}, the channels "
            f"{', '.join(chosen.channel.name for chosen in found)} have frames of reference of their own, so that nothing says that "
            "they lie on each other; register them first, or look at them in a viewer"
        )


def _rank(modality: str) -> tuple[int, str]:
    known = list(KINDS)
    return (known.index(modality) if modality in known else len(known), modality)


def _num_drawn_on(chosen: Chosen, studies: Sequence[Study]) -> int:
    return sum(series.uid in _drawn_on(study) for series, study in zip(chosen.series, studies, strict=True))


def _drawn_on(study: Study) -> set[str]:
    return {uid for label in study.labels for uid in label.series}


def _of_modality(path: Path, modality: str, studies: Sequence[Study]) -> list[Chosen]:
    """Return the channels of one modality."""
    held = [[series for series in study.series if series.modality == modality] for study in studies]
    marked = [
        [series for series in series_of if series.uid in _drawn_on(study)]
        for series_of, study in zip(held, studies, strict=True)
    ]
    if all(len(series_of) == 1 for series_of in held):
        return [_chosen(path, modality, modality, series=[series_of[0] for series_of in held])]
    common = _common_descriptions(held)
    if common and all(series.description.casefold() in common for series_of in marked for series in series_of):
        found = [_described(series_of, common) for series_of in held]
    elif all(len(series_of) == 1 for series_of in marked):
        found = marked
    elif not any(marked) and not all(held):
        found = [[] for _ in held]
    else:
        raise _unlike(path, f"no one series of {modality} in each study, nor several of the same descriptions", studies)
    _note_left_out(path, modality, held, found=found)
    names = [series.description for series in found[0]] if len(found[0]) > 1 else [modality]
    return [_chosen(path, name, modality, series=list(members)) for name, *members in zip(names, *found, strict=False)]


def _common_descriptions(held: Sequence[Sequence[Series]]) -> set[str]:
    """Return the descriptions that every study has just once."""
    counts = [Counter(series.description.casefold() for series in series_of) for series_of in held]
    return {name for name in counts[0] if name and all(count[name] == 1 for count in counts)}


def _described(series_of: Sequence[Series], common: set[str]) -> list[Series]:
    """Return the series of the common descriptions, in the order of these."""
    chosen = [series for series in series_of if series.description.casefold() in common]
    return sorted(chosen, key=lambda series: series.description.casefold())


def _chosen(path: Path, name: str, modality: str, *, series: list[Series]) -> Chosen:
    fields = {"name": name.replace("/", "-").replace("\\", "-"), "kind": KINDS.get(modality, "other")}
    return Chosen(parse_record(Channel, fields, source=str(path), error=InputError), series)


def _note_left_out(
    path: Path, modality: str, held: Sequence[Sequence[Series]], *, found: Sequence[Sequence[Series]]
) -> None:
    left = Counter(
        series.description or series.uid
        for series_of, chosen in zip(held, found, strict=True)
        for series in series_of
        if series not in chosen
    )
    if left:
        listed = _listed(f"{name} (in {count} studies)" for name, count in sorted(left.items()))
        logger.warning("%s: series of %s that not every study has just once are left out: %s", path, modality, listed)


def _unlike(path: Path, what: str, studies: Sequence[Study]) -> InputError:
    """Return the error for studies that cannot be brought under common channels."""
    held = _listed(
        f"{study.patient or 'study'} {study.date or study.uid}: "
        + ", ".join(f"{series.modality} {series.description or '(no description)'}" for series in study.series)
        for study in studies
    )
    return InputError(
        f"found {what}; found {held}; expected the same series in each; write a manifest with a folder per channel, or leave out "
        "what differs",
        file=path,
    )


def _listed(entries: Iterable[str]) -> str:
    listed = list(entries)
    more = f"; and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
    return "; ".join(listed[:MOST_LISTED]) + more
