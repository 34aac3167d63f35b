"""What trials may change of an augmentation: its preset, one strength for all of it, or each probability and range."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic import JsonValue, ValidationError

from tumorseg.augmentation.presets import AUGMENTATION_PRESETS, NONE, SCALED
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.extensions import External
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.transforms.base import CountRange, PatchFacts, Range, TransformRecord
from tumorseg.schema.transforms.ct import ct_channels
from tumorseg.schema.transforms.intensity import ZeroOutside
from tumorseg.schema.transforms.spatial import MirrorTransform
from tumorseg.schema.tuning import AnyParameter, ChoiceParameter, Condition, RealParameter, WholeParameter

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Factors of all probabilities of a preset."""
MOST_LIKELY = 3.0
"""How many times as likely a transform may become."""
WIDENINGS = (0.5, 0.25, 0.125)
"""Shares of a range by which an end may move outwards: the first that the transform allows."""
LARGEST_TURN_DEG = 90.0
"""Little turns stay below it: beyond, left and right may change places."""


class _Whens(NamedTuple):
    """When a transform's parameters count."""

    probabilities: Condition
    """While the preset is the plan's, and nothing else decides about all probabilities at once."""
    others: Condition
    """While the preset is the plan's."""


def augmentation_parameters(plan: Plan, configuration: Configuration) -> list[AnyParameter]:
    """Return the presets that suit the channels and, with the plan's own, a strength or each probability, and each range.

    A strength multiplies all probabilities. One that was set by itself would undo that, so that they count while the
    strength is the plan's.
    """
    own = configuration.augmentation
    parameters: list[AnyParameter] = [
        ChoiceParameter(field="augmentation.preset", options=_presets(plan, configuration))
    ]
    is_own = Condition(field="augmentation.preset", values=(own.preset,))
    is_as_strong = is_own
    # Of a user's own transforms there are no probabilities that could be multiplied.
    if own.preset in AUGMENTATION_PRESETS and own.preset != NONE:
        options = tuple(sorted({*STRENGTHS, own.strength}))
        strength = ChoiceParameter(field="augmentation.strength", options=options, when=is_own)
        is_as_strong = Condition(field=strength.field, values=(own.strength,))
        parameters.append(strength)
    facts = configuration.patch_facts
    for path, transform in _transforms(own):
        parameters += _of_transform(path, transform, facts, _Whens(is_as_strong, is_own))
    return parameters


def _presets(plan: Plan, configuration: Configuration) -> tuple[str, ...]:
    """Return the plan's own preset, and those of this package that suit the kinds of the channels."""
    kinds = {channel.kind for channel in plan.dataset.channels}
    num_ct = len(ct_channels(configuration.patch_facts))
    suits = {
        "light": True,
        "basic": True,
        # Inverted, air and bone change places.
        "nnunet": num_ct < len(configuration.normalization),
        "mri": "mr" in kinds,
        "ct": num_ct > 0,
        "strong": True,
    }
    own = configuration.augmentation.preset
    return (own, *(name for name, is_suited in suits.items() if is_suited and name != own))


def _transforms(augmentation: AugmentationSpec) -> Iterator[tuple[str, TransformRecord]]:
    """Yield path and record of each transform that has something to set, and is ever applied."""
    names = [transform.name for transform in augmentation.transforms]
    for number, transform in enumerate(augmentation.transforms):
        # Of another package's transform nothing is known, and flips half of the time are as many as there can be.
        if isinstance(transform, External | MirrorTransform | ZeroOutside):
            continue
        name = transform.name if names.count(transform.name) == 1 else str(number)
        if getattr(transform, "probability", 1.0) > 0:
            yield f"augmentation.transforms.{name}", transform


