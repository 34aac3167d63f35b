"""What made a channel's intensities, and the normalisation that follows."""

import re
from typing import NamedTuple

from tumorseg.schema.dataset import Channel, ChannelKind
from tumorseg.schema.fingerprint import IntensityStatistics
from tumorseg.schema.preprocessing import (
    CtNormalization,
    NoNormalization,
    NormalizationSpec,
    RescaleNormalization,
    RgbNormalization,
    ZScoreNormalization,
)

NAME_PATTERNS: dict[ChannelKind, str] = {
    "ct": r"(^|[^a-z])(ct|cta|cect|ncct|cbct)([^a-z]|$)",
    "pet": r"(^|[^a-z])(pet|suv|fdg|pt)([^a-z]|$)",
    "rgb": r"^(rgb|red|green|blue|r|g|b|rgb_to_0_1)$",
    "mr": r"mr|(^|[^a-z]|ce)t[12](w|c|ce|gd|n|f|map|post|_|[^a-z]|$)|flair|dwi|adc|dce|swi|dixon|cine|perf|bold|(^|[^a-z])pd([^a-z]|$)",
}
"""What a channel's name (lower case) says; the first that matches counts."""
NNUNET_SCHEMES: dict[str, NormalizationSpec] = {
    "nonorm": NoNormalization(),
    "rescale_to_0_1": RescaleNormalization(),
    "rgb_to_0_1": RgbNormalization(),
}
"""Channel names that nnU-Net reads as a normalisation."""
AIR_HU = -200.0
"""CT has foreground or other tissue below this; other images hardly ever go negative so far."""
CROPPED_SHARE = 0.75
"""Z-scores are taken inside the non-zero mask where cropping left less than this share of a median case."""


class KindDecision(NamedTuple):
    """A channel's kind, why, and what speaks against it."""

    kind: ChannelKind
    rule: str
    warning: str | None


def kind_from_name(name: str) -> ChannelKind | None:
    """Return the kind that a channel's name states, or None."""
    lowered = name.casefold()
    return next((kind for kind, pattern in NAME_PATTERNS.items() if re.search(pattern, lowered)), None)


def kind_from_intensities(intensities: IntensityStatistics) -> ChannelKind | None:
    """Return the kind that foreground intensities show beyond doubt, or None.

    Only CT gives itself away: its Hounsfield units go below zero by hundreds and stay within -1024 to some thousands.
    """
    in_hounsfield_range = -5000 <= intensities.min <= AIR_HU and intensities.max <= 100_000
    return "ct" if in_hounsfield_range and intensities.std > 1 else None


def decide_kind(channel: Channel, intensities: IntensityStatistics) -> KindDecision:
    """Decide a channel's kind: what the dataset states, else its name, else its intensities.

    A disagreement between statement and intensities does not change the decision, but is told.
    """
    stated = channel.kind or kind_from_name(channel.name)
    shown = kind_from_intensities(intensities)
    if stated is None:
        rule = "foreground intensities are those of Hounsfield units" if shown else "neither name nor intensities tell"
        return KindDecision(shown or "other", rule, None)
    rule = "stated by the dataset" if channel.kind else f"the channel is called {channel.name}"
    return KindDecision(stated, rule, _disagreement(channel, stated, shown, intensities))


def _disagreement(
    channel: Channel, stated: ChannelKind, shown: ChannelKind | None, intensities: IntensityStatistics
) -> str | None:
    found = f"foreground intensities from {intensities.min:g} to {intensities.max:g}"
    if shown == "ct" and stated != "ct":
        return f"channel {channel.name} is taken for {stated}, but has {found}, as CT does; if it is CT, say so with kind: ct"
    if stated == "ct" and intensities.min >= 0 and intensities.max <= 255:
        return f"channel {channel.name} is taken for CT, but has {found}; is it in Hounsfield units?"
    if stated == "pet" and intensities.min < -1:
        return f"channel {channel.name} is taken for PET, but has {found}; uptake is not negative"
    return None


def choose_normalization(
    channel: Channel, kind: ChannelKind, intensities: IntensityStatistics, relative_size: float
) -> NormalizationSpec:
    """Return a channel's normalisation.

    Args:
        channel: its name may be one of nnU-Net's schemes.
        kind: as decided.
        intensities: over foreground, of the whole dataset.
        relative_size: median of cropped over stored voxels.
    """
    if (scheme := NNUNET_SCHEMES.get(channel.name.casefold())) is not None:
        return scheme
    if kind == "ct":
        return CtNormalization(
            lower_hu=intensities.percentile_00_5,
            upper_hu=intensities.percentile_99_5,
            mean_hu=intensities.mean,
            std_hu=intensities.std,
        )
    if kind == "rgb":
        return RgbNormalization()
    return ZScoreNormalization(masked=relative_size < CROPPED_SHARE)
