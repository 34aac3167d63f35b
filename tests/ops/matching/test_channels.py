import itertools

import pytest

from tests.ops.matching.described import BRATS_2021, described
from tumorseg.errors import InputError
from tumorseg.ops.matching.channels import (
    MEANINGS,
    SILENT,
    common_channels,
    match_channels,
    meaning_of,
    spelled_channel,
)
from tumorseg.schema.dataset import Channel


def channels(*names, **kinds):
    return [Channel(name=name) for name in names] + [Channel(name=name, kind=kind) for name, kind in kinds.items()]


@pytest.mark.parametrize(
    ("names", "meaning"),
    [
        (["t1", "T1", "T1w", "t1n", "T1-weighted", "MR_T1", "T1 native", "T1 pre-contrast", "T1w MRI"], "T1, native"),
        (["t1ce", "T1Gd", "t1c", "T1-post", "T1_CE", "ceT1", "T1+C", "T1+", "T1w post contrast"], "T1, with contrast"),
        (["flair", "FLAIR", "t2f", "T2-FLAIR", "T2w_FLAIR", "MRI FLAIR"], "T2-FLAIR"),
        (["t2", "T2w", "T2_weighted"], "T2"),
        (["T2*", "T2star"], "T2*"),
        (["adc", "ADC map"], "apparent diffusion coefficient"),
        (["dwi", "DWI"], "diffusion"),
        (["ct", "CT"], "CT"),
        (["PET", "PT"], "PET, unit unknown"),
        (["SUV", "PET_SUV", "SUVbw"], "PET, SUV"),
        (["FDG-PET", "fdg"], "FDG-PET, unit unknown"),
        (["FDG SUV", "PET_FDG_SUV"], "FDG-PET, SUV"),
    ],
)
def test_one_channel_has_many_names(names, meaning):
    assert {meaning_of(name) for name in names} == {meaning}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "T1 (Gd-)",
            "T1 (-)",
            "T1 -C",
            "T1 -Gd",
            "T1 (-C)",
            "T1_-ce",
            "T1 Gd-",
            "T1Gd-",
            "Gd- T1",
            "T1 \N{MINUS SIGN}Gd",
            "T1-",
        ),
        *(
            "T1 without contrast",
            "T1 no Gd",
            "T1 pre-Gd",
            "native T1w",
            "non-contrast T1",
            "T1 noncontrast",
        ),
        *("T1 non-contrast-enhanced", "unenhanced T1-weighted", "MRI T1 pre contrast"),
    ],
)
def test_a_t1_whose_name_denies_contrast_is_native(name):
    assert meaning_of(name) == "T1, native"
    assert match_channels(channels("t1ce"), channels(name)).missing == ("t1ce",)
    for enhanced in ("T1Gd", "T1C", "T1 contrast-enhanced"):
        assert match_channels(channels(name), channels(enhanced)).missing == (name,)
    assert match_channels(channels("t1n"), channels("T1Gd", name)).found == {"t1n": name}


@pytest.mark.parametrize("name", ["T1-Gd", "T1-C", "T1_CE", "T1 + C", "T1 (Gd)", "T1 (Gd+)", "MR-T1-post-contrast"])
def test_hyphens_between_words_are_no_minus(name):
    assert meaning_of(name) == "T1, with contrast"


@pytest.mark.parametrize(
    "name",
    [
        "T1 - Gd",
        "T1 +- Gd",
        "T1\N{PLUS-MINUS SIGN}Gd",
        "native T1Gd",
        "T1 pre-op Gd",
        "T1 pre post",
        "FLAIR pre-contrast",
    ],
)
def test_names_that_leave_open_whether_there_was_contrast_mean_nothing(name):
    assert meaning_of(name) is None
    assert match_channels(channels(name), channels("t1ce", "t1", "flair")).found == {}


def test_slashes_of_series_that_scanners_name_are_read_too():
    assert meaning_of("T1 w/o Gd") == "T1, native"
    assert meaning_of("T1 +/- Gd") is None
    assert meaning_of("T1 +/-Gd") is None


@pytest.mark.parametrize("name", ["CT without contrast", "non-contrast CT", "CT -C", "NCCT"])
def test_ct_without_contrast_is_native(name):
    assert meaning_of(name) == "CT, native"


def test_pet_of_unknown_unit_is_no_suv():
    for pet, suv in (("PET", "SUV"), ("PT", "PET_SUV"), ("fdg", "FDG SUV")):
        assert match_channels(channels(pet), channels(suv)).missing == (pet,)
        assert match_channels(channels(suv), channels(pet)).missing == (suv,)
        assert match_channels(channels(pet), channels(pet, suv)).found == {pet: pet}


