import numpy as np
import pytest

from tests.ops.matching.described import BRATS_2021, BRATS_2023, MSD_BRAIN, WHOLE, described
from tumorseg.errors import InputError
from tumorseg.ops.labels import to_indices
from tumorseg.ops.matching.labels import match_targets
from tumorseg.schema.mapping import parse_mapping
from tumorseg.schema.targets import targets_of


def values_of(targets):
    """Return the label values of each scored name."""
    scored = zip(targets.scored_names, targets.scored_classes, strict=True)
    return {name: tuple(targets.label_values[index] for index in classes) for name, classes in scored}


def matched(model, dataset, stated=None, **known):
    """Return the values on both sides, by name, after a look at what must always hold."""
    mapping = None if stated is None else parse_mapping(stated, source="labels.json")
    match = match_targets(model, dataset, mapping, **known)
    assert match.names == match.prediction.scored_names == match.reference.scored_names
    for side, targets in ((model, match.prediction), (dataset, match.reference)):
        assert targets.label_values == targets_of(side).label_values
    first, second = values_of(match.prediction), values_of(match.reference)
    return {name: (first[name], second[name]) for name in match.names}


def test_gliomas_are_matched_by_region_whatever_their_numbers():
    enhancing = {BRATS_2021.name: (4,), BRATS_2023.name: (3,), MSD_BRAIN.name: (3,)}
    core = {BRATS_2021.name: (1, 4), BRATS_2023.name: (1, 3), MSD_BRAIN.name: (2, 3)}
    whole = {BRATS_2021.name: (1, 2, 4), BRATS_2023.name: (1, 2, 3), MSD_BRAIN.name: (1, 2, 3)}
    pairs = ((BRATS_2021, BRATS_2023), (BRATS_2021, MSD_BRAIN), (MSD_BRAIN, BRATS_2023), (BRATS_2023, BRATS_2021))
    for one, other in pairs:
        expected = {"WT": whole, "TC": core, "ET": enhancing}
        assert matched(one, other) == {
            name: (values[one.name], values[other.name]) for name, values in expected.items()
        }


@pytest.mark.parametrize(
    ("model", "values"), [(BRATS_2021, (1, 2, 4)), (BRATS_2023, (1, 2, 3)), (MSD_BRAIN, (1, 2, 3))]
)
def test_where_only_the_whole_tumour_is_drawn_only_that_is_scored(model, values):
    assert matched(model, WHOLE) == {"WT": (values, (1,))}
    assert matched(WHOLE, model) == {"WT": ((1,), values)}
    assert matched(model, described("D", {"Whole Tumour": 7})).popitem()[1] == (values, (7,))


def test_what_is_not_scored_is_told():
    assert match_targets(BRATS_2021, WHOLE).left_out == ("TC, ET of BraTS2021: only as part of WT",)
    told = "edema, non-enhancing tumor, enhancing tumour of MSD_Brain: only as part of WT"
    assert match_targets(MSD_BRAIN, WHOLE).left_out == (told,)
    # WT, TC and ET say all that the three labels do.
    assert match_targets(MSD_BRAIN, BRATS_2021).left_out == ()
    assert match_targets(described("A", {"liver": 1, "spleen": 2}), described("B", {"Liver": 3})).left_out == (
        "spleen of A: B has no such label",
    )


def test_the_masks_of_both_sides_are_the_same_tumour():
    rng = np.random.default_rng(3)
    parts = rng.integers(0, 4, (3, 5, 7))
    files = {name: np.array(values)[parts] for name, values in {"2021": [0, 1, 2, 4], "MSD": [0, 2, 1, 3]}.items()}
    match = match_targets(BRATS_2021, MSD_BRAIN)
    first, second = to_indices(files["2021"], match.prediction), to_indices(files["MSD"], match.reference)
    for one, other in zip(match.prediction.scored_classes, match.reference.scored_classes, strict=True):
        np.testing.assert_array_equal(np.isin(first, one), np.isin(second, other))


def test_labels_are_matched_by_name_in_any_spelling():
    one = described("A", {"Liver": 1, "liver_tumour": 2, "grey matter": 5})
    other = described("B", {"LIVER-TUMOR": 9, "liver": 4, "gray_matter": 1})
    assert matched(one, other) == {"Liver": ((1,), (4,)), "liver_tumour": ((2,), (9,)), "grey matter": ((5,), (1,))}


def test_a_region_of_one_dataset_may_be_a_label_of_another():
    one = described("A", {"liver": 1, "tumour": 2}, {"organ": (1, 2), "tumour": (2,)})
    assert matched(one, described("B", {"Organ": 3})) == {"organ": ((1, 2), (3,))}
    both = described("C", {"liver": 5, "tumor": 6})
    # Not all regions are there, so that labels follow.
    assert matched(one, both) == {"tumour": ((2,), (6,)), "liver": ((1,), (5,))}


