"""What a training's images look like, learned so that each is judged by the others, and how unlike them another one is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.ops.trust.measures import (
    MOST_FITTED,
    Measure,
    Positions,
    Units,
    Weights,
    antisymmetric,
    evenly,
    fit_direction,
    fit_to,
    mean_thumbnail,
    pairs_of,
    plain_measures,
    side_of,
    thumbnails_of,
    units_of,
)
from tumorseg.ops.trust.rules import can_tell, make_rule, score_of
from tumorseg.ops.trust.thumbnails import SIZE, decode_numbers, encode_numbers
from tumorseg.schema.trust import Direction, ImageProfile, ImageRules, Rule, TrustSubject
from tumorseg.types import FloatArray

Scores = dict[Measure, float]
"""How unusual each measurement is."""


class Looks(NamedTuple):
    """What is learned of thumbnails."""

    templates: tuple[FloatArray | None, ...]
    """(SIZE, SIZE, SIZE) of each channel; None where no image shows any."""
    directions: Mapping[Measure, Weights]
    """Of each flip and swap."""


class FittedImages(NamedTuple):
    """Rules, and what they say of the images that they were learned from."""

    rules: ImageRules
    scores: tuple[Scores, ...]
    """Of each image, by what the images of other parts teach."""


def fit_image_rules(profiles: Sequence[ImageProfile], parts: Sequence[int], subject: TrustSubject) -> FittedImages:
    """Learn what images look like.

    Args:
        profiles: of the training's images, of one at least.
        parts: of each: images of one part are judged by the others.
        subject: what they are of.
    """
    units = units_of(profiles, subject.kinds)
    numbers = np.asarray(parts)
    measured = [plain_measures(profile, units) for profile in profiles]
    for part in np.unique(numbers):
        others = [profile for profile, its in zip(profiles, parts, strict=True) if its != part]
        looks = _fit_looks(others, units)
        for position in np.flatnonzero(numbers == part).tolist():
            measured[position] |= _look_measures(profiles[position], looks, units)
    rules, scores = _fit_rules(measured, numbers, units)
    kept = {Measure(rule.kind, rule.of) for rule in rules}
    final = _fit_looks(profiles, units)
    directions = {measure: weights for measure, weights in final.directions.items() if measure in kept}
    return FittedImages(_record(rules, Looks(final.templates, directions), units), scores)


def _record(rules: Sequence[Rule], looks: Looks, units: Units) -> ImageRules:
    templates = tuple(None if one is None else encode_numbers(one) for one in looks.templates)
    # The kinds of measures that have weights are the kinds of directions.
    directions = tuple(
        Direction.model_validate(
            {
                "kind": measure.kind,
                "of": measure.of,
                "weights": encode_numbers(weights.numbers),
                "noises": weights.noises,
            }
        )
        for measure, weights in looks.directions.items()
    )
    return ImageRules(
        units=units.channels,
        common_unit=units.common,
        absolute=units.absolute,
        templates=templates,
        directions=directions,
        rules=tuple(rules),
    )


def _fit_looks(profiles: Sequence[ImageProfile], units: Units) -> Looks:
    """Learn mean thumbnails, and what tells images from the same ones mirrored or with channels exchanged."""
    if not profiles:
        return Looks((), {})
    profiles = [profiles[number] for number in evenly(len(profiles), MOST_FITTED)]
    shown = list(zip(*(thumbnails_of(profile) for profile in profiles), strict=True))
    known = [[one for one in channel if one is not None] for channel in shown]
    templates = tuple(mean_thumbnail(channel) if channel else None for channel in known)
    directions = {}
    for measure in _directions_of(profiles[0]):
        rows = [row for profile in profiles if (row := antisymmetric(profile, measure, units)) is not None]
        if rows:
            directions[measure] = fit_direction(rows)
    return Looks(templates, directions)


def _directions_of(profile: ImageProfile) -> list[Measure]:
    flips = [Measure("flip", (axis,)) for axis in range(3)]
    return [*flips, *(Measure("swap", pair) for pair in pairs_of(profile))]


def _look_measures(profile: ImageProfile, looks: Looks, units: Units) -> dict[Measure, float]:
    """Return how well an image fits others, and how much better as it is than changed."""
    found: dict[Measure, float] = {}
    # Without other images there is nothing to fit.
    for number, (thumbnail, template) in enumerate(zip(thumbnails_of(profile), looks.templates, strict=False)):
        if thumbnail is not None and template is not None:
            found[Measure("fit", (number,))] = fit_to(thumbnail, template)
    for measure, weights in looks.directions.items():
        row = antisymmetric(profile, measure, units)
        if row is not None:
            found[measure] = side_of(row, weights)
    return found


def _fit_rules(
    measured: Sequence[Mapping[Measure, float]], parts: Positions, units: Units
) -> tuple[list[Rule], tuple[Scores, ...]]:
    """Return a rule for each measurement that can tell anything, and the scores of each image by the other parts'."""
    scores: tuple[Scores, ...] = tuple({} for _ in measured)
    rules = []
    # In the order of the first image that has them, then of others.
    for measure in dict.fromkeys(measure for one in measured for measure in one):
        values = np.array([one.get(measure, np.nan) for one in measured])
        if not can_tell(measure, values):
            continue
        made = make_rule(measure, values, parts, units)
        rules.append(made.rule)
        for position in np.flatnonzero(np.isfinite(values)).tolist():
            scores[position][measure] = float(made.scores[position])
    return rules, scores


def image_scores(profile: ImageProfile, rules: ImageRules) -> dict[Measure, tuple[float, float]]:
    """Return how unusual each measurement of an image is, and the measurement itself.

    Args:
        profile: the image's.
        rules: of the training.
    """
    units = units_as_learned(rules)
    templates = tuple(_template(text) for text in rules.templates)
    directions = {}
    for one in rules.directions:
        directions[Measure(one.kind, one.of)] = Weights(decode_numbers(one.weights), one.noises)
    values = plain_measures(profile, units) | _look_measures(profile, Looks(templates, directions), units)
    found = {}
    for rule in rules.rules:
        measure = Measure(rule.kind, rule.of)
        if measure in values:
            found[measure] = score_of(rule, values[measure]), values[measure]
    return found


def units_as_learned(rules: ImageRules) -> Units:
    """Return the scale of levels that rules were learned on."""
    return Units(rules.units, rules.common_unit, rules.absolute)


def _template(text: str | None) -> FloatArray | None:
    return None if text is None else decode_numbers(text).reshape(SIZE, SIZE, SIZE)
