"""Check that the intensities of a CT can be Hounsfield units: air at -1000, water at 0, soft tissue near 50."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.types import FloatArray

MOST_SAMPLES = 300_000
"""Voxels that shares and percentiles are taken of, evenly spread; extremes are those of all."""
PADDING_HU = -1500.0
"""What is below this is padding around the field of view, usually -2000, -2048 or -3024."""
LEAST_HU, GREATEST_HU = -10_000.0, 100_000.0
"""No scanner stores less, padding of one value aside, or more."""
LEAST_SPAN = 30.0
"""Noise alone spans more than this; what spans less is scaled."""
SCALED_SPAN = 140.0
"""Background and tissue are further apart than this; z-scores of whole images are not."""
TISSUE_HU = -300.0
"""Any tissue is above this, …"""
DENSE_HU = 300.0
"""… and some of it below this in any image that is not all bone."""
METAL_HU = 4000.0
"""Only metal is above this, and never a twentieth of an image."""
NO_AIR_HU = -200.0
"""An image without a voxel below this shows no air."""
BACKGROUND_HU = -700.0
"""Background above this is no air."""
WATER_HU = 15.0
"""Little of a body is below this and above 0."""
FEW = 0.005
"""A smaller share of the voxels is noise, or the ringing of an interpolation."""
CUT_SHARE = 0.05
"""So many voxels at the very least value are a background, or what was cut off."""
BACKGROUND_SHARE = 0.2
"""So many voxels in the lowest tenth of the range are a background."""


class UnitDoubt(NamedTuple):
    """Evidence against intensities in Hounsfield units."""

    is_impossible: bool
    """Whether they cannot be in Hounsfield units; else it is only not to be seen."""
    message: str
    """What was found, and what was expected."""


class _Look(NamedTuple):
    """Intensities of an image that the checks use."""

    least: float
    """Least intensity, padding included."""
    greatest: float
    """Greatest intensity."""
    floor: float
    """Least intensity that is no padding."""
    padding: NDArray[np.float64]
    """Sampled intensities (N,) of padding."""
    inside: NDArray[np.float64]
    """The other ones (N,)."""

    @property
    def span(self) -> str:
        return f"intensities from {self.least:g} to {self.greatest:g}"


def ct_doubt(image: FloatArray) -> UnitDoubt | None:
    """Return why the intensities of a CT cannot be Hounsfield units, or why that is not to be seen; None if they look so.

    Padding, a mask of zeros around tissue that holds fat, and crops of tissue without air are no reason to think them impossible.

    Args:
        image: (Z, Y, X) or any other shape; what is not finite is left out. A constant image says nothing.
    """
    look = _look(image)
    if look is None:
        return None
    message = next(_impossible(image, look), None)
    if message is not None:
        return UnitDoubt(True, f"{look.span}, {message}")
    if look.floor > NO_AIR_HU or (look.floor > BACKGROUND_HU and _is_cut(look)):
        return UnitDoubt(False, f"{look.span}, without air (-1000 HU): a crop, masked, or not in Hounsfield units")
    return None


def _look(image: FloatArray) -> _Look | None:
    """Return what there is to look at, if there is more than one intensity."""
    is_finite = np.isfinite(image)
    least = float(np.min(image, where=is_finite, initial=np.inf))
    greatest = float(np.max(image, where=is_finite, initial=-np.inf))
    if least >= greatest:
        return None
    is_padded = least < PADDING_HU
    floor = float(np.min(image, where=is_finite & (image >= PADDING_HU), initial=np.inf)) if is_padded else least
    sample = _sample(image)
    is_padding = sample < PADDING_HU
    return _Look(least, greatest, floor, sample[is_padding], sample[~is_padding])


def _sample(image: FloatArray) -> NDArray[np.float64]:
    """Return finite intensities (N,), taken evenly along each axis."""
    step = max(1, int((image.size / MOST_SAMPLES) ** (1 / max(1, image.ndim))))
    steps = tuple(slice(None, None, min(step, size)) for size in image.shape)
    taken = image[steps].astype(np.float64).ravel()
    return taken[np.isfinite(taken)]


def _impossible(image: FloatArray, look: _Look) -> Iterator[str]:
    """Yield what Hounsfield units do not look like."""
    if look.greatest < TISSUE_HU:
        yield f"all below {TISSUE_HU:g}, expected tissue near 50 HU"
        return
    if look.greatest - look.floor < LEAST_SPAN:
        yield f"which span {look.greatest - look.floor:.3g}, expected hundreds of HU: they are scaled"
    if look.inside.size:
        yield from _shifted(look)
    yield from _beyond_scanners(image, look)
    if look.inside.size:
        yield from _background(look)


def _beyond_scanners(image: FloatArray, look: _Look) -> Iterator[str]:
    """Yield values that no scanner stores."""
    if look.greatest > GREATEST_HU:
        yield "expected a few thousand HU at most"
    elif look.inside.size and np.percentile(look.inside, 95) > METAL_HU:
        yield f"a twentieth of them above {METAL_HU:g}, expected a few thousand HU at most"
    if look.least < LEAST_HU and np.count_nonzero(image == look.least) < FEW * image.size:
        yield "expected no less than -1024 HU, padding of one value aside"
    # Padding is one value, blurred at its edge where it was interpolated; a background has noise.
    _, counts = np.unique(np.round(look.padding, -1), return_counts=True)
    num_sampled = look.padding.size + look.inside.size
    if counts.size and look.padding.size - counts.max() > max(counts.max(), CUT_SHARE * num_sampled):
        yield f"{look.padding.size / num_sampled:.0%} of them below {PADDING_HU:g} and not of one value, expected air at -1000 HU"


def _shifted(look: _Look) -> Iterator[str]:
    """Yield soft tissue where it lies without the scanner's intercept, usually of -1024."""
    if np.percentile(look.inside, 1) > DENSE_HU:
        yield f"nearly all above {DENSE_HU:g}, expected soft tissue near 50 HU: the scanner's intercept is missing"
        return
    # Moved up by 1000 or 1024, air lies around 0 and soft tissue around 1050.
    edges = (-np.inf, NO_AIR_HU, DENSE_HU, 800.0, 1250.0)
    below, low, between, tissue = np.histogram(look.inside, edges)[0] / look.inside.size
    # Bone that is so dense comes with more that is less dense.
    if below < FEW and low > 0.01 and tissue > CUT_SHARE and between < tissue / 3:
        yield f"with air near {np.median(look.inside[look.inside < DENSE_HU]):.0f} and tissue near 1000, expected -1000 and 50 HU: the scanner's intercept is missing"


