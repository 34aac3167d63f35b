"""What counts as one lesion: components, joined where their dilations meet, or through a structure that both touch."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.ops.metrics.components import Components, components_of, dilated, inside, joined, pairs_of
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.schema.score_rules import LesionRules
from tumorseg.types import Mask, Segmentation

_ROUNDING = 1e-5
"""A lesion of just the threshold's volume must not fall on its other side for the last digits of a spacing, which most headers
hold as float32."""


class LesionParts(NamedTuple):
    """Lesions of a prediction and of its reference."""

    predicted: Components
    reference: Components
    zones: Components
    """The reference's lesions, dilated, with their numbers."""


class Neighbours(NamedTuple):
    """Lesions of another structure, through which those of one may be joined."""

    predicted: Segmentation
    """(Z, Y, X), int32, of the whole image or of the part of it that all masks are given on."""
    reference: Segmentation
    """(Z, Y, X), int32."""


def lesion_parts(pair: MaskPair, rules: LesionRules, neighbours: Sequence[Neighbours] = ()) -> LesionParts:
    """Return what counts as one lesion in either mask.

    Args:
        pair: the masks.
        rules: what joins components.
        neighbours: lesions of the structures of `rules.joined_through` that there are, in their order.
    """
    predicted = _predicted_parts(pair, rules)
    zones = _zones(pair, rules)
    for other in neighbours:
        predicted = joined(predicted, _groups(predicted, _cut(other.predicted, pair)))
        zones = joined(zones, _groups(inside(zones, pair.reference), _cut(other.reference, pair)))
    return LesionParts(predicted, inside(zones, pair.reference), zones)


def lesions_of(mask: Mask, rules: LesionRules, *, is_reference: bool, voxel_mm3: float) -> Segmentation:
    """Return the numbered lesions (Z, Y, X), int32, of one mask (Z, Y, X), not joined through others."""
    if is_reference:
        return inside(components_of(dilated(mask, rules.dilation_steps), rules.connectivity), mask).image()
    return _without_small(_after_dilation(mask, rules), rules, voxel_mm3).image()


def _zones(pair: MaskPair, rules: LesionRules) -> Components:
    """Return the reference's lesions, dilated.

    The box around both masks is enough: where two dilations meet outside of it, they meet in its nearest voxel, too.
    """
    if rules.dilation_steps == 0:
        return pair.reference_components(rules.connectivity)
    return components_of(dilated(pair.reference, rules.dilation_steps), rules.connectivity)


def _predicted_parts(pair: MaskPair, rules: LesionRules) -> Components:
    if rules.joins_predictions and rules.dilation_steps:
        parts = _after_dilation(pair.prediction, rules)
    else:
        parts = pair.predicted_components(rules.connectivity)
    return _without_small(parts, rules, pair.voxel_mm3)


def _after_dilation(mask: Mask, rules: LesionRules) -> Components:
    steps = rules.dilation_steps if rules.joins_predictions else 0
    return inside(components_of(dilated(mask, steps), rules.connectivity), mask)


def _without_small(parts: Components, rules: LesionRules, voxel_mm3: float) -> Components:
    numbers = np.arange(parts.sizes.size)
    small = ~exceeds(parts.sizes * voxel_mm3, rules.smallest_predicted_mm3)
    # Most rules keep all; no pass over the box then.
    if not small[numbers > 0].any():
        return parts
    return joined(parts, np.where(small, 0, numbers))


def exceeds(volumes_mm3: NDArray[np.floating], limit_mm3: float) -> NDArray[np.bool_]:
    """Return which volumes are larger than a limit, by more than rounding."""
    return volumes_mm3 > limit_mm3 * (1 + _ROUNDING)


def reaches(volumes_mm3: NDArray[np.floating], limit_mm3: float) -> NDArray[np.bool_]:
    """Return which volumes are as large as a limit or larger, but for rounding."""
    return volumes_mm3 >= limit_mm3 * (1 - _ROUNDING)


def _cut(labels: Segmentation, pair: MaskPair) -> Segmentation:
    window = tuple(slice(lower, upper) for lower, upper in pair.box)
    return labels[window]


def _groups(parts: Components, others: Segmentation) -> NDArray[np.int32]:
    """Return the new number of each part, so that parts that touch the same other are one: that with the lowest number, of several.

    Args:
        parts: the parts.
        others: those that may join them (Z, Y, X), 0 elsewhere.
    """
    groups = np.arange(parts.sizes.size, dtype=np.int32)
    first_part: dict[int, int] = {}
    grouped: set[int] = set()
    for part, other in sorted(_touching(parts.image(), others)):
        # Sorted, so that the first other of a part is the one of the lowest number.
        if part not in grouped:
            grouped.add(part)
            groups[part] = first_part.setdefault(other, part)
    return groups


def _touching(parts: Segmentation, others: Segmentation) -> set[tuple[int, int]]:
    """Return the pairs of numbers that share a voxel, a face or an edge."""
    found: set[tuple[int, int]] = set()
    for here, there in _shifts(parts.shape):
        in_both = (parts[here] > 0) & (others[there] > 0)
        pairs = pairs_of(parts[here][in_both], others[there][in_both])
        found.update(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    return found


def _shifts(shape: Sequence[int]) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield windows that lay each voxel on itself and on its neighbours over faces and edges."""
    for step in product((-1, 0, 1), repeat=len(shape)):
        if sum(map(abs, step)) <= 2:
            here = tuple(slice(max(one, 0), size + min(one, 0)) for one, size in zip(step, shape, strict=True))
            there = tuple(slice(max(-one, 0), size + min(-one, 0)) for one, size in zip(step, shape, strict=True))
            yield here, there
