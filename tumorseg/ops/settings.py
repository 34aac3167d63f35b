"""What settings of a prediction take and bring: seconds of a case, and the best that fits a time."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from tumorseg.schema.settings import BesideSeconds, Setting

DIGITS = 3
"""Of DSC and NSD that count in a choice: on a few cases smaller differences are none."""


class Offer(NamedTuple):
    """A setting, what it brings and what it takes."""

    setting: Setting
    dsc: float | None
    """None where it was not measured."""
    nsd: float | None
    seconds: float
    """Of the case that takes longest."""


class Costs(NamedTuple):
    """What predicting takes on a machine."""

    tile_s: Sequence[float]
    """Of one patch through one network, for each kind of network."""
    beside: BesideSeconds
    """Of a case, while no network computes."""
    scale: float = 1.0
    """By which a machine takes longer for the latter than the one on which they were measured."""


def expected_seconds(passes: Sequence[int], megavoxels: float, *, costs: Costs) -> float:
    """Return the seconds of one case by itself.

    Args:
        passes: patches times views times folds, for each kind of network.
        megavoxels: of the input, in millions.
        costs: on this machine.
    """
    by_networks = sum(count * seconds for count, seconds in zip(passes, costs.tile_s, strict=True))
    return by_networks + costs.scale * costs.beside.of(megavoxels)


def fit_beside(megavoxels: Sequence[float], seconds: Sequence[float]) -> BesideSeconds:
    """Split what cases took beside their networks into a part of every case and a part that grows with it.

    By least squares, neither below 0. Cases of one size say nothing of other sizes: then one of the parts is 0.

    Args:
        megavoxels: of each case, one at least.
        seconds: of each case; what noise has made negative counts as 0.
    """
    sizes = np.asarray(megavoxels, np.float64)
    design = np.stack([np.ones_like(sizes), sizes], axis=1)
    (per_case, per_megavoxel), _ = nnls(design, np.maximum(np.asarray(seconds, np.float64), 0))
    return BesideSeconds(per_case=float(per_case), per_megavoxel=float(per_megavoxel))


def machine_scale(here: Mapping[str, Sequence[float]], there: Mapping[str, Sequence[float]]) -> float:
    """Return how many times as long the tiles of some networks take here as there.

    Args:
        here: seconds of a tile of each kind of network, by what runs them.
        there: likewise, on another machine.

    Returns:
        The mean, in logarithms, over all that were timed on both; 1 where none was.
    """
    ratios: list[float] = []
    for name in sorted(here.keys() & there.keys()):
        ratios += (new / old for new, old in zip(here[name], there[name], strict=True) if new > 0 and old > 0)
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else 1.0


def merit(offer: Offer) -> tuple[float, ...]:
    """Return what offers are compared by: the larger is better, from the first figure on.

    DSC, NSD, number of folds (their mean is seldom worse than one of them, and cannot be measured on cases that they were trained on),
    then the time. Where nothing was measured, more views and tiles are taken for better before the time counts.
    """
    setting = offer.setting
    is_measured = offer.dsc is not None
    effort = (0.0, 0.0) if is_measured else (float(setting.mirroring), setting.overlap)
    return (_rounded(offer.dsc), _rounded(offer.nsd), setting.num_folds, *effort, -offer.seconds)


def _rounded(score: float | None) -> float:
    return -1.0 if score is None else round(score, DIGITS)


def best_within(offers: Iterable[Offer], budget_s: float) -> Offer | None:
    """Return the best offer that takes no longer than a budget; of equal ones the first; None where none fits."""
    fitting = [offer for offer in offers if offer.seconds <= budget_s]
    return max(fitting, key=merit, default=None)
