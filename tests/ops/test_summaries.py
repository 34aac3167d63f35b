import numpy as np
import pytest
from scipy import stats

from tumorseg.ops.metrics import MaskScore, case_metrics
from tumorseg.ops.summaries import confidence_interval, metrics_report, summarize
from tumorseg.schema.metrics import CaseMetrics

BOTH_EMPTY = MaskScore(None, None, None, 0.0, 0.0, 0.0)
MISSED = MaskScore(0.0, 0.0, None, -2.0, 0.0, 2.0)
INVENTED = MaskScore(0.0, 0.0, None, 1.0, 1.0, 0.0)


def good(dsc: float) -> MaskScore:
    return MaskScore(dsc, dsc, 3.0, 0.5, 2.5, 2.0)


def cases(*scores: MaskScore, label: str = "WT") -> list[CaseMetrics]:
    return [record for i, score in enumerate(scores) for record in case_metrics(f"case_{i}", {label: score})]


def test_undefined_cases_stay_out_of_means_and_are_counted() -> None:
    found = summarize(cases(BOTH_EMPTY, MISSED, INVENTED, INVENTED, good(0.8)))["WT"]
    assert (found.num_undefined, found.num_missed, found.num_invented) == (1, 1, 2)
    assert found.dsc.mean == pytest.approx(0.8 / 4)
    assert found.dsc.std == pytest.approx(0.4)
    assert (found.hd95_mm.mean, found.hd95_mm.std, found.hd95_mm.ci95) == (3.0, None, None)
    assert found.volume_error_ml.mean == pytest.approx((0 - 2 + 1 + 1 + 0.5) / 5)


def test_labels_keep_their_order_and_their_own_cases() -> None:
    found = summarize([*cases(good(0.9), label="WT"), *cases(good(0.7), label="ET")])
    assert {label: summary.dsc.mean for label, summary in found.items()} == {"WT": 0.9, "ET": 0.7}
    assert list(found) == ["WT", "ET"]


def test_without_a_defined_value_there_is_no_mean() -> None:
    found = summarize(cases(BOTH_EMPTY, BOTH_EMPTY))["WT"]
    assert (found.dsc.mean, found.dsc.std, found.dsc.ci95, found.num_undefined) == (None, None, None, 2)


def test_the_confidence_interval_is_that_of_scipy_up_to_resampling_noise() -> None:
    values = np.random.default_rng(3).beta(8, 2, size=40)
    oracle = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1))
    np.testing.assert_allclose(confidence_interval(values), oracle.confidence_interval, atol=0.006)


def test_the_confidence_interval_is_the_same_each_time() -> None:
    values = np.array([0.1, 0.5, 0.9])
    assert confidence_interval(values) == confidence_interval(values)


def test_a_report_says_what_its_figures_mean() -> None:
    report = metrics_report(cases(good(0.8)), tolerance_mm=2.5)
    assert "at 2.5 mm" in report.definitions["nsd"]
    assert "num_missed" in report.definitions["empty_masks"]
    assert report.tolerance_mm == 2.5
