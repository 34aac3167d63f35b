"""Measurements by which datasets differ: spacing, size, intensities, volumes of labels."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.schema.crossing import Spread
from tumorseg.types import FloatArray, Image, Segmentation

QUANTILES = (5, 25, 50, 75, 95)
"""Of a measurement over cases."""
INTENSITY_PERCENTILES = {5: "low", 50: "median", 95: "high"}
"""Of the voxels of an image, background left out, and what they are called."""
AXES = ("Z", "Y", "X")


class Measure(NamedTuple):
    """What is measured of a case."""

    what: str
    """Such as `spacing`."""
    of: str
    """An axis, a channel, or a label or region."""
    unit: str


class MeasuredImage(NamedTuple):
    """A case in canonical orientation."""

    image: Image
    """(C, Z, Y, X)."""
    spacing_mm: tuple[float, float, float]
    """Voxel edges."""
    indices: Segmentation
    """Class indices (Z, Y, X) of the reference."""


def case_figures(
    case: MeasuredImage, channels: Sequence[str], structures: Mapping[str, Sequence[int]]
) -> dict[Measure, float]:
    """Return the measurements of a case.

    Args:
        case: image and reference.
        channels: names of the image's channels.
        structures: name of each label or region to its class indices; those that the case does not have are left out.
    """
    figures: dict[Measure, float] = {}
    for axis, edge, count in zip(AXES, case.spacing_mm, case.image.shape[1:], strict=True):
        figures[Measure("spacing", axis, "mm")] = edge
        figures[Measure("size", axis, "mm")] = edge * count
    for name, channel in zip(channels, case.image, strict=True):
        figures |= _intensities(name, channel)
    voxel_ml = float(np.prod(case.spacing_mm)) / 1000
    counts = np.bincount(case.indices[case.indices > 0].ravel())
    for name, classes in structures.items():
        voxels = sum(int(counts[index]) for index in classes if index < len(counts))
        if voxels:
            figures[Measure("volume", name, "ml")] = voxels * voxel_ml
    return figures


def _intensities(name: str, channel: FloatArray) -> dict[Measure, float]:
    # The least value is the background's in most images, and would drown the patient's.
    inside = channel[channel > channel.min()]
    if not inside.size:
        return {}
    values = np.percentile(inside, list(INTENSITY_PERCENTILES))
    measures = [Measure(f"intensity, {word}", name, "") for word in INTENSITY_PERCENTILES.values()]
    return dict(zip(measures, map(float, values), strict=True))


def spreads(cases: Sequence[Mapping[Measure, float]]) -> tuple[Spread, ...]:
    """Return how each measurement is distributed over cases, in the order in which they first occur.

    Args:
        cases: measurements of each.
    """
    values: dict[Measure, list[float]] = {}
    for figures in cases:
        for measure, value in figures.items():
            values.setdefault(measure, []).append(value)
    found = []
    for measure, known in values.items():
        quantiles = map(float, np.percentile(known, QUANTILES))
        named = dict(zip(map(str, QUANTILES), quantiles, strict=True))
        found.append(Spread(**measure._asdict(), quantiles=named, num=len(known)))
    return tuple(found)
