"""Paired tests of two models over cases, or over clusters of cases that are exchanged as wholes."""

import itertools
from collections.abc import Sequence

import numpy as np

from tumorseg.ops.significance.resampling import SEED
from tumorseg.ops.significance.scores import Numbers
from tumorseg.types import FloatArray

EXACT_PAIRS = 50
"""Differences up to which the Wilcoxon test is exact."""

_BLOCK = 1 << 20
"""Signs held at once."""
_ROUNDING = 1e-12
"""Share of the sum of all sizes by which a sum may fall short of what was found and count as as large."""


def permutation_tests(
    differences: FloatArray, *, clusters: Numbers | None = None, num_permutations: int = 9999
) -> list[float | None]:
    """Return the two-sided p of each column's mean difference under changes of sign.

    If the two models are alike, each pair could as well be the other way round, and so could all pairs of a cluster together. All
    changes of sign are tried where they are no more than `num_permutations`; else that many are drawn, with a fixed seed, and
    p = (b + 1) / (m + 1) where b of m reach the mean that was found, so that p is never 0.

    Args:
        differences: (N pairs, M columns), NaN where there is none.
        clusters: (N,), the cluster of each pair; None where pairs are exchanged by themselves.
        num_permutations: m.

    Returns:
        M values; None where a column has no difference, 1 where all are 0.

    References:
        Phipson & Smyth, Permutation p-values should never be zero, Statistical Applications in Genetics and Molecular Biology 2010;
        Winkler et al., Multi-level block permutation, NeuroImage 2015 (whole blocks).
    """
    has_any = (~np.isnan(differences)).any(axis=0)
    sums = cluster_sums(np.nan_to_num(differences), clusters)
    found: list[float | None] = [None] * sums.shape[1]
    drawn: dict[int, FloatArray] = {}
    for column in np.flatnonzero(has_any).tolist():
        # Changing the sign of 0 changes nothing.
        moving = sums[sums[:, column] != 0, column]
        if 2 ** min(moving.size, 62) <= num_permutations:
            found[column] = _exact(moving)
        else:
            drawn[column] = moving
    if drawn:
        for column, value in zip(drawn, _monte_carlo(list(drawn.values()), num_permutations), strict=True):
            found[column] = float(value)
    return found


def cluster_sums(values: FloatArray, clusters: Numbers | None) -> FloatArray:
    """Return the sums (K, M) of values (N, M) in each cluster."""
    if clusters is None:
        return values
    _, numbers = np.unique(clusters, return_inverse=True)
    sums = np.zeros((numbers.max(initial=-1) + 1, values.shape[1]))
    sizes = np.zeros_like(sums)
    np.add.at(sums, numbers, values)
    np.add.at(sizes, numbers, np.abs(values))
    # A sum of what cancels out is 0, and no rounding.
    return np.where(np.abs(sums) > _ROUNDING * sizes, sums, 0.0)


def _exact(sums: FloatArray) -> float:
    """Return the share of all changes of sign of sums (K,) that reach the total."""
    # The first sign may stay, as the others with it changed are the mirror image; without any sum this is one sign.
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=max(sums.size - 1, 0))))
    totals = np.abs(sums[:1].sum() + signs @ sums[1:])
    return float((totals >= _reached(sums)).mean())


def _monte_carlo(columns: Sequence[FloatArray], num_permutations: int) -> FloatArray:
    """Return p (M,) from random changes of sign of M columns of sums, of any length each."""
    sums = np.zeros((max(column.size for column in columns), len(columns)))
    for number, column in enumerate(columns):
        sums[: column.size, number] = column
    least, total = _reached(sums), sums.sum(axis=0)
    # A random bit per sign, sum after sum: so a column's signs are the same however long the others are.
    packed = np.random.default_rng(SEED).integers(256, size=(len(sums), -(-num_permutations // 8)), dtype=np.uint8)
    step = max(1, _BLOCK // 8 // len(sums))
    reached = np.zeros(len(columns), dtype=np.int64)
    for start in range(0, packed.shape[1], step):
        count = min(8 * step, num_permutations - 8 * start)
        changed = np.unpackbits(packed[:, start : start + step], axis=1, count=count).astype(np.float64)
        # A changed sign takes its sum off twice.
        totals = total - 2 * (changed.T @ sums)
        reached += np.count_nonzero(np.abs(totals) >= least, axis=0)
    return (reached + 1) / (num_permutations + 1)


def _reached(sums: FloatArray) -> FloatArray:
    """Return the size from which a total counts as as large as that of sums (K, ...), which rounding must not hide."""
    least: FloatArray = np.abs(sums.sum(axis=0)) - _ROUNDING * np.abs(sums).sum(axis=0)
    return least


def signed_ranks(differences: FloatArray) -> FloatArray:
    """Return the ranks (N,) of the sizes of differences (N,) with the signs of these; 0 for those of 0, which get no rank.

    Infinite differences share the highest ranks; sizes that are alike share the mean of theirs.
    """
    from scipy.stats import rankdata

    ranks = np.zeros(len(differences))
    moving = differences != 0
    ranks[moving] = rankdata(np.abs(differences[moving])) * np.sign(differences[moving])
    return ranks


def wilcoxon_test(
    differences: FloatArray, *, clusters: Numbers | None = None, num_permutations: int = 9999
) -> float | None:
    """Return the two-sided p of the Wilcoxon signed-rank test.

    Differences of 0 are dropped (Wilcoxon's rule). Up to 50 differences the test is exact, ties or none; else by the normal approximation
    with the variance of ties. With clusters, signs of the ranks are exchanged cluster by cluster, as in `permutation_tests`.

    Args:
        differences: (N,), all defined; infinite ones have the highest ranks.
        clusters: (N,).
        num_permutations: with clusters.

    Returns:
        p; None without differences, 1 where all are 0.

    References:
        Wilcoxon, Biometrics Bulletin 1945; Rosner, Glynn & Lee, The Wilcoxon signed rank test for paired comparisons of clustered data,
        Biometrics 2006.
    """
    if not len(differences):
        return None
    if clusters is not None:
        ranks = signed_ranks(differences)[:, None]
        return permutation_tests(ranks, clusters=clusters, num_permutations=num_permutations)[0]
    moving = differences[differences != 0]
    if moving.size <= EXACT_PAIRS:
        return _exact_signed_ranks(signed_ranks(moving))
    from scipy.stats import wilcoxon

    # scipy ranks sizes, so that twice the largest stands for infinity.
    largest = np.abs(moving[np.isfinite(moving)]).max(initial=1.0)
    moving = np.clip(moving, -2 * largest, 2 * largest)
    return float(wilcoxon(moving, method="approx").pvalue)


def _exact_signed_ranks(ranks: FloatArray) -> float:
    """Return the share of all changes of sign of ranks (N,) whose sum is as far from 0 as theirs; without any rank 1."""
    # Ranks that ties share are halves, so that twice a rank is a whole number.
    steps = np.rint(2 * np.abs(ranks)).astype(np.int64)
    total = int(steps.sum())
    # How likely each sum of the ranks that are above 0 is, rank by rank.
    chances = np.zeros(total + 1)
    chances[0] = 1.0
    for step in steps.tolist():
        shifted = np.concatenate([np.zeros(step), chances[: total + 1 - step]])
        chances = (chances + shifted) / 2
    sums = np.abs(2 * np.arange(total + 1) - total)
    found = abs(round(2 * float(ranks.sum())))
    return float(min(1.0, chances[sums >= found].sum()))
