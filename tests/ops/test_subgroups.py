import pytest

from tests.ops.significance.scored import absent, scored
from tumorseg.errors import InputError
from tumorseg.ops.subgroups import split, split_by
from tumorseg.schema.metrics import CaseMetrics

IDS = [f"case_{i}" for i in range(9)]
CASES = [scored(case_id, 0.8) for case_id in IDS]
SITES = {case_id: {"site": str(i % 2), "age": str(20 + 5 * i)} for i, case_id in enumerate(IDS)}


def ids(groups: dict[str, list[CaseMetrics]]) -> dict[str, str]:
    """Return the last digits of the cases of each group."""
    return {name: "".join(case.case_id[-1] for case in cases) for name, cases in groups.items()}


def test_text_makes_a_group_of_each_value() -> None:
    found = split(CASES, SITES, "site")
    assert ids(found.groups) == {"0": "02468", "1": "1357"}
    assert (found.column, found.rule, found.num_left_out) == ("site", "By value of site", 0)


def test_numbers_are_cut_into_thirds_of_the_cases() -> None:
    found = split(CASES, SITES, "age")
    assert ids(found.groups) == {"1: lowest third": "012", "2: middle third": "345", "3: highest third": "678"}
    assert found.rule == "By age, cut at 33.33 and 46.67"


def test_a_stated_edge_belongs_to_the_range_above_it() -> None:
    found = split(CASES, SITES, "age=30,55")
    assert ids(found.groups) == {"1: below 30": "01", "2: 30 to 55": "23456", "3: 55 or more": "78"}


def test_few_numbers_are_names() -> None:
    scanners = {case_id: {"tesla": "1.5" if i < 4 else "3"} for i, case_id in enumerate(IDS)}
    assert ids(split(CASES, scanners, "tesla").groups) == {"1.5": "0123", "3": "45678"}


def test_numbers_stand_by_their_size_and_text_behind() -> None:
    grades = {case_id: {"site": value} for case_id, value in zip(IDS, ("10", "2", "4", "b", "10"), strict=False)}
    assert list(split(CASES, grades, "site").groups) == ["2", "4", "10", "b"]


def test_ten_ranges_or_more_stay_in_order_where_names_are_sorted() -> None:
    edges = ",".join(str(edge) for edge in range(22, 70, 4))
    found = list(split(CASES, SITES, f"age={edges}").groups)
    assert found[0] == "01: below 22"
    assert found == sorted(found)
    assert [name[4:] for name in found[1:3]] == ["22 to 26", "30 to 34"]
    sizes = ",".join(str(edge) for edge in range(2, 22, 2))
    absent_first = split([*CASES, absent("case_9")], {}, f"reference_volume_ml={sizes}").groups
    assert list(absent_first) == sorted(absent_first) == ["00: absent", "11: 20 or more"]


@pytest.mark.parametrize("columns", [("age", "site", "age=30,40"), ("site", "site")])
def test_a_column_that_is_named_twice_is_refused(columns: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=f"asked for twice .{', '.join(columns)}.; expected each column once"):
        split_by(CASES, SITES, columns)


def test_sites_are_names_whatever_their_number() -> None:
    sites = {case_id: {"site": str(i)} for i, case_id in enumerate(IDS)}
    assert len(split(CASES, sites, "site").groups) == 9


def test_each_label_has_its_own_sizes_and_absent_structures_are_apart() -> None:
    large = [scored(f"case_{i}", 0.8, volumes=(9.0, 100.0 + i)) for i in range(6)]
    small = [scored(f"case_{i}", 0.8, volumes=(9.0, 1.0 + i), label="ET") for i in range(6)]
    found = split([*large, *small, absent("case_9", label="ET")], {}, "reference_volume_ml")
    both = {"1: smallest third": "0101", "2: middle third": "2323", "3: largest third": "4545"}
    assert ids(found.groups) == {"0: absent": "9"} | both
    assert found.rule.startswith(
        "By volume of the reference, cut for WT at 101.7 and 103.3 ml; ET at 2.667 and 4.333 ml"
    )


def test_cases_without_a_value_are_in_no_group_and_counted() -> None:
    found = split(CASES, {"case_3": {"site": "a"}, "case_4": {"site": ""}, "other": {"site": "b"}}, "site")
    assert (ids(found.groups), found.num_left_out) == ({"a": "3"}, 8)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("scanner", "no case has a value of 'scanner'; expected one of site, age, name, reference_volume_ml"),
        ("name", "column 'name' has 25 different values; subgroups are at most 20"),
        ("site=1", "column 'site' is no column of numbers"),
        ("age=50,40", "expected edges that rise, such as age=40,60"),
        ("age=old", "found 'age=old'; expected a column, or a column and its edges"),
    ],
)
def test_columns_that_make_no_subgroups_are_refused(column: str, message: str) -> None:
    known = {f"case_{i}": {"site": "x", "age": str(i), "name": f"n{i}"} for i in range(25)}
    with pytest.raises(InputError, match=message):
        split([scored(case_id, 0.8) for case_id in known], known, column)
