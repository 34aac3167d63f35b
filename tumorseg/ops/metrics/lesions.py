"""Lesion-wise metrics, as BraTS defines them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.ops.distances import border_voxels, distances_between
from tumorseg.ops.metrics.assignment import assigned
from tumorseg.ops.metrics.components import overlaps_of
from tumorseg.ops.metrics.lesion_parts import LesionParts, Neighbours, exceeds, lesion_parts, reaches
from tumorseg.ops.metrics.overlap import Scores, ratio, share_of
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.ops.metrics.surfaces import hausdorff_95, pooled_hausdorff_95
from tumorseg.schema.score_rules import LesionRules
from tumorseg.types import Mask, Shape

_LEAST_DSC = 1e-6
"""Of a pair of components that may match."""


class Matching(NamedTuple):
    """Which predicted components belong to which lesions; arrays by number of the lesion, 0 being none."""

    lesions: NDArray[np.int64]
    """(P,): lesion of each pair, rising."""
    components: NDArray[np.int64]
    """(P,): predicted component of each pair."""
    dsc: NDArray[np.float64]
    """(N + 1,): DSC of a lesion and all that belongs to it; 0 where it is missed."""
    is_found: NDArray[np.bool_]
    """(N + 1,): whether anything belongs to the lesion."""
    is_detectable: NDArray[np.bool_]
    """(N + 1,): whether the lesion counts as found or missed."""
    is_averaged: NDArray[np.bool_]
    """(N + 1,): whether the lesion enters the means."""
    num_invented: int
    """Predicted components that belong to no lesion."""


def lesion_scores(
    pair: MaskPair, rules: LesionRules, *, neighbours: Sequence[Neighbours] = (), with_distances: bool = True
) -> Scores:
    """Return lesion-wise DSC and HD95, and how many lesions were found, missed and invented.

    Args:
        pair: the masks.
        rules: what counts as a lesion.
        neighbours: lesions of the structures of `rules.joined_through`, in their order.
        with_distances: whether HD95 is wanted, which measures distances lesion by lesion.

    References:
        Saluja et al., BraTS 2023 and 2024 performance metrics; Kofler et al., panoptica (BraTS 2025).
    """
    parts = lesion_parts(pair, rules, neighbours)
    match = _one_to_one if rules.matching == "one_to_one" else _touching
    matching = match(parts, rules, pair.voxel_mm3)
    found = int(np.count_nonzero(matching.is_detectable & matching.is_found))
    missed = int(np.count_nonzero(matching.is_detectable)) - found
    invented = matching.num_invented
    scores: Scores = {
        "lesion_dsc": _mean_dsc(matching, rules),
        "lesion_f1": ratio(2 * found, 2 * found + invented + missed),
        "lesion_precision": share_of(found, found + invented, missed),
        "lesion_recall": share_of(found, found + missed, invented),
        "lesions_found": float(found),
        "lesions_missed": float(missed),
        "lesions_invented": float(invented),
    }
    if with_distances:
        scores["lesion_hd95_mm"] = _mean_hd95(pair, rules, parts, matching)
    return scores


def _touching(parts: LesionParts, rules: LesionRules, voxel_mm3: float) -> Matching:
    """Give every predicted component to all lesions that it touches when they are dilated."""
    pairs = overlaps_of(parts.zones, parts.predicted)
    sizes, num = parts.reference.sizes, parts.reference.sizes.size
    belonging = np.bincount(pairs.first, weights=parts.predicted.sizes[pairs.second], minlength=num)
    # What the prediction shares with a lesion lies in its zone, so that all of it belongs to the lesion.
    inside = overlaps_of(parts.reference, parts.predicted)
    shared = np.bincount(inside.first, weights=inside.shared, minlength=num)
    # The larger of 1, for numbers that no lesion has.
    dsc = 2 * shared / np.maximum(sizes + belonging, 1)
    counts = exceeds(sizes * voxel_mm3, rules.smallest_mm3)
    invented = parts.predicted.num - np.unique(pairs.second).size
    return Matching(pairs.first, pairs.second, dsc, belonging > 0, counts, counts, invented)


def _one_to_one(parts: LesionParts, rules: LesionRules, voxel_mm3: float) -> Matching:
    """Pair components of both masks so that the sum of their DSC is the largest."""
    inside = overlaps_of(parts.reference, parts.predicted)
    sizes = parts.reference.sizes
    found = 2 * inside.shared / (sizes[inside.first] + parts.predicted.sizes[inside.second])
    chosen = assigned(inside, np.where(found >= _LEAST_DSC, found, 0.0))
    lesions, components = inside.first[chosen], inside.second[chosen]
    dsc = np.zeros(sizes.size)
    dsc[lesions] = found[chosen]
    is_large = (sizes > 0) & reaches(sizes * voxel_mm3, rules.smallest_mm3)
    invented = parts.predicted.num - lesions.size
    return Matching(lesions, components, dsc, dsc > 0, sizes > 0, is_large, invented)


def _mean_dsc(matching: Matching, rules: LesionRules) -> float | None:
    if not matching.is_averaged.any():
        return _without_lesions(matching, rules, best=1.0, worst=0.0)
    averaged = _entering(matching, rules)
    num = int(np.count_nonzero(averaged)) + _num_penalties(matching, rules)
    # Nothing enters where missed lesions do not, and all are missed.
    return float(matching.dsc[averaged].sum()) / num if num else 0.0


def _mean_hd95(pair: MaskPair, rules: LesionRules, parts: LesionParts, matching: Matching) -> float | None:
    penalty = penalty_of(rules, pair)
    if not matching.is_averaged.any():
        return _without_lesions(matching, rules, best=0.0, worst=penalty)
    averaged = _entering(matching, rules)
    measured = np.flatnonzero(averaged & matching.is_found)
    found = _lesion_distances(pair, rules, parts, matching, measured.tolist())
    num_missed = int(np.count_nonzero(averaged)) - measured.size
    num_penalties = num_missed + _num_penalties(matching, rules)
    num = measured.size + num_penalties
    return (sum(found) + num_penalties * penalty) / num if num else penalty


def _entering(matching: Matching, rules: LesionRules) -> NDArray[np.bool_]:
    """Return which lesions enter the means."""
    return matching.is_averaged if rules.counts_missed else matching.is_averaged & matching.is_found


def _num_penalties(matching: Matching, rules: LesionRules) -> int:
    """Return how often the worst value enters the means for components that are invented."""
    return matching.num_invented if rules.counts_invented else 0


def _without_lesions(matching: Matching, rules: LesionRules, *, best: float, worst: float) -> float | None:
    """Return the mean where no lesion of the reference counts."""
    if rules.if_none == "undefined":
        return None
    enters = rules.counts_invented or rules.if_none == "worst"
    if enters and matching.num_invented:
        return worst
    return best if rules.if_none == "perfect" else None


def penalty_of(rules: LesionRules, pair: MaskPair) -> float:
    """Return the HD95 of a lesion that is missed or invented, in mm."""
    if not isinstance(rules.penalty_mm, str):
        return rules.penalty_mm
    edges = np.asarray(pair.image_shape, dtype=np.float64)
    if rules.penalty_mm == "diagonal":
        edges = edges * np.asarray(pair.spacing_mm)
    return float(np.sqrt((edges**2).sum()))


def _lesion_distances(
    pair: MaskPair, rules: LesionRules, parts: LesionParts, matching: Matching, lesions: Sequence[int]
) -> list[float]:
    """Return the HD95 of each of some lesions and what belongs to it, in mm."""
    percentile = pooled_hausdorff_95 if rules.percentile == "pooled" else hausdorff_95
    predicted, reference = parts.predicted.gathered(), parts.reference.gathered()
    # Pairs are sorted by lesion: those of each stand together.
    lower = np.searchsorted(matching.lesions, lesions, side="left").tolist()
    upper = np.searchsorted(matching.lesions, lesions, side="right").tolist()
    distances = []
    for lesion, first, last in zip(lesions, lower, upper, strict=True):
        mine = predicted.of(matching.components[first:last].tolist()), reference.of([lesion])
        # The common case of one lesion: its distances are those of the whole masks.
        if (mine[0].size, mine[1].size) == (pair.num_predicted, pair.num_reference):
            distances.append(percentile(*pair.distances))
            continue
        borders = map(border_voxels, _on_box(*mine, pair.reference.shape))
        distances.append(percentile(*distances_between(*borders, spacing_mm=pair.spacing_mm)))
    return distances


def _on_box(first: NDArray[np.intp], second: NDArray[np.intp], shape: Shape) -> tuple[Mask, Mask]:
    """Return two sets of voxels, by flat indices of an array, as masks on the box around both."""
    voxels = np.stack(np.unravel_index(np.concatenate((first, second)), shape), axis=1)
    # With a voxel more, as far as the array reaches: across an axis of one voxel there is no surface.
    lower = np.maximum(voxels.min(axis=0) - 1, 0)
    upper = np.minimum(voxels.max(axis=0) + 2, shape)
    masks = np.zeros((2, *(upper - lower)), dtype=np.bool_)
    for mask, places in zip(masks, np.split(voxels - lower, [first.size]), strict=True):
        mask[tuple(places.T)] = True
    return masks[0], masks[1]
