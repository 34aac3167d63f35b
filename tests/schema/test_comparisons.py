import pytest
from pydantic import ValidationError

from tumorseg.schema.comparisons import ComparedMetric, ComparisonRules


def compared(*, p: float | None, difference: float | None) -> ComparedMetric:
    return ComparedMetric(
        label="WT",
        metric="hd95_mm",
        num_pairs=31,
        num_first_only=0,
        num_second_only=2,
        first_mean=4.5,
        second_mean=6.0,
        mean_difference=difference,
        std_difference=3.0,
        ci95=(-2.5, -0.5),
        p_permutation=p,
        p_permutation_holm=p,
        p_wilcoxon=p,
        p_wilcoxon_holm=p,
        cohens_dz=0.5,
        rank_biserial=0.4,
        superiority=0.7,
        wins=20,
        ties=3,
        losses=10,
    )


@pytest.mark.parametrize(
    ("p", "difference", "better"),
    [
        (0.01, -1.5, "first"),
        (0.01, 1.5, "second"),
        (0.05, -1.5, None),
        (None, None, None),
        (0.01, None, None),
        (0.01, 0.0, None),
    ],
)
def test_a_model_is_better_where_the_adjusted_test_finds_a_difference(
    p: float | None, difference: float | None, better: str | None
) -> None:
    assert compared(p=p, difference=difference).better == better


def test_a_p_lies_between_0_and_1() -> None:
    with pytest.raises(ValidationError):
        compared(p=1.5, difference=0.5)


def test_so_few_permutations_that_none_could_be_significant_are_refused() -> None:
    with pytest.raises(ValidationError):
        ComparisonRules(num_permutations=10)