def test_ignored_voxels_stay_ignored():
    dataset = described("D", {"WT": 1, "unsure": 9}, ignore_label=9)
    assert match_targets(BRATS_2021, dataset).reference.ignore_value == 9


def test_numbers_alone_match_nothing():
    one, other = described("A", {"label_1": 1}), described("B", {"label_1": 1})
    with pytest.raises(
        InputError, match="no label or region in common: A has label_1; B has label_1; names such as"
    ) as error:
        match_targets(one, other)
    assert "--labels FILE" in str(error.value)
    assert "\n" not in str(error.value)


def test_one_dataset_matches_itself_even_without_speaking_names():
    one = described("A", {"label_1": 1, "label_3": 3})
    assert matched(one, one, is_one=True) == {"label_1": ((1,), (1,)), "label_3": ((3,), (3,))}


def test_two_folders_of_one_name_and_numbering_are_not_one_dataset():
    one, other = (described("data", {"label_1": 1, "label_2": 2}) for _ in range(2))
    with pytest.raises(InputError, match="data has label_1, label_2; data has label_1, label_2; names such as"):
        match_targets(one, other)


def test_one_dataset_whose_labels_were_numbered_anew_does_not_match_by_number():
    one = described("A", {"label_1": 1, "liver": 2})
    assert matched(one, described("A", {"label_1": 2, "liver": 1}), is_one=True) == {"liver": ((2,), (1,))}


# As in liver-tumour, and as a challenge scores it.
BESIDE = described("Beside", {"liver": 1, "tumor": 2})
WITHIN = described("Within", {"a": 1, "b": 2}, {"liver": (1, 2), "tumor": (2,)})


@pytest.mark.parametrize("pair", [(BESIDE, WITHIN), (WITHIN, BESIDE)], ids=["beside", "within"])
def test_an_organ_with_its_tumours_is_not_the_organ_without(pair):
    assert matched(*pair) == {"tumor": ((2,), (2,))}
    told = "liver: includes tumor in Within, but not in Beside, so that it is not the same"
    assert match_targets(*pair).left_out == (told,)


def test_that_an_inner_part_is_counted_is_seen_where_only_the_whole_is_scored():
    whole = described("Whole", {"tissue": 1, "tumor": 2}, {"liver": (1, 2)})
    assert matched(BESIDE, whole) == {"tumor": ((2,), (2,))}


def test_structures_that_share_labels_here_and_lie_apart_there_are_both_in_doubt():
    shared = described("Shared", {"a": 1, "b": 2, "c": 3}, {"left": (1, 2), "right": (2, 3)})
    apart = described("Apart", {"left": 1, "right": 2})
    with pytest.raises(
        InputError, match=r"left: includes right in Shared, but not in Apart.*right: includes left"
    ) as error:
        match_targets(shared, apart)
    assert "\n" not in str(error.value)


def test_structures_nested_alike_on_both_sides_are_all_scored():
    other = described("Other", {"organ": 3, "lesion": 9}, {"Liver": (3, 9), "Tumour": (9,)})
    assert matched(WITHIN, other) == {"liver": ((1, 2), (3, 9)), "tumor": ((2,), (9,))}


def test_made_up_names_of_both_sides_are_not_shown():
    side = described("evaluation", {"label_1": 1})
    stated = {"a": {"prediction": 1, "reference": 7}}
    with pytest.raises(InputError, match="a names 7, which the reference does not have"):
        match_targets(side, side, parse_mapping(stated, source="x"))
    with pytest.raises(InputError, match="states no structure of all of prediction, reference; it names first"):
        match_targets(side, side, parse_mapping({"a": {"first": 1}}, source="x"))
    mapping = parse_mapping({"a": {"prediction": 1, "reference": 1}, "b": {"prediction": 1}}, source="x")
    assert match_targets(side, side, mapping).left_out == ("b: the mapping states nothing of the reference",)


def test_unnamed_labels_1_2_4_are_a_gliomas_only_beside_its_channels():
    unnamed = {"label_1": 1, "label_2": 2, "label_4": 4}
    found = matched(BRATS_2023, described("D", unnamed, channels=("FLAIR", "T1")))
    assert found == {"WT": ((1, 2, 3), (1, 2, 4)), "TC": ((1, 3), (1, 4)), "ET": ((3,), (4,))}
    with pytest.raises(InputError, match="no label or region in common"):
        match_targets(BRATS_2023, described("D", unnamed, channels=("CT",)))


def test_unnamed_labels_1_2_3_mean_one_thing_in_brats_and_another_in_the_decathlon():
    with pytest.raises(InputError, match="one number means different things"):
        match_targets(BRATS_2023, described("D", {"label_1": 1, "label_2": 2, "label_3": 3}))


