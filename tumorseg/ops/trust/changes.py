"""Undo what may have happened to an image, on its profile: whether that makes it usual tells whether it has happened."""

from typing import NamedTuple

import numpy as np

from tumorseg.ops.trust.image_rules import image_scores
from tumorseg.ops.trust.measures import Measure, pairs_of
from tumorseg.ops.trust.rules import DIRECTIONS
from tumorseg.ops.trust.thumbnails import decode_thumbnail, encode_thumbnail
from tumorseg.schema.trust import ImageProfile, ImageRules

RELATED = ("level", "zeros", "correlation", "fit", *DIRECTIONS)
"""Kinds of measurements that a mirrored image, or one with channels exchanged, may have unusual."""
MOST_CHANGES = 3
"""That are looked for, one after the other."""

Found = dict[Measure, tuple[float, float]]
"""Score and value of each measurement."""


class Explained(NamedTuple):
    """An image, and what seems to have happened to it."""

    scores: Found
    """As it is."""
    changes: tuple[Measure, ...]
    """That were undone, as it is more usual without."""
    left: Found
    """Scores and values without them."""


def explain(profile: ImageProfile, rules: ImageRules, threshold: float) -> Explained:
    """Look for changes without which an image is usual, or at most half as far beyond the threshold.

    Args:
        profile: the image's.
        rules: of the training.
        threshold: beyond which a score is unusual.
    """
    scores = left = image_scores(profile, rules)
    changes: list[Measure] = []
    while len(changes) < MOST_CHANGES:
        likely = [measure for measure, (score, _) in left.items() if measure.kind in DIRECTIONS and score > threshold]
        undone = [(changed(profile, measure), measure) for measure in likely]
        tried = [(image_scores(one, rules), one, measure) for one, measure in undone]
        if not tried:
            break
        after, better, measure = min(tried, key=lambda one: (_excess(one[0], threshold), one[2]))
        # Something else may be wrong, too: half of what is unusual may stay.
        if _excess(after, threshold) > _excess(left, threshold) / 2:
            break
        profile, left = better, after
        changes.append(measure)
    return Explained(scores, tuple(changes), left)


def _excess(found: Found, threshold: float) -> float:
    """Return how far scores are beyond the threshold, of all that a change may have made unusual."""
    return sum(max(score - threshold, 0.0) for measure, (score, _) in found.items() if measure.kind in RELATED)


def changed(profile: ImageProfile, measure: Measure) -> ImageProfile:
    """Return the profile of an image mirrored along an axis, or with two channels exchanged; each undoes itself."""
    return _mirrored(profile, measure.of[0]) if measure.kind == "flip" else _exchanged(profile, *measure.of)


def _mirrored(profile: ImageProfile, axis: int) -> ImageProfile:
    edges = list(profile.edges)
    edges[axis] = edges[axis][::-1]
    channels = []
    for one in profile.channels:
        thumbnail, overview = _flipped(one.thumbnail, axis), _flipped(one.overview, axis)
        channels.append(one.changed(thumbnail=thumbnail, overview=overview))
    return profile.changed(channels=tuple(channels), edges=tuple(edges))


def _flipped(text: str | None, axis: int) -> str | None:
    return None if text is None else encode_thumbnail(np.flip(decode_thumbnail(text), axis))


def _exchanged(profile: ImageProfile, one: int, other: int) -> ImageProfile:
    order = list(range(len(profile.channels)))
    order[one], order[other] = other, one
    pairs = pairs_of(profile)
    known = dict(zip(pairs, profile.correlations, strict=True))
    correlations = []
    for left, right in pairs:
        low, high = sorted((order[left], order[right]))
        correlations.append(known[low, high])
    channels = [profile.channels[number] for number in order]
    return profile.changed(channels=tuple(channels), correlations=tuple(correlations))
