from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.chromium import Chromium
from tests.reports.results.draws import drawn_report
from tumorseg.ops.significance.comparing import compare
from tumorseg.ops.significance.ranking import rank
from tumorseg.reports.results.page import ResultsInput, results_page
from tumorseg.reports.results.volumes import ViewerCase, ViewerInput, viewer_case
from tumorseg.reports.results.writing import write_page
from tumorseg.schema.comparisons import Comparison, ComparisonRules, Ranking
from tumorseg.schema.metrics import Intervals, MetricsReport


@pytest.fixture(scope="session")
def small_report() -> MetricsReport:
    return drawn_report(5)


@pytest.fixture(scope="session")
def small_comparison(small_report: MetricsReport) -> Comparison:
    rules = ComparisonRules(intervals=Intervals(num_resamples=200), num_permutations=199)
    return compare(small_report, drawn_report(5, seed=1, level=0.6), names=("ours", "theirs"), rules=rules)


@pytest.fixture(scope="session")
def small_ranking(small_report: MetricsReport) -> Ranking:
    reports = {"ours": small_report, "theirs": drawn_report(5, seed=1, level=0.6), "both": drawn_report(5, seed=2)}
    return rank(reports, rules=ComparisonRules(intervals=Intervals(num_resamples=200), num_permutations=199))


@pytest.fixture(scope="session")
def head() -> ViewerInput:
    """A head with a lump, whose axes point left, posterior and up, with different edges."""
    grid = np.indices((19, 43, 37)) - np.reshape((9, 21, 18), (3, 1, 1, 1))
    radius = np.sqrt((grid[0] * 2.2) ** 2 + grid[1] ** 2 + (1.2 * grid[2]) ** 2)
    image = np.where(radius < 19, 60 - radius, 0).astype(np.float32)
    lump = np.roll(radius, (1, 5, 7), axis=(0, 1, 2))
    image[lump < 5] += 30
    reference = (lump < 6).astype(np.int16) + (lump < 3)
    prediction = np.roll(reference, (0, 1, -2), axis=(0, 1, 2))
    affine = np.diag([-1.2, -1.0, 2.2, 1.0])
    affine[:3, 3] = (20, 15, -30)
    return ViewerInput("case_0003", image, affine, reference, prediction, ("background", "edema", "core"))


@pytest.fixture(scope="session")
def small_volume(head: ViewerInput) -> ViewerCase:
    return viewer_case(head)


@pytest.fixture(scope="session")
def small_content(small_report: MetricsReport, small_volume: ViewerCase) -> ResultsInput:
    return ResultsInput(
        title="Phantom, fold 0",
        subtitle="3d_fullres, 6 epochs",
        facts={"Dataset": [("Cases", "12"), ("Channels", "T1, FLAIR")], "Plan": [("Patch", "32 × 48 × 48")]},
        metrics=small_report,
        volumes=[small_volume],
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(tmp_path: Path, small_content: ResultsInput) -> Path:
    path = tmp_path / "report.html"
    write_page(path, results_page(small_content))
    return path
