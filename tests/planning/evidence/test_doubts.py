import pytest

from tumorseg.planning.evidence.doubts import FAULTS, Held, question_labels


def held(case_id, *labels, **fields):
    return Held(case_id, frozenset(labels), **fields)


def doubted(*cases):
    """Return the only doubt about cases."""
    (doubt,) = question_labels(cases)
    return doubt


def test_a_value_beside_its_multiple_by_255_is_doubted_with_both_groups():
    doubt = doubted(held("a", 1), held("b", 1), held("c", 255), held("d"))
    assert "1 in 2 cases (a, b); 255 in 1 case (c)" in doubt.message
    assert doubt.case_ids == ("a", "b", "c")


@pytest.mark.parametrize("grey", [(127, 255), (128, 255), (32768, 65535), (50, 100)])
def test_values_beside_the_same_as_grey_levels_are_doubted(grey):
    doubt = doubted(held("a", 1, 2), held("b", *grey), held("c", *grey[1:]), held("d", 2), held("e", 7))
    assert f"1, 2 in 2 cases (a, d); {grey[0]}, {grey[1]} in 2 cases (b, c); if these are one" in doubt.message
    assert doubt.case_ids == ("a", "b", "c", "d")


def test_a_stray_file_with_both_values_among_many_cases_leaves_the_doubt():
    cases = [held(f"c{number:02}", (1, 255)[number % 2]) for number in range(10)]
    assert doubted(*cases, held("z", 1, 255)).case_ids == tuple(case.case_id for case in cases)
    assert question_labels([*cases, held("y", 1, 255), held("z", 1, 255)]) == ()
    assert question_labels([*cases[:8], held("z", 1, 255)]) == ()


def test_at_most_five_cases_and_five_groups_are_listed():
    doubt = doubted(
        *(held(f"a{number}", 1) for number in range(7)), *(held(f"b{label}", label) for label in range(2, 9))
    )
    assert "1 in 7 cases (a0, a1, a2, a3, a4 and 2 more); 2 in 1 case (b2)" in doubt.message
    assert "and 3 more; if these are one" in doubt.message


@pytest.mark.parametrize(
    "labels",
    [
        [{1}, {1}, {1}],
        [{255}],
        [{1, 2}, {1}, {2}],
        [{1}, {1, 2}, {1, 2, 4}],
        [set(), set()],
        [],
        [{"liver", "tumour"}, {"liver"}],
        [{f"rib {number}" for number in range(1, 13)}, {f"rib {number}" for number in range(3, 10)}],
        [{"rib 1", "rib 2"}, {"rib 2", "rib 3"}],  # parts of one chain
        [{"GTV 1", "GTV 2", "liver"}, {"GTV 1", "liver"}],
        [{"ER+", "breast"}, {"ER-", "breast"}],
        [{1, 2, 3, 4}, {4, 5, 6, 7}, {18, 19, 20, 21, 22, 23, 24}],  # necks beside a lumbar spine
        [set(range(1, 8)), set(range(18, 25)), set(range(18, 25))],
        [*[{1, 2, 3}] * 11, {4}],
        [{1, 2}, {3}, {3}, {1, 2}],
        [{1, 2}, {127, 254, 255}, {3, 6}],
        [{"T12", "L1", "L2", "sacrum"}, {"T1", "T2", "T3"}, {"T2", "T3", "T8"}],
        [{"rib 1", "rib 2"}, {"rib 11", "rib 12"}],
        [{"PTV50", "BODY"}, {"PTV70", "BODY"}],
        [{"Lunge links", "Lunge rechts"}, {"Lunge rechts"}],
    ],
)
def test_sound_labels_are_not_doubted(labels):
    assert question_labels([held(f"case_{number}", *found) for number, found in enumerate(labels)]) == ()


@pytest.mark.parametrize(
    "other", ["gtv", "G-T-V", " GTV", "GTV_", "GTV 1", "gtv2", "GTV-01", "ＧＴＶ", "GTV\N{NO-BREAK SPACE}1"]
)
def test_names_that_are_spelled_almost_alike_are_doubted_though_both_lie_beside_a_third(other):
    doubt = doubted(held("a", "GTV", "cord"), held("b", other, "cord"))
    assert "'GTV' in 1 case (a)" in doubt.message
    assert f"{other!r} in 1 case (b)" in doubt.message
    assert doubt.case_ids == ("a", "b")


def test_names_of_other_spelling_are_doubted_even_in_one_case_but_not_those_of_other_numbers():
    assert "'GTV' in 1 case (a); 'gtv' in 1 case (a)" in doubted(held("a", "GTV", "gtv")).message
    assert question_labels([held("a", "GTV", "GTV 1")]) == ()


def test_one_name_is_doubted_beside_numbered_ones_that_occur_together():
    assert "'GTV'" in doubted(held("a", "GTV 1", "GTV 2", "cord"), held("b", "GTV", "cord")).message


def test_a_number_is_no_doubt_where_another_spelling_of_the_name_occurs_with_it():
    doubt = doubted(held("a", "GTV", "GTV 1"), held("b", "gtv"))
    assert "'GTV 1'" not in doubt.message


def test_words_in_another_order_are_one_name():
    assert "'Lung, left'" in doubted(held("a", "left lung", "cord"), held("b", "Lung, left", "cord")).message


def test_names_of_which_every_case_has_one_are_doubted_unless_their_spelling_says_it_already():
    assert "'lesion' in 1 case (a); 'tumour' in 1 case (b)" in doubted(held("a", "lesion"), held("b", "tumour")).message
    assert "almost alike" in doubted(held("a", "lesion"), held("b", "Lesion")).message
    message = doubted(held("a", "PTV50"), held("b", "PTV70")).message
    assert "one label each" in message
    assert "if these are one structure written in several ways" in message


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_files_are_named_and_do_not_speak_for_other_doubts(fault):
    doubt = doubted(held("a", 255), held("b", 3, 254, fault=fault))
    assert doubt.case_ids == ("b",)
    assert "1 case (b)" in doubt.message
    assert "(labels 3, 254)" in doubt.message


def test_a_file_of_which_no_label_was_taken_is_doubted_without_values():
    assert "(labels" not in doubted(held("a", fault="crowded")).message


def test_pictures_whose_values_count_to_another_number_each_are_doubted():
    cells = [held(f"p{number}", *range(1, number), is_flat=True) for number in (18, 31, 40)]
    assert "(17 to 39)" in doubted(*cells).message
    assert question_labels([case._replace(is_flat=False) for case in cells]) == ()
    assert question_labels([held(name, *range(1, 40), is_flat=True) for name in "ab"]) == ()
    assert question_labels([*cells, held("q", 2, 7, is_flat=True)]) == ()


def test_files_that_count_from_1_beside_files_that_count_from_0_are_doubted():
    doubt = doubted(held("a", 1), held("b", 1, 2, has_background=False))
    assert doubt.case_ids == ("b",)
    assert "hold no 0 and the values 1, 2" in doubt.message
    assert question_labels([held("a", 1, 2), held("b", 1, 2, has_background=False)]) == ()
    assert question_labels([held("a", 1, 2, has_background=False)]) == ()


def test_odd_letters_of_a_name_do_not_break_the_line():
    message = doubted(held("a", "GTV\n1"), held("b", "GTV")).message
    assert "\n" not in message
