import numpy as np
import pytest
from scipy import stats

from tests.ops.significance.intervals import mean_interval
from tests.ops.significance.scored import absent, invented, missed, report, scored
from tumorseg.errors import InputError
from tumorseg.ops.significance.comparing import compare
from tumorseg.schema.base import parse_record, to_json
from tumorseg.schema.comparisons import ComparedMetric, Comparison, ComparisonRules
from tumorseg.schema.metrics import Intervals, MetricsReport

GENERATOR = np.random.default_rng(21)
WORSE = GENERATOR.beta(8, 2, size=37)
BETTER = np.clip(WORSE + GENERATOR.normal(0.03, 0.04, size=37), 0, 1)
ERRORS = GENERATOR.lognormal(1, 0.7, size=(2, 37))


def report_of(dsc: np.ndarray, hd95_mm: np.ndarray, **attributes: dict[str, str]) -> MetricsReport:
    cases = [
        scored(f"case_{i:02}", *values) for i, values in enumerate(zip(dsc.tolist(), hd95_mm.tolist(), strict=True))
    ]
    return report(*cases, **attributes)


def rows_of(comparison: Comparison, label: str = "WT") -> dict[str, ComparedMetric]:
    return {row.metric: row for row in comparison.rows if row.label == label}


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(report_of(BETTER, ERRORS[0]), report_of(WORSE, ERRORS[1]), names=("new", "old"))


def test_figures_are_those_of_the_pairs(comparison: Comparison) -> None:
    row, differences = rows_of(comparison)["dsc"], BETTER - WORSE
    assert (row.num_pairs, row.num_first_only, row.num_second_only) == (37, 0, 0)
    assert (row.first_mean, row.second_mean) == (pytest.approx(BETTER.mean()), pytest.approx(WORSE.mean()))
    assert row.mean_difference == pytest.approx(differences.mean())
    assert row.std_difference == pytest.approx(differences.std(ddof=1))
    assert row.ci95 == pytest.approx(mean_interval(differences))
    assert row.cohens_dz == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert row.p_wilcoxon == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert row.wins + row.ties + row.losses == 37
    assert row.wins == np.count_nonzero(differences > 0.0005)


def test_a_better_model_is_found_better_and_a_like_one_is_not(comparison: Comparison) -> None:
    rows = rows_of(comparison)
    assert rows["dsc"].p_permutation is not None
    assert rows["dsc"].p_permutation < 0.001
    assert (rows["dsc"].better, rows["hd95_mm"].better, rows["volume_error_ml"].better) == ("first", None, None)


def test_exchanging_the_models_turns_every_sign_and_no_p(comparison: Comparison) -> None:
    turned = compare(report_of(WORSE, ERRORS[1]), report_of(BETTER, ERRORS[0]))
    for name, row in rows_of(turned).items():
        other = rows_of(comparison)[name]
        assert row.mean_difference == pytest.approx(-(other.mean_difference or 0))
        assert row.rank_biserial == (None if other.rank_biserial is None else pytest.approx(-other.rank_biserial))
        assert (row.wins, row.losses) == (other.losses, other.wins)
        assert (row.p_permutation, row.p_wilcoxon) == (
            pytest.approx(other.p_permutation),
            pytest.approx(other.p_wilcoxon),
        )


def test_p_are_adjusted_over_labels_and_metrics(comparison: Comparison) -> None:
    # Of three metrics the smallest p counts three times; that without any difference has p 1.
    row = rows_of(comparison)["dsc"]
    assert row.p_permutation_holm == pytest.approx(3 * (row.p_permutation or 0))
    assert rows_of(comparison)["volume_error_ml"].p_permutation_holm == 1.0


def test_of_distances_the_lower_wins() -> None:
    row = rows_of(compare(report(scored("a", 0.8, 2.0)), report(scored("a", 0.8, 5.0))))["hd95_mm"]
    assert (row.wins, row.losses, row.mean_difference, row.rank_biserial, row.superiority) == (1, 0, -3.0, 1.0, 1.0)


