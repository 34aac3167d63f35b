"""Structures of one name that datasets draw in different ways: a liver with its tumours, and one without."""

from collections.abc import Iterable, Sequence
from itertools import combinations

from tumorseg.ops.matching.structures import GLIOMA, Structures


def contradictions(sides: Sequence[Structures], keys: Iterable[str]) -> dict[str, str]:
    """Return the structures that cannot be the same in all datasets, and why, one sentence each.

    Of two that overlap in one dataset and lie beside each other in another, the outer one is drawn differently: a liver that includes
    its tumours is another structure than one that does not, and neither can be made of the other beyond doubt. The inner one stays.
    Where neither lies within the other, both are in doubt.

    Args:
        sides: structures of each dataset.
        keys: of those that all have.
    """
    found: dict[str, str] = {}
    for pair in combinations(sorted(keys), 2):
        joined = [side for side in sides if _overlap(side, pair)]
        apart = [side for side in sides if side not in joined]
        if joined and apart:
            for key, other in (pair, pair[::-1]):
                if not all(_is_within(side, key, other) for side in joined):
                    found.setdefault(key, _told(key, other, joined[0], apart[0]))
    return found


def _overlap(side: Structures, pair: tuple[str, str]) -> bool:
    return bool(set(side.values[pair[0]]) & set(side.values[pair[1]]))


def _is_within(side: Structures, inner: str, outer: str) -> bool:
    """Tell whether a structure is a part of another, and not all of it."""
    return set(side.values[inner]) < set(side.values[outer])


def _told(key: str, other: str, joined: Structures, apart: Structures) -> str:
    name = joined.own.get(key) or apart.own.get(key) or key.removeprefix(GLIOMA)
    inner = joined.own.get(other) or apart.own.get(other) or other.removeprefix(GLIOMA)
    return f"{name}: includes {inner} in {joined.dataset}, but not in {apart.dataset}, so that it is not the same"
