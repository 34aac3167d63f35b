import numpy as np
import pytest
from scipy import stats

from tests.ops.significance.scored import absent, invented, missed, report, scored
from tumorseg.errors import InputError
from tumorseg.ops.significance.ranking import rank
from tumorseg.schema.base import parse_record, to_json
from tumorseg.schema.comparisons import ComparisonRules, RankedTask, Ranking
from tumorseg.schema.metrics import Intervals, MetricsReport

GENERATOR = np.random.default_rng(4)
HARD = GENERATOR.beta(8, 2, size=33)
OFFSETS = {"best": 0.06, "middle": 0.0, "worst": -0.06}
DSC = {name: np.clip(HARD + offset + GENERATOR.normal(0, 0.05, size=33), 0, 1) for name, offset in OFFSETS.items()}


def report_of(dsc: np.ndarray, **attributes: dict[str, str]) -> MetricsReport:
    cases = [scored(f"case_{i:02}", value, 10 - 9 * value) for i, value in enumerate(dsc.tolist())]
    return report(*cases, **attributes)


def places_of(task: RankedTask) -> dict[str, float]:
    return {model.name: model.rank for model in task.models}


def task_of(ranking: Ranking, metric: str, label: str = "WT") -> RankedTask:
    return next(task for task in ranking.tasks if (task.label, task.metric) == (label, metric))


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    order = ("middle", "worst", "best")
    return rank({name: report_of(DSC[name]) for name in order}, metrics=("dsc", "hd95_mm"))


def test_models_stand_in_the_order_of_their_mean_ranks(ranking: Ranking) -> None:
    assert places_of(ranking.overall) == {"best": 1, "middle": 2, "worst": 3}
    assert [model.name for model in ranking.overall.models] == ["best", "middle", "worst"]
    oracle = stats.rankdata(-np.stack([DSC[name] for name in OFFSETS], axis=1), axis=1).mean(axis=0)
    found = [model.mean_rank for model in task_of(ranking, "dsc").models]
    np.testing.assert_allclose(found, oracle)


def test_means_are_ranked_beside(ranking: Ranking) -> None:
    best, _, worst = task_of(ranking, "hd95_mm").models
    assert best.mean == pytest.approx((10 - 9 * DSC["best"]).mean())
    assert (best.rank_by_mean, worst.rank_by_mean) == (1, 3)
    assert [model.rank_by_mean for model in ranking.overall.models] == [1, 2, 3]
    assert ranking.overall.models[0].mean is None


def test_shares_of_places_add_up(ranking: Ranking) -> None:
    shares = np.array([model.rank_shares for model in ranking.overall.models])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares[0, 0] > 0.95
    assert ranking.overall.kendall_tau is not None
    assert ranking.overall.kendall_tau > 0.9
    assert ranking.overall.models[0].rank_interval == (1, 1)


def test_all_pairs_are_tested_with_the_better_first(ranking: Ranking) -> None:
    pairs = ranking.overall.pairs
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("best", "middle"),
        ("best", "worst"),
        ("middle", "worst"),
    ]
    assert all(pair.mean_rank_difference < 0 for pair in pairs)
    smallest = min(pair.p_permutation for pair in pairs)
    assert min(pair.p_permutation_holm for pair in pairs) == pytest.approx(3 * smallest)
    # Two tasks of three pairs are one family.
    tasks = [pair for task in ranking.tasks for pair in task.pairs]
    assert min(pair.p_permutation_holm for pair in tasks) == pytest.approx(6 * min(p.p_permutation for p in tasks))


def test_models_that_are_alike_share_their_rank_and_differ_in_nothing() -> None:
    one = report_of(DSC["middle"])
    found = rank({"a": one, "b": one, "c": report_of(DSC["worst"])}).overall
    assert places_of(found) == {"a": 1.5, "b": 1.5, "c": 3}
    assert found.pairs[0].p_permutation == 1.0


def test_a_miss_ranks_behind_any_distance_and_an_absent_structure_before() -> None:
    first = report(missed("a"), absent("b"))
    second = report(scored("a", 0.1, 90.0), invented("b"))
    task = task_of(rank({"first": first, "second": second}), "hd95_mm")
    assert {model.name: model.mean_rank for model in task.models} == {"first": 1.5, "second": 1.5}
    # No case defines the distance for both.
    assert {model.mean for model in task.models} == {None}
    assert {model.rank_by_mean for model in task.models} == {None}


def test_each_case_counts_once_whatever_its_labels() -> None:
    first = report(scored("a", 0.9, 1.0), scored("a", 0.9, 1.0, label="ET"), scored("b", 0.5, 5.0))
    second = report(scored("a", 0.8, 2.0), scored("a", 0.8, 2.0, label="ET"), scored("b", 0.6, 4.0))
    found = rank({"first": first, "second": second}, metrics=("dsc",))
    assert found.overall.num_cases == 2
    assert {model.mean_rank for model in found.overall.models} == {1.5}
    assert task_of(found, "dsc", "ET").num_cases == 1


def test_cases_that_not_all_have_are_left_out_and_told() -> None:
    reports = {"a": report_of(DSC["best"]), "b": report_of(DSC["middle"][:30]), "c": report_of(DSC["worst"])}
    found = rank(reports)
    assert found.num_cases == 30
    assert found.left_out == {"a": ("case_30", "case_31", "case_32"), "b": (), "c": ("case_30", "case_31", "case_32")}


def test_clusters_are_drawn_and_exchanged_as_wholes() -> None:
    sites = {f"case_{i:02}": {"site": str(i % 4)} for i in range(33)}
    rules = ComparisonRules(intervals=Intervals(cluster="site"))
    reports = {name: report_of(dsc, **sites) for name, dsc in DSC.items()}
    found = rank(reports, rules=rules)
    assert {pair.p_permutation for pair in found.overall.pairs} <= {2 * n / 2**4 for n in range(1, 9)}
    assert any("clusters by 'site'" in line for line in found.warnings)


def test_scores_that_differ_by_rounding_share_a_rank() -> None:
    found = rank({"a": report(scored("x", 0.1 + 0.2)), "b": report(scored("x", 0.3))}, metrics=("dsc",))
    assert {model.mean_rank for model in found.overall.models} == {1.5}


def test_few_cases_of_a_label_are_warned_of_where_all_together_are_many() -> None:
    cases = {name: report_of(np.tile(DSC[name], 2)[:45]).cases for name in ("best", "worst")}
    few = {name: report(*found, *(case.changed(label="ET") for case in found[:6])) for name, found in cases.items()}
    (line,) = rank(few, metrics=("dsc",)).warnings
    assert line.endswith("may be too narrow: ranks by ET dsc (6)")


def test_what_cannot_be_ranked_is_refused() -> None:
    one = report(scored("a", 0.5))
    with pytest.raises(InputError, match="found 1 models; a ranking takes at least two"):
        rank({"a": one})
    with pytest.raises(InputError, match="nsd: not measured in all; expected some of dsc, hd95_mm"):
        rank({"a": one, "b": one}, metrics=("nsd",))
    with pytest.raises(InputError, match="no case can be ranked by hd95_mm"):
        rank({"a": one, "b": one}, metrics=("hd95_mm",))


def test_a_ranking_comes_back_from_json(ranking: Ranking) -> None:
    assert parse_record(Ranking, to_json(ranking), source="file", error=InputError) == ranking
