import pytest

from tumorseg.reports.results.comparing import (
    compared_title,
    comparison_section,
    differences_value,
    p_text,
    ranking_section,
)
from tumorseg.schema.comparisons import Comparison, Ranking


def test_every_label_and_metric_has_a_row_with_its_tests(small_comparison: Comparison) -> None:
    (table,) = comparison_section(small_comparison).tables
    assert [(row[0].text, row[1].text) for row in table.rows] == [
        (row.label, compared_title(row.metric)) for row in small_comparison.rows
    ]
    first, row = small_comparison.rows[0], table.rows[0]
    assert first.mean_difference is not None
    assert row[table.columns.index("Difference")].text == f"{first.mean_difference:+.4f}"
    assert row[table.columns.index("Win / tie / loss")].text == f"{first.wins} / {first.ties} / {first.losses}"
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_cases_of_one_model_alone_are_told(small_comparison: Comparison) -> None:
    text = comparison_section(small_comparison.changed(second_only=("a", "b"))).text
    assert "2 cases that theirs alone has are in no figure" in text


def test_differences_are_first_minus_second_case_by_case(small_comparison: Comparison) -> None:
    value = differences_value(small_comparison)
    found, row = small_comparison.differences[0], value["rows"][0]
    assert (row[0], value["labels"][row[1]]) == (found.case_id, found.label)
    assert row[2] == pytest.approx(found.differences[small_comparison.metrics[0]], abs=1e-5)


def test_volume_errors_are_compared_by_their_size_of_which_less_is_better(
    small_comparison: Comparison, small_ranking: Ranking
) -> None:
    assert compared_title("volume_error_ml") == "Size of the volume error (ml)"
    value = differences_value(small_comparison)
    assert [(metric["title"], metric["side"]) for metric in value["metrics"]] == [
        ("DSC", "above"),
        ("NSD", "above"),
        ("HD95 (mm)", "below"),
        ("Size of the volume error (ml)", "below"),
    ]
    tasks = ranking_section(small_ranking).tables[2]
    assert "Size of the volume error (ml)" in {row[1].text for row in tasks.rows}


def test_p_values_of_subgroups_are_said_to_be_adjusted_over_their_column(small_comparison: Comparison) -> None:
    assert "subgroups" not in comparison_section(small_comparison).text
    divided = small_comparison.changed(subgroups={"site": {"A": small_comparison.rows}})
    assert "metrics, and in subgroups over all groups of a column as well;" in comparison_section(divided).text


def test_a_ranking_shows_places_pairs_and_tasks(small_ranking: Ranking) -> None:
    places, pairs, tasks = ranking_section(small_ranking).tables
    assert [row[0].text for row in places.rows] == [model.name for model in small_ranking.overall.models]
    assert len(pairs.rows) == 3
    assert len(tasks.rows) == len(small_ranking.tasks)
    for table in (places, pairs, tasks):
        assert all(len(row) == len(table.columns) for row in table.rows)
    shades = [cell.shade for row in tasks.rows for cell in row if cell.shade is not None]
    assert 0 <= min(shades) <= max(shades) <= 1


@pytest.mark.parametrize(
    ("p", "text"), [(None, "–"), (0.00002, "< 0.0001"), (0.00321, "0.0032"), (0.01, "0.010"), (1.0, "1.000")]
)
def test_p_values_are_short_and_never_zero(p: float | None, text: str) -> None:
    assert p_text(p) == text
