import numpy as np
import pytest

from tests.ops.significance.intervals import mean_interval
from tests.ops.significance.scored import RULES, absent, invented, missed, report, scored
from tumorseg.errors import InputError
from tumorseg.ops.summaries import metrics_report
from tumorseg.schema.metrics import CaseMetrics, Intervals, MetricsReport, MetricSummary
from tumorseg.schema.score_rules import LesionRules, ScoreRules

DSC = np.random.default_rng(5).beta(8, 1.5, size=45)
SITES = {f"case_{i}": {"site": f"site {i % 3}", "age": str(i)} for i in range(45)}


def cohort() -> list[CaseMetrics]:
    return [scored(f"case_{i}", value, 3.0) for i, value in enumerate(DSC.tolist())]


def dsc_of(found: MetricsReport, label: str = "WT") -> MetricSummary:
    return found.summary[label].metrics["dsc"]


def test_undefined_cases_stay_out_of_means_and_are_counted() -> None:
    cases = [absent("a"), missed("b"), invented("c"), invented("d"), scored("e", 0.8, 3.0)]
    found = report(*cases).summary["WT"]
    assert (found.num_cases, found.num_undefined, found.num_missed, found.num_invented) == (5, 1, 1, 2)
    dsc, hd95_mm = found.metrics["dsc"], found.metrics["hd95_mm"]
    assert (dsc.mean, dsc.std, dsc.num) == (pytest.approx(0.8 / 4), pytest.approx(0.4), 4)
    assert (hd95_mm.mean, hd95_mm.std, hd95_mm.ci95, hd95_mm.num) == (3.0, None, None, 1)
    assert found.metrics["volume_error_ml"].mean == pytest.approx((0 - 20 + 20 + 20 + 0) / 5)


def test_labels_keep_their_order_and_their_own_cases() -> None:
    found = report(scored("a", 0.9), scored("a", 0.7, label="ET"))
    assert {label: summary.metrics["dsc"].mean for label, summary in found.summary.items()} == {"WT": 0.9, "ET": 0.7}
    assert list(found.summary) == ["WT", "ET"]


def test_without_a_defined_value_there_is_no_mean() -> None:
    found = report(absent("a"), absent("b"))
    summary = dsc_of(found)
    assert (summary.mean, summary.std, summary.ci95, summary.num) == (None, None, None, 0)
    assert found.summary["WT"].num_undefined == 2


def test_a_report_of_no_case_is_empty() -> None:
    assert report().summary == {}


def test_intervals_are_by_the_method_that_is_asked_for() -> None:
    for method in ("percentile", "bca", "studentised"):
        intervals = Intervals(method=method, num_resamples=500)
        found = metrics_report(cohort(), rules=RULES, intervals=intervals)
        assert dsc_of(found).ci95 == mean_interval(DSC, intervals=intervals)
        assert "500 resamples" in found.definitions["summary"]


def test_intervals_stay_where_means_can_be() -> None:
    nearly_right = [scored(f"case_{i}", 0.2 if i == 3 else 0.999) for i in range(8)]
    found = metrics_report(nearly_right, rules=RULES, intervals=Intervals(method="studentised"))
    interval = dsc_of(found).ci95
    assert interval is not None
    assert 0 <= interval[0] < interval[1] <= 1


def test_intervals_by_cluster_are_wider_where_clusters_differ() -> None:
    sites = {f"case_{i}": {"site": str(i)} for i in range(5)}
    cases = [scored(f"case_{i}", 0.5 + 0.1 * i) for i in range(5)]
    repeated = [case.changed(case_id=f"{case.case_id}_{k}") for case in cases for k in range(9)]
    known = {case.case_id: sites[case.case_id[:6]] for case in repeated}
    widths = {}
    for column in (None, "site"):
        found = metrics_report(repeated, rules=RULES, intervals=Intervals(cluster=column), attributes=known)
        lower, upper = dsc_of(found).ci95 or (0.0, 0.0)
        widths[column] = upper - lower
    assert widths["site"] > 2 * widths[None]


def test_subgroups_have_summaries_of_their_own() -> None:
    columns = ("site", "reference_volume_ml", "age=10,30")
    found = metrics_report(cohort(), rules=RULES, attributes=SITES, subgroup_columns=columns)
    assert list(found.subgroups) == ["site", "reference_volume_ml", "age"]
    means = {name: group["WT"].metrics["dsc"].mean for name, group in found.subgroups["site"].items()}
    assert means == {f"site {i}": pytest.approx(DSC[i::3].mean()) for i in range(3)}
    assert [group["WT"].metrics["dsc"].num for group in found.subgroups["age"].values()] == [10, 20, 15]
    assert [group["WT"].num_cases for group in found.subgroups["age"].values()] == [10, 20, 15]
    assert found.definitions["subgroups by age"] == "By age, cut at 10 and 30"
    assert found.attributes == SITES


def test_what_rests_on_few_cases_is_warned_of() -> None:
    few = [case if i < 7 else case.changed(scores=case.scores | {"hd95_mm": None}) for i, case in enumerate(cohort())]
    found = metrics_report(few, rules=RULES, attributes=SITES, subgroup_columns=("site",))
    assert "and may be too narrow: WT hd95_mm (7)" in found.warnings[0]
    # Of the seven cases three are of the first site; DSC is defined in fifteen.
    assert found.warnings[1].startswith("subgroups by site: intervals rest on fewer than 40 cases")
    assert "narrow: site 1 WT hd95_mm (2), site 2 WT hd95_mm (2), site 0 WT hd95_mm (3) and 6 more" in found.warnings[1]
    assert len(found.warnings) == 2
    assert report(*cohort()).warnings == ()


def test_few_clusters_are_warned_of_however_many_cases_there_are() -> None:
    found = metrics_report(cohort(), rules=RULES, intervals=Intervals(cluster="site"), attributes=SITES)
    assert "clusters by 'site', and may be too narrow: WT dsc (3)" in found.warnings[0]


def test_how_many_cases_are_few_depends_on_the_method() -> None:
    found = metrics_report(cohort(), rules=RULES, intervals=Intervals(method="percentile", num_resamples=100))
    assert "fewer than 50 cases" in found.warnings[0]


def test_without_an_interval_none_is_warned_of() -> None:
    assert report(scored("a", 0.8)).warnings == ()


def test_a_column_of_clusters_that_no_case_has_is_refused() -> None:
    with pytest.raises(InputError, match="no case has a value of 'patient'"):
        metrics_report(cohort(), rules=RULES, intervals=Intervals(cluster="patient"), attributes=SITES)


def test_a_report_says_what_its_figures_mean() -> None:
    rules = ScoreRules(metrics=("nsd", "lesion_f1"), tolerance_mm=2.5, tolerances_mm={"ET": 1.0})
    own = {"ET": LesionRules(smallest_mm3=7.0)}
    found = metrics_report([], rules=rules.changed(label_lesions=own))
    assert "Tolerance: 2.5 mm, ET 1 mm" in found.definitions["nsd"]
    assert "num_missed" in found.definitions["empty_masks"]
    assert {"lesions", "lesions: ET", "missing", "summary", "border"} <= found.definitions.keys()
    assert "of 7 mm³ or less are left out" in found.definitions["lesions: ET"]
    assert "connectivity" not in found.definitions["lesions"]
    assert (found.tolerance_mm, found.tolerances_mm) == (2.5, {"ET": 1.0})
