"""Channel kinds (CT, MR, PET, …): stated, named, or shown by the intensities."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tumorseg.schema.dataset import Channel, ChannelKind
from tumorseg.schema.fingerprint import Fingerprint, IntensityStatistics

NAME_PATTERNS: dict[ChannelKind, str] = {
    # Short names must stand alone: `ct` is part of `resected`, `pt` of `optic`.
    "ct": r"(^|[^a-z])(ct|cta|cect|ncct|cbct)([^a-z]|$)",
    "pet": r"(^|[^a-z])(pet|suv|fdg|pt)([^a-z]|$)",
    "rgb": r"^(rgb|red|green|blue|r|g|b|rgb_to_0_1)$",
    "mr": r"mr|(^|[^a-z]|ce)t[12](w|c|ce|gd|n|f|map|post|_|[^a-z]|$)|flair|dwi|adc|dce|swi|dixon|cine|perf|bold"
    r"|(^|[^a-z])pd([^a-z]|$)",
}
"""What a channel's name (lower case) says; the first that matches counts."""
EDGES_HU = ((-1300.0, -900.0), (-2200.0, -1900.0), (-3200.0, -2900.0))
"""Where the least intensity of a CT lies: air, or padding of -2000, -2048, -3000, -3024, blurred by interpolation."""
MOST_CASES = 0.9
"""Share of the cases whose least intensity lies there; the others are crops without air."""
GAS_HU = -500.0
"""Foreground that reaches below this holds gas; where whole images were not measured, this alone shows air."""
FOREGROUND_HU = (-1100.0, 4000.0)
"""Where all but a hundredth of the foreground of a CT lies: between air and metal."""
MIDDLE_HU = (-1000.0, 1500.0)
"""Where the middle of it lies: between lung and bone."""
GREATEST_HU = 100_000.0
"""No CT has more."""


class KindDecision(NamedTuple):
    """A channel's kind, why, and what speaks against it."""

    kind: ChannelKind
    rule: str
    warning: str | None


def kind_from_name(name: str) -> ChannelKind | None:
    """Return the kind that a channel's name states, or None."""
    lowered = name.casefold()
    return next((kind for kind, pattern in NAME_PATTERNS.items() if re.search(pattern, lowered)), None)


def kind_from_intensities(intensities: IntensityStatistics, minima: Sequence[float] = ()) -> ChannelKind | None:
    """Return the kind that intensities show beyond doubt, or None.

    Only CT gives itself away: its Hounsfield units begin at -1000 in air, or lower in padding, in nearly every case. MR
    that goes below zero (interpolated, subtracted, a phase) does so as far as it happens to.

    Args:
        intensities: over foreground, of the whole dataset.
        minima: least intensity of each case's whole image; without any, the foreground itself must reach into gas.
    """
    low, high = FOREGROUND_HU
    is_plausible = (
        low <= intensities.percentile_00_5
        and intensities.percentile_99_5 <= high
        and MIDDLE_HU[0] <= intensities.median <= MIDDLE_HU[1]
        and intensities.max <= GREATEST_HU
        # Foreground of one single value, as where all is padding, lies within the bounds as well.
        and intensities.std > 1
    )
    if not is_plausible:
        return None
    if minima:
        return "ct" if sum(map(_is_edge, minima)) >= MOST_CASES * len(minima) else None
    # From the deepest padding up to gas.
    return "ct" if EDGES_HU[-1][0] <= intensities.min <= GAS_HU else None


def _is_edge(minimum: float) -> bool:
    return any(low <= minimum <= high for low, high in EDGES_HU)


def decide_kinds(fingerprint: Fingerprint) -> list[KindDecision]:
    """Decide the kind of every channel of a dataset."""
    decided = []
    for channel in fingerprint.dataset.channels:
        minima = _channel_minima(fingerprint, channel.name)
        decided.append(decide_kind(channel, fingerprint.intensities[channel.name], minima))
    return decided


def _channel_minima(fingerprint: Fingerprint, channel: str) -> list[float]:
    """Return the least intensity of each case's image, as far as it was measured."""
    measured = [case.channel_minima for case in fingerprint.cases if case.channel_minima is not None]
    return [minima[channel] for minima in measured if channel in minima]


def decide_kind(channel: Channel, intensities: IntensityStatistics, minima: Sequence[float] = ()) -> KindDecision:
    """Decide a channel's kind: what the dataset states, else its name, else its intensities.

    A disagreement between statement and intensities becomes a warning, and does not change the decision.

    Args:
        channel: it may state its kind.
        intensities: over foreground, of the whole dataset.
        minima: least intensity of each case's whole image, as far as it was measured.
    """
    stated = channel.kind or kind_from_name(channel.name)
    shown = kind_from_intensities(intensities, minima)
    if stated is None:
        rule = "intensities are those of Hounsfield units" if shown else "neither name nor intensities tell"
        return KindDecision(shown or "other", rule, None)
    rule = "stated by the dataset" if channel.kind else f"the channel is called {channel.name}"
    warning = _disagreement(channel, stated, shown, intensities)
    # Whole images that were measured are judged one by one: see ops/units.py.
    if warning is None and not minima:
        warning = _doubtful_foreground(channel, stated, intensities)
    return KindDecision(stated, rule, warning)


def _disagreement(
    channel: Channel, stated: ChannelKind, shown: ChannelKind | None, intensities: IntensityStatistics
) -> str | None:
    found = _span(intensities)
    if shown == "ct" and stated != "ct":
        return (
            f"channel {channel.name} is taken for {stated}, but has {found}, as CT does; if it is CT, say so with "
            "kind: ct"
        )
    # Interpolation between voxels rings a little below 0.
    if stated == "pet" and intensities.min < -1:
        return f"channel {channel.name} is taken for PET, but has {found}; uptake is not negative"
    return None


def _doubtful_foreground(channel: Channel, stated: ChannelKind, intensities: IntensityStatistics) -> str | None:
    # A byte's range: a screenshot, or a window turned to grey levels.
    if stated == "ct" and intensities.min >= 0 and intensities.max <= 255:
        return f"channel {channel.name} is taken for CT, but has {_span(intensities)}; is it in Hounsfield units?"
    return None


def _span(intensities: IntensityStatistics) -> str:
    return f"foreground intensities from {intensities.min:g} to {intensities.max:g}"
