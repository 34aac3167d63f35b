"""Coverage of confidence intervals and size of paired tests, by simulation of scores as segmentations have them.

    python -m benchmarks.statistics [--samples 2000]

Goes to benchmarks/results/statistics.json with machine and commit, and prints the tables of docs/statistics.md. Seeds are fixed.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.special import ndtr

from benchmarks.machine import machine
from tumorseg.ops.significance.estimates import mean_estimate
from tumorseg.ops.significance.intervals import bounds
from tumorseg.ops.significance.paired_tests import permutation_tests, signed_ranks, wilcoxon_test
from tumorseg.ops.significance.resampling import SEED, to_units
from tumorseg.ops.significance.scores import Numbers
from tumorseg.schema.metrics import IntervalMethod, Intervals
from tumorseg.types import FloatArray

RESULT = Path(__file__).parent / "results" / "statistics.json"
METHODS: tuple[IntervalMethod, ...] = ("percentile", "bca", "studentised")
SIZES = (10, 20, 40, 50, 100, 200)
CLUSTERS = (3, 5, 10, 20, 40)
TESTED, TESTED_CLUSTERS = (10, 20, 50, 200), (10, 20, 40)
"""Numbers of cases and of clusters that tests are tried with."""
TESTS = ("permutation", "wilcoxon")
UNHEEDED = "permutation of cases, clusters unheeded"
LEVEL = 0.05
CLUSTER_SIZES = (1, 2, 3, 6)
"""Cases in a cluster, in turn."""
SHARED = 0.5
"""Share of the latent variance that the cases of a cluster have in common."""
LOWEST, HIGHEST, FROM = 0.92, 0.97, 50
"""Bars of coverage, and the number of cases from which they hold."""
HELD = 0.9
"""Coverage below which a report warns of few cases."""
PENALTY_MM = 374.0
"""HD95 of a lesion that was missed, as BraTS has it."""
SAMPLES = 2000
BATCH = 500
"""Samples computed at once."""
_LEVELS = ndtr(np.linspace(-6, 6, 12_001))
"""Shares whose quantiles are looked up, in steps of a thousandth of a standard deviation: beta quantiles are slow to compute."""


class Population(NamedTuple):
    """Scores of cases: where they come from, and their mean."""

    quantiles: FloatArray
    """Of the scores that are no failures, at `_LEVELS`."""
    mean: float
    failures: float = 0.0
    """Share of cases that fail."""
    failed: float = 0.0
    """Score of these."""
    is_count: bool = False
    """Whether scores are whole numbers, so that many tie."""

    @property
    def true_mean(self) -> float:
        """Return the mean of all scores."""
        return (1 - self.failures) * self.mean + self.failures * self.failed

    def scores(self, latent: FloatArray) -> FloatArray:
        """Return the scores of standard normal numbers of any shape; the lowest are failures."""
        share = ndtr(latent)
        kept = (share - self.failures) / (1 - self.failures)
        found = np.interp(kept, _LEVELS, self.quantiles)
        # Between two counts that are next to each other there is none.
        return np.where(kept < 0, self.failed, np.rint(found) if self.is_count else found)


def _beta(a: float, b: float, failures: float = 0.0) -> Population:
    return Population(stats.beta.ppf(_LEVELS, a, b), a / (a + b), failures)


def _log_normal(median: float, sigma: float, failures: float = 0.0) -> Population:
    quantiles = stats.lognorm.ppf(_LEVELS, sigma, scale=median)
    return Population(quantiles, median * math.exp(sigma**2 / 2), failures, PENALTY_MM)


def _counts(mean: float) -> Population:
    return Population(stats.poisson.ppf(_LEVELS, mean), mean, is_count=True)


WITH_PENALTY = "HD95, log-normal, sigma 0.8, 2 % at 374 mm"
POPULATIONS = {
    "DSC, beta(9, 1.5)": _beta(9, 1.5),
    "DSC, beta(5, 0.5)": _beta(5, 0.5),
    "DSC, beta(9, 1.5), 5 % failures": _beta(9, 1.5, 0.05),
    "DSC, beta(9, 1.5), 10 % failures": _beta(9, 1.5, 0.1),
    "HD95, log-normal, sigma 0.8": _log_normal(3, 0.8),
    "HD95, log-normal, sigma 1": _log_normal(3, 1.0),
    WITH_PENALTY: _log_normal(3, 0.8, 0.02),
    "lesions missed, Poisson, mean 1": _counts(1.0),
}


class Cell(NamedTuple):
    """A cell of the tables."""

    population: str
    """A name of `POPULATIONS`."""
    units: str
    """`cases` or `clusters`."""
    num_units: int
    """Of units."""

    def clusters(self) -> Numbers | None:
        """Return the cluster of each case; None where each is its own."""
        if self.units == "cases":
            return None
        sizes = [CLUSTER_SIZES[number % len(CLUSTER_SIZES)] for number in range(self.num_units)]
        return np.repeat(np.arange(self.num_units), sizes)

    def generator(self) -> np.random.Generator:
        """Return a generator whose draws no other cell of its table shares."""
        return np.random.default_rng(
            [list(POPULATIONS).index(self.population), self.num_units, self.units == "clusters"]
        )


class Draw(NamedTuple):
    """What latent numbers are drawn of."""

    num_cases: int
    samples: int
    clusters: Numbers | None
    generator: np.random.Generator

    def latent(self) -> FloatArray:
        """Return standard normal numbers (N, samples), alike within clusters."""
        alone = self.generator.standard_normal((self.num_cases, self.samples))
        if self.clusters is None:
            return alone
        common = self.generator.standard_normal((int(self.clusters.max()) + 1, self.samples))
        return math.sqrt(SHARED) * common[self.clusters] + math.sqrt(1 - SHARED) * alone


def coverage(cell: Cell, samples: int) -> list[dict[str, Any]]:
    """Return by method in which share of samples the interval holds the mean, lies above or below it, and its median width."""
    population, generator, clusters = POPULATIONS[cell.population], cell.generator(), cell.clusters()
    num_cases = cell.num_units if clusters is None else len(clusters)
    ends: dict[IntervalMethod, list[FloatArray]] = {method: [] for method in METHODS}
    for start in range(0, samples, BATCH):
        drawn = Draw(num_cases, min(BATCH, samples - start), clusters, generator)
        # As `mean_intervals` does, but with the same resamples for all methods.
        units = to_units(population.scores(drawn.latent()), clusters)
        estimate = mean_estimate(units, num_resamples=Intervals().num_resamples, generator=np.random.default_rng(SEED))
        for method, found in ends.items():
            found.append(bounds(estimate, method))
    rows = []
    for method, found in ends.items():
        rows.append(cell._asdict() | {"method": method} | _held(np.concatenate(found, axis=1), population.true_mean))
    return rows


def _held(ends: FloatArray, mean: float) -> dict[str, float]:
    lower, upper = ends
    return {
        "coverage": float(((lower <= mean) & (mean <= upper)).mean()),
        "above": float((lower > mean).mean()),
        "below": float((upper < mean).mean()),
        "width": float(np.median(upper - lower)),
    }


def size(cell: Cell, samples: int) -> dict[str, Any]:
    """Return in which share of samples of two models that are alike each test finds p of 5 % or less."""
    clusters = cell.clusters()
    num_cases = cell.num_units if clusters is None else len(clusters)
    differences = null_differences(POPULATIONS[cell.population], Draw(num_cases, samples, clusters, cell.generator()))
    found = {"permutation": permutation_tests(differences, clusters=clusters)}
    if clusters is None:
        found["wilcoxon"] = [wilcoxon_test(column) for column in differences.T]
    else:
        # What `wilcoxon_test` does with clusters, for all samples at once.
        ranks = np.stack([signed_ranks(column) for column in differences.T], axis=1)
        found["wilcoxon"] = permutation_tests(ranks, clusters=clusters)
        found[UNHEEDED] = permutation_tests(differences)
    shares = {name: float((np.array(values, dtype=float) <= LEVEL).mean()) for name, values in found.items()}
    return cell._asdict() | shares


def null_differences(population: Population, drawn: Draw) -> FloatArray:
    """Return differences (N, samples) of two models that are alike: cases are as hard for both, and each errs by itself.

    In a cluster a model errs alike, so that differences are alike too.
    """
    hard = drawn.latent()
    both = []
    for _ in range(2):
        both.append(population.scores(math.sqrt(0.7) * hard + math.sqrt(0.3) * drawn.latent()))
    return both[0] - both[1]


def cells(num_cases: Sequence[int], num_clusters: Sequence[int]) -> list[Cell]:
    """Return the cells of one table."""
    found = []
    for name in POPULATIONS:
        found += [Cell(name, "cases", count) for count in num_cases]
        found += [Cell(name, "clusters", count) for count in num_clusters]
    return found


def outside(result: dict[str, Any]) -> list[str]:
    """Return what misses its bar: the default's coverage from 50 cases on, and the size of every test.

    Rare penalties have no bar of coverage, as a sample that holds none cannot tell of them. Tests of whole numbers may find less than
    5 %: few of their p lie near it.
    """
    lines = []
    for row in result["coverage"]:
        is_barred = row["units"] == "cases" and row["num_units"] >= FROM and row["method"] == result["default"]
        has_bar = row["population"] != WITH_PENALTY
        if is_barred and has_bar and not LOWEST <= row["coverage"] <= HIGHEST:
            lines.append(f"coverage {row['coverage']:.3f}: {row['population']}, {row['count']} cases")
    margin = 3 * math.sqrt(LEVEL * (1 - LEVEL) / result["samples"])
    for row in result["size"]:
        for test in TESTS:
            low = -math.inf if POPULATIONS[row["population"]].is_count else -margin
            if not low <= row[test] - LEVEL <= margin:
                lines.append(f"size {row[test]:.3f} of {test}: {row['population']}, {row['count']} {row['units']}")
    return lines


def fewest(result: dict[str, Any], units: str, method: IntervalMethod) -> int:
    """Return the count from which coverage is `HELD` in every population without penalties."""
    rows = [row for row in result["coverage"] if (row["units"], row["method"]) == (units, method)]
    short = [row["num_units"] for row in rows if row["population"] != WITH_PENALTY and row["coverage"] < HELD]
    return min(row["num_units"] for row in rows if row["num_units"] > max(short, default=0))


def tables(result: dict[str, Any]) -> str:
    """Return the tables of the page as Markdown."""
    parts = []
    for units, counts in (("cases", SIZES), ("clusters", CLUSTERS)):
        rows: dict[tuple[str, str], list[str]] = {}
        for row in result["coverage"]:
            if row["units"] == units:
                rows.setdefault((row["population"], row["method"]), []).append(f"{row['coverage']:.3f}")
        parts.append(_table([units, "method", *map(str, counts)], [[*key, *cells] for key, cells in rows.items()]))
    for units, tests in (("cases", TESTS), ("clusters", (*TESTS, UNHEEDED))):
        lines = []
        for row in result["size"]:
            if row["units"] == units:
                lines.append([row["population"], str(row["num_units"]), *(f"{row[test]:.3f}" for test in tests)])
        parts.append(_table(["", units, *tests], lines))
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measure(samples: int) -> dict[str, Any]:
    """Return the rows of all tables, computed on all processors."""
    began = time.perf_counter()
    with ProcessPoolExecutor() as pool:
        held = pool.map(partial(coverage, samples=samples), cells(SIZES, CLUSTERS))
        sizes = pool.map(partial(size, samples=samples), cells(TESTED, TESTED_CLUSTERS))
        result = {"coverage": list(itertools.chain.from_iterable(held)), "size": list(sizes)}
    seconds = round(time.perf_counter() - began, 1)
    return result | {"samples": samples, "default": Intervals().method, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    result = measure(parser.parse_args().samples)
    result["outside"] = outside(result)
    RESULT.write_text(json.dumps(result | {"machine": machine()}, indent=2) + "\n")
    print(tables(result), *result["outside"], sep="\n")


if __name__ == "__main__":
    main()
