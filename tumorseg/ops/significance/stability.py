"""How firmly a ranking stands: what becomes of it in resamples of the cases."""

from typing import NamedTuple

import numpy as np

from tumorseg.ops.significance.resampling import resampled_means, to_units
from tumorseg.ops.significance.scores import Numbers
from tumorseg.types import FloatArray

_LEVELS = (0.025, 0.975)
_TIE = 1e-9
"""Mean ranks that differ by less are alike: they are sums of halves, and differ by rounding alone."""


class Stability(NamedTuple):
    """What becomes of the ranking of R models in resamples."""

    rank_shares: FloatArray
    """(R models, R places): share of resamples in which a model takes a place."""
    rank_intervals: FloatArray
    """(R, 2): places between which 95 % of resamples lie."""
    kendall_tau: float | None
    """Mean tau-b of the resamples' rankings to that of all cases; None where all models tie."""


def case_ranks(goodness: FloatArray) -> FloatArray:
    """Return the rank (N cases, R models) of each model within each case, 1 the best; ties share the mean of their ranks.

    Args:
        goodness: (N, R), more is better, no NaN.
    """
    ahead = (goodness[:, None, :] > goodness[:, :, None]).sum(axis=2)
    alike = (goodness[:, None, :] == goodness[:, :, None]).sum(axis=2)
    ranks: FloatArray = ahead + (alike + 1) / 2
    return ranks


def places(mean_ranks: FloatArray) -> FloatArray:
    """Return the rank (..., R) of mean ranks (..., R), 1 the lowest; ties share the mean of their ranks."""
    ahead, alike = _order(mean_ranks)
    ranks: FloatArray = ahead + (alike + 1) / 2
    return ranks


def _order(mean_ranks: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how many models (..., R) are ahead of each, and how many level with it, itself included."""
    gaps = mean_ranks[..., :, None] - mean_ranks[..., None, :]
    return (gaps > _TIE).sum(axis=-1), (np.abs(gaps) <= _TIE).sum(axis=-1)


def stability(ranks: FloatArray, *, clusters: Numbers | None, num_resamples: int) -> Stability:
    """Return what becomes of a ranking by mean rank in bootstrap resamples of the cases.

    Args:
        ranks: (N cases, R models), N at least 1.
        clusters: (N,), drawn as wholes; None where cases are.
        num_resamples: B.

    References:
        Wiesenfarth et al., Methods and open-source toolkit for analyzing and visualizing challenge results, Scientific Reports 2021.
    """
    units = to_units(ranks, clusters)
    means = resampled_means(units, num_resamples) + units.shift
    # Models that tie take the best of their places, so that a place is a whole number.
    ahead, _ = _order(means)
    num_models = ranks.shape[1]
    shares = (ahead[:, :, None] == np.arange(num_models)).mean(axis=0)
    intervals = np.quantile(ahead + 1, _LEVELS, axis=0, method="inverted_cdf").T
    taus = kendall_taus(ranks.mean(axis=0), means)
    return Stability(shares, intervals, float(taus.mean()) if taus.size else None)


def kendall_taus(mean_ranks: FloatArray, others: FloatArray) -> FloatArray:
    """Return Kendall's tau-b between one ranking (R,) and each of others (B, R).

    A ranking in which all models tie has none: of the others these are left out, and without any pair apart in the one nothing is left.

    References:
        Kendall, The treatment of ties in ranking problems, Biometrika 1945.
    """
    upper = np.triu_indices(len(mean_ranks), k=1)
    one, many = (_signs(ranks)[..., upper[0], upper[1]] for ranks in (mean_ranks, others))
    # The number of pairs apart in both, to the root of whose product concordance is held.
    apart = np.abs(one).sum() * np.abs(many).sum(axis=-1)
    kept = apart > 0
    taus: FloatArray = (many[kept] @ one) / np.sqrt(apart[kept])
    return taus


def _signs(ranks: FloatArray) -> FloatArray:
    """Return the sign (..., R, R) of the gap between every two ranks (..., R)."""
    gaps = ranks[..., :, None] - ranks[..., None, :]
    return np.where(np.abs(gaps) <= _TIE, 0.0, np.sign(gaps))
