"""Channels of two datasets by what they show, whatever each dataset calls them."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.matching.contrast import without_contrast, words_of
from tumorseg.schema.dataset import Channel, ChannelKind, DatasetDescription


class Meaning(NamedTuple):
    """What a channel shows."""

    kind: ChannelKind
    spellings: frozenset[str]
    """What it is called: lower-case letters and digits, `+` as `plus`, without words that say nothing (`SILENT`). Names that deny contrast
    in words of their own (`T1 -Gd`) are native ones besides."""


def _meaning(kind: ChannelKind, spellings: str) -> Meaning:
    return Meaning(kind, frozenset(spellings.split()))


MEANINGS: dict[str, Meaning] = {
    "T1, native": _meaning("mr", "t1 t1w t1n t1weighted t1wi t1native t1pre t1precontrast precontrastt1 t1nocontrast"),
    "T1, with contrast": _meaning(
        "mr",
        "t1ce t1c t1cw t1gd t1wgd t1wce t1wc t1gad t1gado t1gadolinium t1post t1wpost t1postcontrast t1wpostcontrast postcontrastt1 t1contrast "
        "t1wcontrast t1contrastenhanced t1withcontrast contrastenhancedt1 cet1 cet1w cet1weighted gdt1 gdt1w t1plus t1plusc t1cplus t1pluscontrast "
        "t1plusgd t1km t1weightedpostcontrast t1weightedcontrastenhanced t1postgd t1postgad t1gdpost t1gdplus t1ceplus t1cpost t1wcepost",
    ),
    "T2": _meaning("mr", "t2 t2w t2weighted t2wi"),
    "T2-FLAIR": _meaning("mr", "flair t2f t2flair t2wflair flairt2 fluidattenuatedinversionrecovery"),
    "T2*": _meaning("mr", "t2star t2starw t2starweighted"),
    "proton density": _meaning("mr", "pd pdw protondensity protondensityweighted"),
    "diffusion": _meaning("mr", "dwi dw diffusion diffusionweighted diffusionweightedimaging"),
    "diffusion, high b-value": _meaning("mr", "hbv highb highbvalue dwihighb dwihighbvalue dwihbv highbdwi"),
    "apparent diffusion coefficient": _meaning("mr", "adc adcmap apparentdiffusioncoefficient"),
    "susceptibility": _meaning("mr", "swi susceptibilityweighted susceptibilityweightedimaging"),
    "CT": _meaning("ct", "ct computedtomography cthu"),
    "CT, with contrast": _meaning("ct", "cect ctce ctcontrast contrastct contrastenhancedct ctcontrastenhanced"),
    "CT, native": _meaning("ct", "ncct nect ctnative noncontrastct nonenhancedct ctnoncontrast"),
    # Uptake per dose and weight is one unit in all datasets, counts or Bq/ml are others: a network takes one for the other.
    "PET, SUV": _meaning("pet", "suv petsuv suvpet ptsuv suvpt suvbw petsuvbw"),
    "PET, unit unknown": _meaning("pet", "pet pt positronemissiontomography"),
    "FDG-PET, SUV": _meaning("pet", "fdgsuv suvfdg fdgpetsuv petfdgsuv"),
    "FDG-PET, unit unknown": _meaning("pet", "fdg fdgpet petfdg 18ffdg 18ffdgpet"),
}
"""What is the same in different datasets. A name that is in none of these means itself alone: a wrong channel gives a wrong mask."""
SILENT = frozenset(
    ("mr", "mri", "mrt", "image", "images", "img", "scan", "sequence", "seq", "channel", "modality", "volume")
)
"""Words that say nothing of which channel it is, as far as others are left."""
SPEECHLESS = SILENT - {"mr", "mri", "mrt"} | {
    "ch",
    "im",
    "in",
    "input",
    "series",
    "no",
    "nr",
    "number",
    "band",
    "data",
    "file",
    "plus",
    "minus",
    "star",
}
"""Words that do not even say how the image was made."""
UNTOLD = "the name does not say what it shows, and one number means different things in different datasets"
NAMING_ADVICE = "call channels by what they show in a manifest"


class ChannelMatch(NamedTuple):
    """Which channels of one dataset are those of another."""

    found: dict[str, str]
    """Name that is wanted to the name there, in the order wanted."""
    missing: tuple[str, ...]
    """Wanted names that no channel there is beyond doubt."""
    reasons: dict[str, str]
    """Why each is missing, as what follows its name and a colon."""

    @property
    def is_complete(self) -> bool:
        """Return whether every channel that is wanted is there."""
        return not self.missing

    def told(self) -> str:
        """Return in words what is missing; empty where nothing is."""
        return "; ".join(f"{name}: {self.reasons[name]}" for name in self.missing)


def spelled_channel(name: str) -> str:
    """Return a channel's name in lower-case letters and digits, without separators and words that say nothing of it."""
    return "".join(_telling(name))


def _telling(name: str) -> list[str]:
    words = words_of(name)
    return [word for word in words if word not in SILENT] or words


