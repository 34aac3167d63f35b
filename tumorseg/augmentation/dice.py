"""Random numbers of one sample, always from the CPU.

So a sample's augmentation depends neither on the batch around it nor on the device. Single numbers come from Python's generator, in a
fiftieth of the time that torch takes for each; fields of noise from generators of their own, by a seed that was drawn here.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from tumorseg.schema.transforms.base import CountRange, ImageTransform, PatchFacts, Range

T = TypeVar("T")


class Dice:
    """Draws of one sample, all of which follow from its seed."""

    def __init__(self, seed: int) -> None:
        """Begin with a seed of any size, at least 0."""
        # `random()` and `getrandbits()` alone are used: their sequences are the same in all versions of Python.
        self._random = random.Random(seed)

    def share(self) -> float:
        """Return a number from 0 to 1, uniform, 1 excluded."""
        return self._random.random()

    def chance(self, probability: float) -> bool:
        """Return True with a probability; 1 is certain, 0 impossible."""
        return self._random.random() < probability

    def uniform(self, interval: Range) -> float:
        """Return a number of the interval, uniform."""
        return interval.low + (interval.high - interval.low) * self._random.random()

    def factor(self, interval: Range) -> float:
        """Return a factor of the interval, as nnU-Net's intensity transforms do.

        Where the interval holds 1, half of them are below 1 and half above, each half uniform: with (0.7, 1.5) a change one way is as
        likely as the other.
        """
        if not interval.low < 1 < interval.high:
            return self.uniform(interval)
        is_below = self.chance(0.5)
        return self.uniform(Range(low=interval.low, high=1) if is_below else Range(low=1, high=interval.high))

    def integer(self, numbers: CountRange) -> int:
        """Return a whole number of the range, its ends included."""
        return numbers.low + int(self._random.random() * (numbers.high - numbers.low + 1))

    def choice(self, items: Sequence[T]) -> T:
        """Return one of several, each as likely."""
        return items[int(self._random.random() * len(items))]

    def normal(self) -> float:
        """Return a number of the standard normal distribution."""
        # Box and Muller; 1 minus a share is never 0.
        radius = math.sqrt(-2 * math.log(1 - self._random.random()))
        return radius * math.cos(2 * math.pi * self._random.random())

    def seed(self) -> int:
        """Return a seed of 63 bits for a generator of torch, or for further dice."""
        return self._random.getrandbits(63)


def draw_channels(transform: ImageTransform, facts: PatchFacts, dice: Dice) -> tuple[int, ...]:
    """Return the channels of a sample that a transform changes; none if the sample is left alone."""
    if not dice.chance(transform.probability):
        return ()
    allowed = range(facts.num_channels) if transform.channels is None else transform.channels
    return tuple(channel for channel in allowed if dice.chance(transform.channel_probability))


def draw_each(transform: ImageTransform, channels: Sequence[int], draw: Callable[[], T]) -> tuple[T, ...]:
    """Return what was drawn for each channel: by itself, or the same for all."""
    if transform.per_channel:
        return tuple(draw() for _ in channels)
    return (draw(),) * len(channels)