def test_a_label_painted_around_its_inner_parts_stands_for_all_of_them():
    nested = described("Nested", {"WT": 1, "TC": 2, "ET": 3})
    assert matched(BRATS_2021, nested) == {
        "WT": ((1, 2, 4), (1, 2, 3)),
        "TC": ((1, 4), (2, 3)),
        "ET": ((4,), (3,)),
    }


def test_regions_are_not_made_of_parts_that_may_be_incomplete():
    # Nobody knows where the necrosis went.
    assert matched(BRATS_2021, described("D", {"edema": 1, "enhancing": 2})).keys() == {"ET", "edema"}
    assert matched(BRATS_2021, described("D", {"necrosis": 1, "enhancing": 2})).keys() == {"TC", "ET"}


def test_the_resection_cavity_is_no_part_of_the_tumour():
    assert 4 not in matched(BRATS_2023, MSD_BRAIN)["WT"][0]
    treated = described("T", {"NETC": 1, "SNFH": 2, "ET": 3, "RC": 4})
    assert matched(BRATS_2023, treated)["WT"] == ((1, 2, 3), (1, 2, 3))


def test_two_names_of_one_meaning_in_a_dataset_are_not_chosen_among():
    one = described("A", {"Tumour": 1, "tumor": 2, "liver": 3})
    match = match_targets(one, described("B", {"tumor": 1, "liver": 2}))
    assert match.names == ("liver",)
    assert "Tumour, tumor of A: the names mean the same" in match.left_out


@pytest.mark.parametrize("keys", [("prediction", "reference"), ("BraTS2021", "Whole")])
def test_a_mapping_states_values_or_names_by_side_or_dataset(keys):
    dataset = described("Whole", {"label_1": 1, "label_7": 7})
    stated = {"tumour": {keys[0]: ["edema", 1, "ET"], keys[1]: [7]}, "inner": {keys[0]: "TC", keys[1]: [1, 7]}}
    assert matched(BRATS_2021, dataset, stated) == {"tumour": ((1, 2, 4), (7,)), "inner": ((1, 4), (1, 7))}


def test_what_a_mapping_states_of_one_side_only_is_told():
    mapping = parse_mapping({"a": {"prediction": 1, "reference": 1}, "b": {"prediction": 2}}, source="x")
    assert match_targets(BRATS_2021, WHOLE, mapping).left_out == ("b: the mapping states nothing of Whole",)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (
            {"a": {"prediction": [3], "reference": [1]}},
            "a names 3, which BraTS2021 does not have; its labels are necrotic",
        ),
        ({"a": {"prediction": [0], "reference": [1]}}, "a names 0"),
        ({"a": {"prediction": ["oedemas"], "reference": [1]}}, "a names 'oedemas'.*its regions WT, TC, ET"),
        ({"a": {"predicton": [1], "reference": [1]}}, "states no structure of all of .*it names predicton, reference"),
        ({}, "at least 1 entry"),
        ({"a": {"prediction": [], "reference": [1]}}, "at least 1 entry"),
        ({"a": {"prediction": [1.5]}}, "a.prediction"),
        ({"a": {"prediction": [True]}}, "a.prediction"),
        ({"a": [1]}, "structures.a: expected an object"),
        ([], "expected an object"),
    ],
)
def test_a_wrong_mapping_is_one_line(stated, message):
    with pytest.raises(InputError, match=message) as error:
        match_targets(BRATS_2021, WHOLE, parse_mapping(stated, source="labels.json"))
    assert "\n" not in str(error.value)


SEVERAL = (
    BRATS_2021,
    BRATS_2023,
    MSD_BRAIN,
    WHOLE,
    described("Nested", {"WT": 5, "TC": 2, "ET": 9}),
    described("Core", {"edema": 3, "tumour core": 1}),
    described("Regions", {"a": 1, "b": 2, "ET": 3}, {"whole tumour": (1, 2, 3), "ET": (3,)}),
)


@pytest.mark.parametrize("one", SEVERAL, ids=lambda one: one.name)
@pytest.mark.parametrize("other", SEVERAL, ids=lambda one: one.name)
def test_the_same_is_scored_whichever_side_is_the_models(one, other):
    there, back = matched(one, other), matched(other, one)
    assert set(there.values()) == {(first, second) for second, first in back.values()}


def test_parts_of_the_core_that_a_dataset_tells_apart_are_matched_each_by_its_name():
    labels = {"necrosis": 1, "edema": 2, "non-enhancing tumour": 3, "enhancing": 4}
    found = matched(described("A", labels), described("B", {name.upper(): value + 4 for name, value in labels.items()}))
    assert found == {name: ((value,), (value + 4,)) for name, value in labels.items()}
    assert matched(BRATS_2021, described("A", labels))["TC"] == ((1, 4), (1, 3, 4))
