"""Normalisation of each channel, by its kind, or by a name that nnU-Net reads as one."""

from collections.abc import Sequence
from typing import NamedTuple

from tumorseg.planning.decided import Decided
from tumorseg.planning.evidence.kinds import KindDecision
from tumorseg.schema.dataset import Channel
from tumorseg.schema.fingerprint import Fingerprint, IntensityStatistics
from tumorseg.schema.plan import Reason
from tumorseg.schema.preprocessing import (
    CtNormalization,
    NoNormalization,
    NormalizationSpec,
    RescaleNormalization,
    RgbNormalization,
    ZScoreNormalization,
)

NNUNET_SCHEMES: dict[str, NormalizationSpec] = {
    "nonorm": NoNormalization(),
    "rescale_to_0_1": RescaleNormalization(),
    "rgb_to_0_1": RgbNormalization(),
}
"""Channel names that nnU-Net reads as a normalisation."""
# nnU-Net's limit. Images lose so much where all but an organ was set to 0, as skull-stripping does: the zeros that
# are left in the box would shift mean and deviation.
CROPPED_SHARE = 0.75
"""Z-scores are taken inside the non-zero mask where cropping left less than this share of a median case."""


class NormalizationChoice(NamedTuple):
    """A channel's normalisation, the rule that gave it, and the next-best one."""

    spec: NormalizationSpec
    rule: str
    alternative: str


def choose_normalizations(
    fingerprint: Fingerprint, kinds: Sequence[KindDecision]
) -> Decided[tuple[NormalizationSpec, ...]]:
    """Return the normalisation of every channel, with reasons by field of a configuration.

    Args:
        fingerprint: of the cases that are used.
        kinds: one per channel.
    """
    relative = fingerprint.median_relative_size_after_cropping
    specs, reasons = [], {}
    for number, (channel, kind) in enumerate(zip(fingerprint.dataset.channels, kinds, strict=True)):
        intensities = fingerprint.intensities[channel.name]
        choice = choose_normalization(channel, kind, intensities, relative)
        specs.append(choice.spec)
        reasons[f"normalization.{number}"] = Reason(
            rule=choice.rule,
            inputs={
                "channel": channel.name,
                "disagreement": kind.warning,
                "median_relative_size_after_cropping": relative,
                **intensities.model_dump(),
            },
            alternative=choice.alternative,
        )
    return Decided(tuple(specs), reasons)


def choose_normalization(
    channel: Channel, kind: KindDecision, intensities: IntensityStatistics, relative_size: float
) -> NormalizationChoice:
    """Return the normalisation of one channel.

    Args:
        channel: its name may be one of nnU-Net's schemes.
        kind: as decided.
        intensities: over foreground, of the whole dataset.
        relative_size: median of cropped over stored voxels.
    """
    if (scheme := NNUNET_SCHEMES.get(channel.name.casefold())) is not None:
        rule = f"the channel is called {channel.name}, which nnU-Net reads as this normalisation"
        return NormalizationChoice(scheme, rule, "a z-score of each image, as of a channel of another name")
    because = f"kind {kind.kind} ({kind.rule})"
    if kind.kind == "ct":
        spec = CtNormalization(
            lower_hu=intensities.percentile_00_5,
            upper_hu=intensities.percentile_99_5,
            mean_hu=intensities.mean,
            std_hu=intensities.std,
        )
        rule = f"{because}: clipped to percentiles of the dataset's foreground, z-score with its mean"
        alternative = "a z-score of each image: loses what Hounsfield units mean, but takes images of other units"
        return NormalizationChoice(spec, rule, alternative)
    if kind.kind == "rgb":
        alternative = "a z-score of each image: takes away what differs in brightness, and with it what that may mean"
        return NormalizationChoice(RgbNormalization(), f"{because}: divided by 255", alternative)
    return _choose_zscore(because, relative_size)


def _choose_zscore(because: str, relative_size: float) -> NormalizationChoice:
    """Return a z-score, over the whole image or inside the non-zero mask."""
    cropped = f"as cropping left {relative_size:.2f} of a median case"
    other = "another share of background in mean and deviation"
    if relative_size < CROPPED_SHARE:
        rule = f"{because}: z-score of each image inside the non-zero mask, {cropped}, under {CROPPED_SHARE:g}"
        alternative = f"a z-score over the whole image: {other}"
        return NormalizationChoice(ZScoreNormalization(masked=True), rule, alternative)
    rule = f"{because}: z-score of each image over the whole image, {cropped}, not under {CROPPED_SHARE:g}"
    alternative = f"a z-score within the non-zero mask: {other}"
    return NormalizationChoice(ZScoreNormalization(masked=False), rule, alternative)
