"""What may go wrong with an image before it reaches a model: changes that trust is to notice."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from tumorseg.ops.trust.image_profile import ProfiledImage
from tumorseg.schema.dataset import ChannelKind

AXES = ("Z", "Y", "X")


class Change(NamedTuple):
    """One way in which an image is not what it should be."""

    group: str
    """Such as `flip`."""
    name: str
    """Such as `flip X`."""
    word: str
    """That a right reason holds."""
    make: Callable[[ProfiledImage], ProfiledImage]


def changes_of(names: Sequence[str], kinds: Sequence[ChannelKind | None]) -> Iterator[Change]:
    """Yield all changes of an image with such channels."""
    for one, other in combinations(range(len(names)), 2):
        yield Change("swap", f"swap {names[one]} and {names[other]}", "swapped", _swapping(one, other))
    if len(names) > 1:
        for number, name in enumerate(names):
            yield Change("zero", f"zero {name}", "shows nothing", _zeroing(number))
    for number, kind in enumerate(kinds):
        if kind == "ct":
            for offset in (-1000, -200, 200, 1000, 1024):
                yield Change("hu", f"{names[number]} {offset:+d} HU", "HU", _shifting(number, offset))
    for axis, name in enumerate(AXES):
        yield Change("flip", f"flip {name}", f"flipped along {name}", _flipping(axis))
        yield Change("spacing", f"spacing {name} x 2", f"spacing along {name}", _spacing({axis: 2.0}))
        for half in ("first", "last"):
            yield Change("half", f"{half} half of {name}", "mm along", _halving(axis, half))
    yield Change("spacing", "spacing x 2", "spacing", _spacing(dict.fromkeys(range(3), 2.0)))
    yield Change("spacing", "spacing x 0.5", "spacing", _spacing(dict.fromkeys(range(3), 0.5)))


def _swapping(one: int, other: int) -> Callable[[ProfiledImage], ProfiledImage]:
    def swap(found: ProfiledImage) -> ProfiledImage:
        order = list(range(len(found.image)))
        order[one], order[other] = other, one
        covered = tuple(found.covered[number] for number in order) if found.covered else ()
        return found._replace(image=found.image[order], covered=covered)

    return swap


def _zeroing(number: int) -> Callable[[ProfiledImage], ProfiledImage]:
    def zero(found: ProfiledImage) -> ProfiledImage:
        image = found.image.copy()
        image[number] = 0
        return found._replace(image=image)

    return zero


def _shifting(number: int, offset: float) -> Callable[[ProfiledImage], ProfiledImage]:
    def shift(found: ProfiledImage) -> ProfiledImage:
        image = found.image.copy()
        image[number] += offset
        return found._replace(image=image)

    return shift


def _flipping(axis: int) -> Callable[[ProfiledImage], ProfiledImage]:
    def flip(found: ProfiledImage) -> ProfiledImage:
        covered = tuple(None if one is None else np.flip(one, axis) for one in found.covered)
        return found._replace(image=np.flip(found.image, axis + 1), covered=covered)

    return flip


def _spacing(factors: dict[int, float]) -> Callable[[ProfiledImage], ProfiledImage]:
    def space(found: ProfiledImage) -> ProfiledImage:
        edges = [edge * factors.get(axis, 1.0) for axis, edge in enumerate(found.spacing_mm)]
        return found._replace(spacing_mm=tuple(edges))

    return space


def _halving(axis: int, half: str) -> Callable[[ProfiledImage], ProfiledImage]:
    def halve(found: ProfiledImage) -> ProfiledImage:
        size = found.image.shape[axis + 1]
        kept = [slice(None)] * 3
        # One voxel at least, of a picture with a single slice, too.
        kept[axis] = slice(0, (size + 1) // 2) if half == "first" else slice(size // 2, size)
        covered = tuple(None if one is None else one[tuple(kept)] for one in found.covered)
        return found._replace(image=found.image[(slice(None), *kept)], covered=covered)

    return halve
