import json

import pytest

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, Dataset, ImageFile
from tumorseg.sources.brats import CONVENTIONS
from tumorseg.sources.regions import choose_regions, select_channels

LABELS, REGIONS = (CONVENTIONS[0].description()[key] for key in ("labels", "regions"))


def make_dataset(labels, **changes):
    images = tuple(ImageFile(path=f"{name}.nii.gz") for name in "abc")
    fields = {"name": "D", "channels": ("a", "b", "c"), "labels": {"background": 0, **labels}}
    return Dataset(**{**fields, "cases": (Case(case_id="x", images=images),), **changes})


def regions_of(dataset):
    return [(region.name, region.labels, region.value) for region in dataset.regions]


@pytest.mark.parametrize(
    "labels",
    [
        {"edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3},
        {"oedema": 1, "Non-Enhancing Tumour": 2, "enhancing_tumor": 3},
        {"ED": 1, "NCR": 2, "ET": 3},
        {"peritumoral edema": 1, "necrotic core": 2, "GD-enhancing tumor": 3},
    ],
)
def test_brats_regions_are_found_by_label_name(labels):
    assert regions_of(choose_regions(make_dataset(labels), "brats")) == [
        ("WT", (1, 2, 3), 1),
        ("TC", (2, 3), 2),
        ("ET", (3,), 3),
    ]


def test_brats_regions_are_found_by_value_where_names_do_not_speak():
    dataset = make_dataset({"label_1": 1, "label_2": 2, "label_4": 4})
    assert choose_regions(dataset, "brats").regions == REGIONS
    assert choose_regions(make_dataset(LABELS), "brats").regions == REGIONS


@pytest.mark.parametrize("labels", [{"label_1": 1, "label_2": 2, "label_3": 3}, {"edema": 1, "ed": 2, "et": 3}, {}])
def test_labels_that_are_no_glioma_are_refused(labels):
    with pytest.raises(InputError, match="expected one each for edema"):
        choose_regions(make_dataset(labels), "brats")


def test_none_goes_back_to_plain_labels():
    assert choose_regions(make_dataset(LABELS, regions=REGIONS), "none").regions == ()


def test_a_file_names_regions_by_label_names_or_values(tmp_path):
    stated = [
        {"name": "organ", "labels": ["liver", 2], "value": "liver"},
        {"name": "tumour", "labels": [2], "value": 2},
    ]
    (tmp_path / "regions.json").write_text(json.dumps(stated))
    dataset = choose_regions(make_dataset({"liver": 1, "tumour": 2}), str(tmp_path / "regions.json"))
    assert regions_of(dataset) == [("organ", (1, 2), 1), ("tumour", (2,), 2)]


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ([{"name": "organ", "labels": ["kidney"], "value": 1}], "found the label 'kidney', expected one of"),
        ([{"name": "organ", "labels": [7], "value": 1}], r"names label values \[7\]"),
        ([{"name": "organ", "labels": [1]}], "value: missing"),
        ({"name": "organ"}, "regions"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, stated, message):
    (tmp_path / "regions.json").write_text(json.dumps(stated))
    with pytest.raises(InputError, match=message) as error:
        choose_regions(make_dataset({"liver": 1}), str(tmp_path / "regions.json"))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_an_input_error():
    with pytest.raises(InputError, match="no such file"):
        choose_regions(make_dataset({"liver": 1}), "brast")


def test_channels_are_selected_in_the_order_asked_for():
    dataset = select_channels(make_dataset({}), ["c", "a"])
    assert [channel.name for channel in dataset.channels] == ["c", "a"]
    assert [file.path for file in dataset.cases[0].images] == ["c.nii.gz", "a.nii.gz"]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a", "d"], "no channel d; channels are a, b, c"), (["a", "a"], "a asked for twice"), ([], "no channel")],
)
def test_unknown_and_repeated_channels_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        select_channels(make_dataset({}), names)


def test_a_channel_whose_grid_counts_may_be_left_out_with_a_word(caplog):
    dataset = make_dataset({}, reading={"grid_channel": "b", "assumed_orientation": "LPS"})
    assert select_channels(dataset, ["b", "a"]).reading == dataset.reading
    assert caplog.text == ""
    found = select_channels(dataset, ["c", "a"]).reading
    assert (found.grid_channel, found.assumed_orientation) == (None, "LPS")
    assert "channel b, whose grid was stated to count, is left out" in caplog.text


def test_channels_may_be_asked_for_by_their_synonyms():
    images = tuple(ImageFile(path=f"{name}.nii.gz") for name in ("T1w", "T1Gd", "T2-FLAIR"))
    cases = (Case(case_id="x", images=images),)
    dataset = make_dataset({}, channels=("T1w", "T1Gd", "T2-FLAIR"), cases=cases)
    found = select_channels(dataset, ["flair", "t1ce"])
    assert [channel.name for channel in found.channels] == ["T2-FLAIR", "T1Gd"]
    with pytest.raises(InputError, match="no channel t2, a/b; channels are"):
        select_channels(dataset, ["t2", "a/b"])