@pytest.mark.parametrize("name", ["image", "channel_0", "0", "0000", "img 3", "modality0", "Input", "image_0000", "?"])
def test_names_that_say_nothing_match_only_within_one_dataset(name):
    found = match_channels(channels(name), channels(name))
    assert found.missing == (name,)
    assert "the name does not say what it shows" in found.told()
    assert "in a manifest" in found.told()
    assert match_channels(channels(name), channels(name), is_one=True).found == {name: name}
    with pytest.raises(InputError, match=r"do not say what they show; expected one .* in a manifest"):
        common_channels([described("A", {}, channels=(name,)), described("B", {}, channels=(name,))])


@pytest.mark.parametrize("name", ["MR", "T1 image", "ct_image", "x", "b0", "Dixon 1"])
def test_names_that_say_a_little_match_when_they_are_the_same(name):
    assert match_channels(channels(name), channels(name)).found == {name: name}


@pytest.mark.parametrize(
    "name", ["T1 map", "T1rho", "T1 FLAIR", "DWI b1000", "PSMA-PET", "subtraction", "0", "post", "MR"]
)
def test_what_no_dataset_means_alike_means_itself_alone(name):
    assert meaning_of(name) is None


def test_no_spelling_has_two_meanings_or_words_that_are_left_out():
    for one, other in itertools.combinations(MEANINGS.values(), 2):
        assert not one.spellings & other.spellings
    spellings = [spelling for meaning in MEANINGS.values() for spelling in meaning.spellings]
    assert all(spelled_channel(spelling) == spelling for spelling in spellings)
    assert not SILENT & set(spellings)


def test_brats_of_all_years_and_the_decathlon_have_the_same_four_channels():
    names = {
        "2021": ("t1", "t1ce", "t2", "flair"),
        "2023": ("t1n", "t1c", "t2w", "t2f"),
        "MSD": ("T1w", "t1gd", "T2w", "FLAIR"),
    }
    for one, other in itertools.permutations(names.values(), 2):
        found = match_channels(channels(*one), channels(*reversed(other)))
        assert found.found == dict(zip(one, other, strict=True))
        assert found.is_complete
        assert found.told() == ""


def test_a_channel_that_is_not_there_is_missing_and_told():
    found = match_channels(channels("t1", "t1ce", "flair"), channels("FLAIR", "T1"))
    assert found.found == {"t1": "T1", "flair": "FLAIR"}
    assert found.missing == ("t1ce",)
    assert found.told() == "t1ce: no channel there is called so or means the same; there are FLAIR, T1"


def test_an_exact_name_comes_before_a_spelling_and_that_before_a_meaning():
    assert match_channels(channels("B", "b"), channels("b", "B")).found == {"B": "B", "b": "b"}
    assert match_channels(channels("T1"), channels("T1w", "t1")).found == {"T1": "t1"}
    assert match_channels(channels("T1w", "T1"), channels("T1", "t1n")).found == {"T1w": "t1n", "T1": "T1"}


def test_two_channels_that_may_be_meant_are_not_guessed_among():
    found = match_channels(channels("t1ce", "t2"), channels("T1Gd", "T1 post", "T2w"))
    assert found.found == {"t2": "T2w"}
    assert "T1Gd or T1 post may be meant" in found.told()


def test_one_channel_is_not_given_to_two_names():
    found = match_channels(channels("T1Gd", "t1c"), channels("t1ce"))
    assert found.found == {}
    assert found.missing == ("T1Gd", "t1c")
    assert "t1ce may be meant, or be meant by another name" in found.told()


def test_a_channel_of_another_kind_is_another_channel():
    stated = [Channel(name="venous", kind="ct")]
    assert match_channels(stated, [Channel(name="venous", kind="mr")]).told() == "venous: is ct, but venous is mr"
    for kind in ("ct", "other", None):
        assert match_channels(stated, [Channel(name="Venous", kind=kind)]).found == {"venous": "Venous"}
    assert match_channels([Channel(name="PET", kind="mr")], channels("PT")).missing == ("PET",)


def test_names_that_nobody_knows_match_whatever_their_separators():
    found = match_channels(channels("Dixon in-phase", "x"), channels("dixon_in_phase", "Dixon out-phase"))
    assert found.found == {"Dixon in-phase": "dixon_in_phase"}
    assert found.missing == ("x",)


def test_channels_of_several_datasets_in_common_are_those_that_each_has():
    datasets = [
        BRATS_2021,
        described("A", {}, channels=("FLAIR", "T1Gd", "ADC")),
        described("B", {}, channels=("t1c", "T2")),
    ]
    assert common_channels(datasets) == [{"t1ce": "t1ce"}, {"t1ce": "T1Gd"}, {"t1ce": "t1c"}]
    with pytest.raises(
        InputError, match="no channel in common: BraTS2021 has t1, t1ce, t2, flair; C has CT; expected one"
    ):
        common_channels([BRATS_2021, described("C", {}, channels=("CT",))])