def meaning_of(name: str) -> str | None:
    """Return what a channel of this name shows, a key of `MEANINGS`; None where the name alone does not tell."""
    # Asked first, as `T1 (Gd-)` is made of the same letters as `T1Gd`.
    native = without_contrast(_telling(name))
    spelling = spelled_channel(name) if native is None else native
    return next((meaning for meaning, known in MEANINGS.items() if spelling in known.spellings), None)


def says_what_it_shows(name: str) -> bool:
    """Tell whether a name says anything of a channel: `image`, `channel_0` and `0` do not, whatever they are in some dataset."""
    words = [word.rstrip("0123456789") for word in words_of(name)]
    return any(word and word not in SPEECHLESS for word in words)


def match_channels(wanted: Sequence[Channel], there: Sequence[Channel], *, is_one: bool = False) -> ChannelMatch:
    """Find each channel that is wanted: by its name, else by its spelling, else by what the name means.

    A channel of another kind (CT, MR, PET) is never taken. Where two channels may be meant, none is taken.

    Args:
        wanted: such as those of a model, in its order.
        there: those of a dataset.
        is_one: whether both name the channels of one dataset, so that `image` or `channel_0` is the same in both.
    """
    telling = [one for one in wanted if is_one or says_what_it_shows(one.name)]
    taken: dict[str, str] = {}
    # What is called the same in both is settled before looser rules, for which fewer channels are then left.
    for same in (_is_named_alike, _is_spelled_alike, _means_the_same):
        taken |= _settled(telling, there, taken, same)
    found = {channel.name: taken[channel.name] for channel in wanted if channel.name in taken}
    reasons = {}
    for channel in wanted:
        if channel.name not in taken:
            why = _why_missing(channel, there, taken)
            reasons[channel.name] = why if channel in telling else f"{UNTOLD}; {NAMING_ADVICE}"
    return ChannelMatch(found, tuple(reasons), reasons)


def common_channels(descriptions: Sequence[DatasetDescription]) -> list[dict[str, str]]:
    """Return, for each dataset, the first one's name of every channel that all have to its own, in the first one's order.

    Raises:
        InputError: there is none.
    """
    first = descriptions[0]
    matches = [match_channels(first.channels, one.channels).found for one in descriptions]
    shared = reduce(set.intersection, (set(match) for match in matches))
    if not shared:
        has = [f"{one.name} has {', '.join(channel.name for channel in one.channels)}" for one in descriptions]
        is_told = all(says_what_it_shows(channel.name) for one in descriptions for channel in one.channels)
        why = "" if is_told else "; names such as image or channel_0 do not say what they show"
        raise InputError(
            f"found no channel in common: {'; '.join(has)}{why}; expected one at least that is called alike; {NAMING_ADVICE}"
        )
    return [{name: own for name, own in match.items() if name in shared} for match in matches]


def _settled(
    wanted: Sequence[Channel], there: Sequence[Channel], taken: dict[str, str], same: Callable[[Channel, Channel], bool]
) -> dict[str, str]:
    """Return the pairs of channels that are not taken yet and that one rule joins beyond doubt."""
    left = [one for one in wanted if one.name not in taken]
    free = [one for one in there if one.name not in taken.values()]
    settled = {}
    for one in left:
        candidates = [other for other in free if same(one, other)]
        rivals = [other for other in left if candidates and same(other, candidates[0])]
        if len(candidates) == len(rivals) == 1 and _kinds_agree(one, candidates[0]):
            settled[one.name] = candidates[0].name
    return settled


def _is_named_alike(one: Channel, other: Channel) -> bool:
    return one.name == other.name


def _is_spelled_alike(one: Channel, other: Channel) -> bool:
    return spelled_channel(one.name) == spelled_channel(other.name)


def _means_the_same(one: Channel, other: Channel) -> bool:
    meaning = meaning_of(one.name)
    return meaning is not None and meaning == meaning_of(other.name)


def kind_of(channel: Channel) -> ChannelKind | None:
    """Return a channel's kind as it is stated, else as its name tells; None where neither does."""
    meaning = meaning_of(channel.name)
    return channel.kind or (MEANINGS[meaning].kind if meaning else None)


def _kinds_agree(one: Channel, other: Channel) -> bool:
    """Tell whether two channels may be of one kind; `other` stands for unknown as well."""
    kinds = {kind_of(one), kind_of(other)} - {None, "other"}
    return len(kinds) < 2


def _why_missing(channel: Channel, there: Sequence[Channel], taken: dict[str, str]) -> str:
    rules = (_is_named_alike, _is_spelled_alike, _means_the_same)
    alike = [other for other in there if any(same(channel, other) for same in rules)]
    free = [other for other in alike if other.name not in taken.values()]
    if not free:
        names = ", ".join(one.name for one in there)
        return f"no channel there is called so or means the same; there are {names}"
    if all(not _kinds_agree(channel, other) for other in free):
        kinds = ", ".join(f"{other.name} is {kind_of(other)}" for other in free)
        return f"is {kind_of(channel)}, but {kinds}"
    return f"{' or '.join(other.name for other in free)} may be meant, or be meant by another name; rename them so that one is"