def test_of_volume_errors_the_nearer_to_zero_wins() -> None:
    first, second = scored("a", 0.8, 1, volumes=(18.0, 20.0)), scored("a", 0.8, 1, volumes=(25.0, 20.0))
    row = rows_of(compare(report(first), report(second)))["volume_error_ml"]
    assert (row.wins, row.first_mean, row.second_mean, row.mean_difference) == (1, 2.0, 5.0, -3.0)


def test_a_failure_counts_as_a_loss_and_stays_out_of_means() -> None:
    first = report(scored("a", 0.8, 4.0), scored("b", 0.7, 9.0), missed("c"), absent("d"), missed("e"))
    second = report(scored("a", 0.8, 5.0), missed("b"), scored("c", 0.1, 60.0), invented("d"), missed("e"))
    row = rows_of(compare(first, second))["hd95_mm"]
    assert (row.num_pairs, row.num_first_only, row.num_second_only) == (1, 1, 1)
    assert (row.first_mean, row.second_mean, row.mean_difference) == (4.0, 5.0, -1.0)
    # a by its value, b since the other missed it, d since the other invented it; e was missed by both.
    assert (row.wins, row.ties, row.losses) == (3, 1, 1)


def test_cases_that_only_one_has_are_told_and_not_compared() -> None:
    first = report(scored("a", 0.8), scored("b", 0.7), scored("z", 0.1))
    second = report(scored("b", 0.6), scored("a", 0.8), scored("y", 0.2), scored("a", 0.5, label="ET"))
    found = compare(first, second)
    assert (found.num_cases, found.first_only, found.second_only) == (2, ("z",), ("y",))
    assert found.labels == ("WT",)
    assert "cases that are not in all, and so left out: 1 of first, 1 of second" in found.warnings
    assert "labels that are not in all, and so left out: ET" in found.warnings
    assert [(one.case_id, one.differences["dsc"]) for one in found.differences] == [
        ("a", 0.0),
        ("b", pytest.approx(0.1)),
    ]


