"""Temperature of logits, and how far confidence is from how often it is right."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from tumorseg.ops.cropping import mask_box
from tumorseg.types import FloatArray, Segmentation

NUM_BINS = 15
LEAST, MOST = 0.25, 10.0
"""Between which a temperature is looked for: few voxels that are all right would make every probability 0 or 1."""
_PRECISION = 1e-5
"""Of a temperature's logarithm."""
_BLOCK = 1 << 18
"""Logits of which wider copies are made at once."""
_GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, less their whole parts, are spread evenly at any number."""

Truth = NDArray[np.integer] | NDArray[np.bool_]
"""Class index of each voxel (N,), or whether it lies in each region (N, R), bool."""


class Calibration(NamedTuple):
    """A temperature and what it changes on the voxels that it was fitted on."""

    temperature: float
    """Logits are divided by it: above 1 confidence falls."""
    nll_before: float
    """Mean negative log-likelihood a voxel, of regions a voxel and region; in nats."""
    nll_after: float
    ece_before: float
    """Expected calibration error, 0 to 1."""
    ece_after: float


def fit_temperature(logits: FloatArray, truth: Truth) -> Calibration:
    """Find the temperature of the least negative log-likelihood.

    In 1 / T the likelihood's curve is convex, so its slope is 0 at one place at most: where it crosses, within 1/4 and 10; where it does not,
    the end towards which it falls. Without logits, or where all are alike, T is 1.

    Args:
        logits: (N, K) of classes, or (N, R) of regions; any finite numbers whose softmax, or sigmoid, are probabilities.
        truth: (N,), class indices; or (N, R), bool, for regions.

    References:
        Guo, Pleiss, Sun & Weinberger, On calibration of modern neural networks, ICML 2017.
    """
    temperature = _best_temperature(logits, truth)
    return calibration_at(temperature, logits, truth)


def calibration_at(temperature: float, logits: FloatArray, truth: Truth) -> Calibration:
    """Return what a temperature changes on voxels that it was not fitted on; arguments as for `fit_temperature`."""
    return Calibration(
        temperature=temperature,
        nll_before=negative_log_likelihood(logits, truth),
        nll_after=negative_log_likelihood(logits, truth, temperature),
        ece_before=expected_calibration_error(logits, truth),
        ece_after=expected_calibration_error(logits, truth, temperature),
    )


def _best_temperature(logits: FloatArray, truth: Truth) -> float:
    if not len(logits):
        return 1.0
    # By the logarithm, so that halving and doubling are as far from 1. The slope over 1 / T rises from hot to cold.
    cold, hot = np.log(LEAST), np.log(MOST)
    at_cold, at_hot = _slope(cold, logits, truth), _slope(hot, logits, truth)
    if at_cold == at_hot == 0:
        return 1.0
    if at_cold <= 0:
        return LEAST
    if at_hot >= 0:
        return MOST
    return float(np.exp(brentq(_slope, cold, hot, args=(logits, truth), xtol=_PRECISION)))


def _slope(log_temperature: float, logits: FloatArray, truth: Truth) -> float:
    """Return the derivative of the negative log-likelihood by 1 / T: the expected logit less that of the truth."""
    factor, total = float(np.exp(-log_temperature)), 0.0
    for own, true in _blocks(logits, truth):
        if true.ndim == 2:
            total += float((own * (expit(own * factor) - true)).sum())
        else:
            shares, sums = _shares(own * factor)
            total += float(((own * shares).sum(axis=0) / sums - _of_truth(own, true)).sum())
    return total / _num_witnesses(logits, truth)


def negative_log_likelihood(logits: FloatArray, truth: Truth, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood in nats; arguments as for `fit_temperature`, NaN without any."""
    total = 0.0
    for own, true in _blocks(logits, truth):
        scaled = own / temperature
        if true.ndim == 2:
            # log(1 + exp(-x)) inside, log(1 + exp(x)) outside.
            total += float(np.logaddexp(0.0, np.where(true, -scaled, scaled)).sum())
        else:
            _, sums = _shares(scaled)
            total += float((np.log(sums) + scaled.max(axis=0) - _of_truth(scaled, true)).sum())
    return total / _num_witnesses(logits, truth) if len(logits) else float("nan")