def _background(look: _Look) -> Iterator[str]:
    """Yield a background that is no air."""
    base, top = np.percentile(look.inside, [0.5, 99.5])
    lowest = look.inside[look.inside <= base + 0.1 * (top - base)]
    is_cut, is_frequent = _is_cut(look), lowest.size > BACKGROUND_SHARE * look.inside.size
    is_negative = np.count_nonzero(look.inside < 0) >= FEW * np.count_nonzero(look.inside)
    is_masked = is_negative and np.mean(look.inside == 0) > CUT_SHARE
    if is_masked or not (is_cut or is_frequent):
        return
    observed = f"the background near {np.median(lowest):.3g}, expected air at -1000 HU"
    if look.floor > NO_AIR_HU and not is_negative:
        # Beside bone, soft tissue lies in the lowest tenth too.
        if is_cut or np.median(lowest) < WATER_HU:
            is_picture = look.least >= 0 and 200 <= look.greatest <= 255
            yield f"nothing below 0 and {observed}" + (": a picture of 8 bits" if is_picture else "")
    elif look.floor > NO_AIR_HU and top - base < SCALED_SPAN:
        yield f"{observed}: they are scaled"
    # Fat at -100 HU may be as frequent as a background, and a window may cut off what is below.
    elif BACKGROUND_HU < base < NO_AIR_HU and not is_cut:
        yield observed


def _is_cut(look: _Look) -> bool:
    """Tell whether many voxels hold the least value, which is what a window leaves of air."""
    limit = look.floor + 0.002 * (look.greatest - look.floor)
    return bool(np.mean(look.inside <= limit) > CUT_SHARE) if look.inside.size else False