def test_clusters_widen_intervals_and_p() -> None:
    sites = {f"case_{i:02}": {"site": str(i // 8)} for i in range(37)}
    rules = ComparisonRules(intervals=Intervals(cluster="site"))
    shift = GENERATOR.normal(0.02, 0.05, size=5)[np.arange(37) // 8]
    first, second = report_of(np.clip(WORSE + shift, 0, 1), ERRORS[0], **sites), report_of(WORSE, ERRORS[0])
    alone, clustered = (rows_of(compare(first, second, rules=how))["dsc"] for how in (None, rules))
    assert clustered.p_permutation in {2 * n / 2**5 for n in range(1, 17)}
    assert (alone.p_permutation or 0) < clustered.p_permutation
    assert alone.ci95 is not None
    assert clustered.ci95 is not None
    assert alone.ci95[1] - alone.ci95[0] < clustered.ci95[1] - clustered.ci95[0]


def test_subgroups_hold_their_own_cases() -> None:
    scanners = {f"case_{i:02}": {"scanner": "new" if i < 10 else "old"} for i in range(37)}
    rules = ComparisonRules(subgroup_columns=("scanner",))
    found = compare(report_of(BETTER, ERRORS[0], **scanners), report_of(WORSE, ERRORS[1]), rules=rules)
    rows = {name: rows[0] for name, rows in found.subgroups["scanner"].items()}
    assert {name: row.num_pairs for name, row in rows.items()} == {"new": 10, "old": 27}
    assert rows["new"].mean_difference == pytest.approx((BETTER - WORSE)[:10].mean())
    # Six tests are one family: two groups, three metrics.
    smallest = min(row.p_permutation or 1 for rows in found.subgroups["scanner"].values() for row in rows)
    adjusted = min(row.p_permutation_holm or 1 for rows in found.subgroups["scanner"].values() for row in rows)
    assert adjusted == pytest.approx(6 * smallest)


def test_other_references_are_warned_of() -> None:
    other = report(scored("a", 0.8, 2.0, volumes=(20.0, 31.0)))
    (line, *_) = compare(report(scored("a", 0.8, 2.0)), other).warnings
    assert line == "references differ in volume, as if these were scored against others: a WT"


def test_surface_scores_at_other_tolerances_are_not_compared() -> None:
    case = scored("a", 0.8, 2.0).changed(scores={"dsc": 0.8, "nsd": 0.9})
    first = report().changed(metrics=("dsc", "nsd"), cases=(case,))
    found = compare(first, first.changed(tolerances_mm={"WT": 2.0}))
    assert found.metrics == ("dsc",)
    assert "measured at different tolerances, and so left out: nsd" in found.warnings
    assert compare(first, first.changed(tolerances_mm={"ET": 2.0})).metrics == ("dsc", "nsd")


def test_tolerances_that_a_table_does_not_say_are_warned_of() -> None:
    case = scored("a", 0.8, 2.0).changed(scores={"nsd": 0.9})
    first = report().changed(metrics=("nsd",), cases=(case,))
    found = compare(first, first.changed(tolerance_mm=None))
    assert found.metrics == ("nsd",)
    assert "tolerance not known of second: nsd" in found.warnings
    with pytest.raises(InputError, match="nsd were measured at different tolerances, and nothing else in all"):
        compare(first, first.changed(tolerance_mm=3.0))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (report(scored("b", 0.8)), "no label of a case is scored in all: first has 1 cases, such as a, of WT; second"),
        (report(scored("a", 0.8, label="ET")), "no label of a case is scored in all"),
        (report(scored("a", 0.8), scored("a", 0.7)), "case a: second scores WT twice"),
        (report(scored("a", 0.8)).changed(metrics=("nsd",)), "no metric is measured in all: first has dsc"),
    ],
)
def test_reports_without_anything_to_compare_are_refused(second: MetricsReport, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(report(scored("a", 0.9)), second)


def test_models_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="both models are called 'x'"):
        compare(report(scored("a", 0.9)), report(scored("a", 0.9)), names=("x", "x"))


def test_one_pair_has_no_interval_and_the_widest_p() -> None:
    row = rows_of(compare(report(scored("a", 0.9)), report(scored("a", 0.8))))["dsc"]
    assert (row.ci95, row.std_difference, row.cohens_dz, row.p_permutation, row.p_wilcoxon) == (None, None, None, 1, 1)


def test_gains_that_are_alike_up_to_rounding_tie_and_have_no_effect_size() -> None:
    first = report(*(scored(f"c{i}", value) for i, value in enumerate((0.3, 0.4, 0.8, 0.9))))
    second = report(*(scored(f"c{i}", value) for i, value in enumerate((0.2, 0.3, 0.7, 0.8))))
    row = rows_of(compare(first, second))["dsc"]
    assert (row.cohens_dz, row.std_difference, row.p_wilcoxon) == (None, pytest.approx(0, abs=1e-15), 0.125)
    assert row.ci95 == (pytest.approx(0.1), pytest.approx(0.1))


def test_few_pairs_of_a_subgroup_are_warned_of_in_one_line() -> None:
    sites = {f"case_{i:02}": {"site": "a" if i < 5 else "b"} for i in range(37)}
    rules = ComparisonRules(intervals=Intervals(num_resamples=100), subgroup_columns=("site",))
    found = compare(report_of(BETTER, ERRORS[0], **sites), report_of(WORSE, ERRORS[1]), rules=rules).warnings
    overall, groups = found
    assert overall.startswith("intervals rest on fewer than 40 cases")
    assert overall.endswith("WT dsc (37), WT hd95_mm (37), WT volume_error_ml (37)")
    assert groups.startswith("subgroups by site: intervals rest on fewer than 40 cases")
    assert groups.endswith("a WT dsc (5), a WT hd95_mm (5), a WT volume_error_ml (5) and 3 more")


def test_of_volume_errors_it_is_said_that_sizes_are_compared() -> None:
    found = compare(report(scored("a", 0.8, 2.0)), report(scored("a", 0.8, 5.0))).definitions
    assert found["volume_error_ml"].endswith(". Compared by its size: less is better")
    assert "size" not in found["dsc"]


def test_a_comparison_is_the_same_each_time_and_comes_back_from_json(comparison: Comparison) -> None:
    again = compare(report_of(BETTER, ERRORS[0]), report_of(WORSE, ERRORS[1]), names=("new", "old"))
    assert to_json(again) == to_json(comparison)
    assert parse_record(Comparison, to_json(comparison), source="file", error=InputError) == comparison
