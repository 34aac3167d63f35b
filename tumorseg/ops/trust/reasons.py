"""What is unusual of an image in plain words: the cause where it is known, not all that follows from it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from tumorseg.ops.trust.changes import Explained
from tumorseg.ops.trust.image_rules import units_as_learned
from tumorseg.ops.trust.measures import Measure
from tumorseg.ops.trust.rules import DIRECTIONS, natural
from tumorseg.schema.trust import LEVEL_PERCENTILES, Rule, TrustProfile

ORDER = ("empty", "spacing", "extent", "edge", "body", "level", "zeros", "correlation", "fit", "swap", "flip")
"""Of kinds: causes before what follows from them."""
MIDDLE = 50
"""Percentile that is told before others."""


class Unusual(NamedTuple):
    """A measurement beyond the threshold."""

    score: float
    value: float
    rule: Rule


def image_reasons(explained: Explained, profile: TrustProfile) -> list[str]:
    """Return reasons to look at an image, causes first.

    Args:
        explained: its scores, and what seems to have happened to it.
        profile: of the model.
    """
    rules = {Measure(rule.kind, rule.of): rule for rule in profile.image.rules}
    happened = [Unusual(*explained.scores[measure], rules[measure]) for measure in explained.changes]
    unusual = [
        Unusual(score, value, rules[measure])
        for measure, (score, value) in explained.left.items()
        if score > profile.threshold
    ]
    ordered = sorted(unusual, key=lambda one: (ORDER.index(one.rule.kind), -one.score, one.rule.of))
    causes: list[Unusual] = []
    for one in ordered:
        # That it looks changed, which undoing did not mend, is told only where there is nothing else to tell.
        is_doubtful = one.rule.kind in DIRECTIONS and bool(causes or happened)
        if not is_doubtful and not any(_explains(cause.rule, one.rule) for cause in causes):
            causes.append(one)
    return [_sentence(one, profile) for one in (*happened, *_with_middle_levels(causes, ordered))]


def _explains(cause: Rule, effect: Rule) -> bool:
    """Tell whether one unusual measurement follows from another, so that there is nothing more to say."""
    shared = bool(set(_channels(cause)) & set(_channels(effect)))
    if cause.kind == "empty":
        # The body is that of all channels, and thumbnails show its box.
        return shared or effect.kind in ("edge", "body", "fit")
    if cause.kind in ("spacing", "extent", "edge", "body"):
        along_same = cause.of[0] == effect.of[0] and effect.kind in ("extent", "edge", "body")
        # Of an image that is cut off, thumbnails show another part.
        return along_same or (effect.kind == "fit" and cause.kind != "spacing")
    return shared and effect.kind in ("level", "fit") and cause.kind != "correlation"


def _channels(rule: Rule) -> tuple[int, ...]:
    """Return the channels that a rule is of."""
    if rule.kind in ("empty", "zeros", "fit", "swap", "correlation"):
        return rule.of
    return rule.of[:1] if rule.kind == "level" else ()


def _with_middle_levels(causes: Iterable[Unusual], ordered: Sequence[Unusual]) -> Iterator[Unusual]:
    """Yield causes, of a channel's levels the median where it is unusual, too."""
    for one in causes:
        middles = [
            other
            for other in ordered
            if other.rule.kind == one.rule.kind == "level"
            and other.rule.of[0] == one.rule.of[0]
            and LEVEL_PERCENTILES[other.rule.of[1]] == MIDDLE
        ]
        yield middles[0] if middles else one


def _sentence(one: Unusual, profile: TrustProfile) -> str:
    return _SENTENCES[one.rule.kind](one, profile)


def _channel(profile: TrustProfile, number: int) -> str:
    """Return a channel as files and plans call it."""
    return f"{number:04d} ({profile.subject.channels[number]})"


def _natural(one: Unusual, profile: TrustProfile) -> float:
    return natural(Measure(one.rule.kind, one.rule.of), one.value, units_as_learned(profile.image))


def _usual(rule: Rule, form: str = ".3g") -> str:
    """Return the range of training images; they differ by so little at times that one number says it."""
    low, high = f"{rule.low:{form}}", f"{rule.high:{form}}"
    return low if low == high else f"{low} to {high}"


def _empty(one: Unusual, profile: TrustProfile) -> str:
    return f"channel {_channel(profile, one.rule.of[0])} shows nothing"


def _swap(one: Unusual, profile: TrustProfile) -> str:
    first, second = (_channel(profile, number) for number in one.rule.of)
    return f"channels {first} and {second} look swapped"


def _flip(one: Unusual, profile: TrustProfile) -> str:
    return f"looks flipped along {profile.subject.axes[one.rule.of[0]]}"


def _spacing(one: Unusual, profile: TrustProfile) -> str:
    axis = profile.subject.axes[one.rule.of[0]]
    return f"the spacing along {axis} is {_natural(one, profile):.3g} mm, in training {_usual(one.rule)}"


def _extent(one: Unusual, profile: TrustProfile) -> str:
    axis = profile.subject.axes[one.rule.of[0]]
    return f"the image covers {_natural(one, profile):.3g} mm along {axis}, in training {_usual(one.rule)}"


def _body(one: Unusual, profile: TrustProfile) -> str:
    axis = profile.subject.axes[one.rule.of[0]]
    return f"what is seen takes {_natural(one, profile):.3g} mm along {axis}, in training {_usual(one.rule)}"


def _edge(one: Unusual, profile: TrustProfile) -> str:
    axis, end = one.rule.of
    where = f"the {'last' if end else 'first'} slice along {profile.subject.axes[axis]}"
    is_cut = one.value > one.rule.center
    return (
        f"what is seen is cut off at {where}, unlike in training"
        if is_cut
        else f"what is seen does not reach {where}, as it does in training"
    )


def _level(one: Unusual, profile: TrustProfile) -> str:
    number, position = one.rule.of
    percentile, name = LEVEL_PERCENTILES[position], profile.subject.channels[number]
    where = "median in the body" if percentile == MIDDLE else f"percentile {percentile} in the body"
    found, side = _natural(one, profile), "higher" if one.value > one.rule.center else "lower"
    # What is no CT has no unit in which a difference would mean anything.
    far = f"{abs(one.value - one.rule.center):.0f} HU " if profile.image.units[number] is None else ""
    return (
        f"intensities of {name} are {far}{side} than in training ({where} {found:.4g}, in training {_usual(one.rule)})"
    )


def _zeros(one: Unusual, profile: TrustProfile) -> str:
    name = profile.subject.channels[one.rule.of[0]]
    return f"{one.value:.0%} of the voxels of {name} are 0, in training {_usual(one.rule, '.0%')}"


def _correlation(one: Unusual, profile: TrustProfile) -> str:
    first, second = (_channel(profile, number) for number in one.rule.of)
    return f"channels {first} and {second} correlate by {_natural(one, profile):.2f}, in training {_usual(one.rule, '.2f')}"


def _fit(one: Unusual, profile: TrustProfile) -> str:
    name, found = profile.subject.channels[one.rule.of[0]], _natural(one, profile)
    return f"{name} looks otherwise than in training (correlation with the mean image {found:.2f}, in training {_usual(one.rule, '.2f')})"


_SENTENCES: dict[str, Callable[[Unusual, TrustProfile], str]] = {
    "empty": _empty,
    "swap": _swap,
    "flip": _flip,
    "spacing": _spacing,
    "extent": _extent,
    "body": _body,
    "edge": _edge,
    "level": _level,
    "zeros": _zeros,
    "correlation": _correlation,
    "fit": _fit,
}
"""One for each kind of rule."""
