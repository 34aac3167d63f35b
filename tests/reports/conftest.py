import numpy as np
import pytest

from tumorseg.ops.metrics.case import MaskScore, case_metrics
from tumorseg.ops.summaries import metrics_report
from tumorseg.reports.overlays import OverlayInput
from tumorseg.schema.metrics import MetricsReport
from tumorseg.schema.score_rules import ScoreRules


def score(dsc: float | None, nsd: float | None, hd95_mm: float | None, predicted: float, reference: float) -> MaskScore:
    scores = {"dsc": dsc, "nsd": nsd, "hd95_mm": hd95_mm, "volume_error_ml": round(predicted - reference, 6)}
    return MaskScore(predicted, reference, scores)


@pytest.fixture
def log() -> list[dict[str, object]]:
    """A training whose second epoch saw no ET and whose third did not validate."""
    return [
        {
            "epoch": epoch,
            "iteration": 50 * (epoch + 1),
            "train_loss": 1.2 * 0.9**epoch - 0.6,
            "train_losses": {"dice": 0.5, "cross_entropy": 0.1},
            "validation_loss": None if epoch == 2 else 1.3 * 0.9**epoch - 0.5,
            "dsc": {"WT": 0.5 + 0.03 * epoch, "ET": None if epoch == 1 else 0.4},
            "lr": 0.01 * (1 - epoch / 10) ** 0.9,
            "seconds": 12.5,
            "data_wait_fraction": 0.02,
            "memory_bytes": 3 * 2**30,
        }
        for epoch in range(6)
    ]


@pytest.fixture
def report() -> MetricsReport:
    scores = {
        "case_01": {"WT": score(0.91, 0.95, 1.5, 9.8, 10.0), "ET": score(0.7, 0.8, 3.25, 1.1, 1.0)},
        "case_02": {"WT": score(0.85, 0.9, 2.5, 6.4, 6.0), "ET": score(None, None, None, 0.0, 0.0)},
        "case_03": {"WT": score(0.0, 0.0, None, 0.0, 3.0), "ET": score(0.0, 0.0, None, 0.5, 0.0)},
    }
    cases = [record for case_id, score in scores.items() for record in case_metrics(case_id, score)]
    return metrics_report(cases, rules=ScoreRules())


@pytest.fixture
def overlay() -> OverlayInput:
    grid = np.indices((9, 60, 52)) - np.reshape((4, 30, 26), (3, 1, 1, 1))
    radius = np.sqrt((grid[0] * 4) ** 2 + grid[1] ** 2 + (1.3 * grid[2]) ** 2)
    image = np.where(radius < 28, 100 - radius, 0) + np.random.default_rng(0).normal(0, 3, radius.shape)
    shifted = np.roll(radius, (0, 6, 9), axis=(0, 1, 2))
    reference = (shifted < 13).astype(np.int8) + (shifted < 7)
    prediction = np.roll(reference, (0, 2, -1), axis=(0, 1, 2))
    names = ("background", "edema", "core")
    return OverlayInput("case_01", image.astype(np.float32), (4.0, 1.0, 1.2), reference, prediction, names)