def _of_transform(path: str, transform: TransformRecord, facts: PatchFacts, when: _Whens) -> Iterator[AnyParameter]:
    fields = dict(transform)
    for name, value in fields.items():
        is_probability = name.endswith("probability")
        # Parts that never happen have nothing to be set: `elastic_probability` is that of `elastic_width`.
        never = fields.get(f"{name.split('_')[0]}_probability") == 0
        if never or (is_probability and value == 0):
            continue
        if name in SCALED:
            yield _probability(f"{path}.{name}", value, when.probabilities)
        # Among the others, what is certain stays, and one channel needs no share of channels.
        elif is_probability and value < 1 and (facts.num_channels > 1 or name != "channel_probability"):
            yield _probability(f"{path}.{name}", value, when.others)
        elif isinstance(value, Range | CountRange):
            for end in _ends(transform, name, facts):
                yield end.at(path, when.others)
        elif name == "rotation_deg":
            yield from _angles(f"{path}.{name}", value, when.others)


def _probability(field: str, value: float, when: Condition) -> RealParameter:
    high = min(1.0, round(MOST_LIKELY * value, 4))
    return RealParameter(field=field, low=0.0, high=high, center=value, when=when)


def _angles(field: str, own: tuple[float, ...], when: Condition) -> Iterator[ChoiceParameter]:
    """Yield half the angles, and half as much again where that mirrors nothing."""
    options: list[JsonValue] = []
    most = max(LARGEST_TURN_DEG, *own)
    for factor in (1.0, 0.5, 1.5):
        angles: JsonValue = [min(round(degrees * factor, 1), most) for degrees in own]
        if angles not in options:
            options.append(angles)
    if len(options) > 1:
        yield ChoiceParameter(field=field, options=tuple(options), when=when)


class _End(NamedTuple):
    """One end of a range, and where it may move."""

    name: str
    value: float
    low: float
    high: float
    is_whole: bool

    def at(self, path: str, when: Condition) -> AnyParameter:
        """Return it as a parameter."""
        field = f"{path}.{self.name}"
        if self.is_whole:
            return WholeParameter(
                field=field, low=int(self.low), high=int(self.high), center=int(self.value), when=when
            )
        return RealParameter(field=field, low=self.low, high=self.high, center=self.value, when=when)


def _ends(transform: TransformRecord, name: str, facts: PatchFacts) -> Iterator[_End]:
    """Yield the ends of a range that can move outwards; inwards they move as far as the middle, so that they never cross."""
    span = getattr(transform, name)
    is_whole = isinstance(span, CountRange)
    middle = _middle(span)
    lower = _outermost(transform, name, "low", facts)
    # An end that cannot move outwards is at a bound of its own, such as noise of 0.
    if lower < span.low:
        yield _End(f"{name}.low", span.low, lower, middle, is_whole)
    upper = _outermost(transform, name, "high", facts)
    # Of whole numbers the middle may be the low end itself.
    inner = min(span.high, middle + 1) if is_whole else middle
    if upper > span.high:
        yield _End(f"{name}.high", span.high, inner, upper, is_whole)


def _middle(span: Range | CountRange) -> float:
    """Return the middle of a range, of whole numbers the lower of two."""
    if isinstance(span, CountRange):
        return (span.low + span.high) // 2
    # Rounded for the reader, but never out of the range.
    return min(max(round((span.low + span.high) / 2, 4), span.low), span.high)


def _outermost(transform: TransformRecord, name: str, end: str, facts: PatchFacts) -> float:
    """Return the outermost place that an end of a range may move to, its own if the transform allows no other."""
    span = getattr(transform, name)
    own: float = getattr(span, end)
    for share in WIDENINGS:
        reach = (span.high - span.low) * share
        # Of whole numbers, one at least; rounded, so that nothing that is 0 but for its last digit passes as above 0.
        reach = max(1, round(reach)) if isinstance(span, CountRange) else reach
        value: float = round(own - reach if end == "low" else own + reach, 4)
        if _is_sound(transform, name, {"low": span.low, "high": span.high, end: value}, facts):
            return value
    return own


def _is_sound(transform: TransformRecord, name: str, span: Mapping[str, float], facts: PatchFacts) -> bool:
    try:
        changed = transform.changed(**{name: dict(span)})
    except ValidationError:
        return False
    return not any(True for _ in changed.misfits(facts))