def _shares(logits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return exponentials (K, n) whose largest is 1, and their sums (n,): the softmax is their quotient."""
    shares = logits - logits.max(axis=0)
    np.exp(shares, out=shares)
    return shares, shares.sum(axis=0)


def expected_calibration_error(logits: FloatArray, truth: Truth, temperature: float = 1.0) -> float:
    """Return the mean gap between confidence and the share that is right, over bins of confidence, weighed by what is in them.

    Confidence is that of the likeliest class; of a region that of inside or outside, whichever is likelier, all regions together. Bins
    are 15 of equal width, each without its lower end.

    Args:
        logits: as for `fit_temperature`.
        truth: likewise.
        temperature: that logits are divided by first.

    Returns:
        0 to 1; NaN without any logits.

    References:
        Naeini, Cooper & Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015; Guo et al., 2017.
    """
    sums = np.zeros((2, NUM_BINS))
    for own, true in _blocks(logits, truth):
        confidence, is_right = _confidence(own / temperature, true)
        bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
        sums[0] += np.bincount(bins, weights=confidence, minlength=NUM_BINS)
        sums[1] += np.bincount(bins, weights=is_right, minlength=NUM_BINS)
    # A bin's gap times its share of all is the gap of its sums.
    gaps = float(np.abs(sums[0] - sums[1]).sum())
    return gaps / _num_witnesses(logits, truth) if len(logits) else float("nan")


def _confidence(logits: FloatArray, truth: Truth) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return how sure each decision is, and whether it is right; of regions (R * n,)."""
    if truth.ndim == 2:
        return expit(np.abs(logits)).ravel(), ((logits > 0) == truth).ravel()
    # The largest of the softmax is 1 over the sum.
    return 1 / _shares(logits)[1], logits.argmax(axis=0) == truth


def _of_truth(logits: FloatArray, classes: Truth) -> FloatArray:
    """Return the logit (n,) of each voxel's true class."""
    found: FloatArray = np.take_along_axis(logits, classes[None].astype(np.int64), axis=0)[0]
    return found


def _num_witnesses(logits: FloatArray, truth: Truth) -> int:
    """Return how many decisions there are: one a voxel, of regions one for each."""
    return logits.size if truth.ndim == 2 else len(logits)


def _blocks(logits: FloatArray, truth: Truth) -> Iterator[tuple[FloatArray, Truth]]:
    """Yield parts of both, logits as float64 (K, n), truth (n,) or (R, n), so that no wider copy of all is made."""
    rows = max(1, _BLOCK // max(1, logits.shape[1]))
    for start in range(0, len(logits), rows):
        # Classes first: what is done for each voxel then runs along memory.
        own = np.ascontiguousarray(logits[start : start + rows].T, dtype=np.float64)
        yield own, truth[start : start + rows].T


def sample_voxels(
    reference: Segmentation, prediction: Segmentation, *, margin: int = 4, most: int = 2000
) -> NDArray[np.int64]:
    """Return which voxels of a case a temperature is fitted on: some of the box around both masks.

    Elsewhere all is background and nobody doubts it: such voxels would drown the others.

    Args:
        reference: (Z, Y, X), 0 the background.
        prediction: (Z, Y, X).
        margin: voxels by which the box is larger on each side, within the image.
        most: how many are returned at most, evenly spread.

    Returns:
        (n,): flat indices, rising; none where neither mask has any foreground. The same masks give the same voxels.
    """
    box = mask_box((reference != 0) | (prediction != 0))
    if box is None:
        return np.zeros(0, dtype=np.int64)
    starts = [max(0, lower - margin) for lower, _ in box]
    stops = [min(size, upper + margin) for size, (_, upper) in zip(reference.shape, box, strict=True)]
    shape = tuple(stop - start for start, stop in zip(starts, stops, strict=True))
    chosen = np.unravel_index(_spread(int(np.prod(shape)), most), shape)
    moved = tuple(along + start for along, start in zip(chosen, starts, strict=True))
    return np.ravel_multi_index(moved, reference.shape).astype(np.int64)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Return up to `most` of the numbers below `count`, rising."""
    if count <= most:
        return np.arange(count)
    # Not in even steps, which could keep to a few columns of the box.
    shares = np.arange(1, most + 1) * _GOLDEN % 1.0
    return np.unique((shares * count).astype(np.int64))
