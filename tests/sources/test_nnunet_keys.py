import pytest

from tumorseg.schema.dataset import Channel, DatasetDescription, Region
from tumorseg.sources.kept import renumbered
from tumorseg.sources.nnunet_keys import channel_name, label_keys


def describe(labels, **fields):
    return DatasetDescription(name="x", channels=("T1",), labels=labels, **fields)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("CT", "ct", "CT"),
        ("ct", None, "ct"),
        ("portal venous", "ct", "CT"),
        ("CTA", None, "CT"),
        ("CT", "mr", "CT (mr)"),
        ("FLAIR", "mr", "FLAIR"),
        ("image", None, "image"),
        ("nonorm", None, "nonorm"),
        ("photo", "rgb", "rgb_to_0_1"),
        ("rgb_to_0_1", "other", "rgb_to_0_1 (other)"),
    ],
)
def test_a_channel_is_called_so_that_nnunet_normalises_it_as_tumorseg_does(name, kind, expected):
    assert channel_name(Channel(name=name, kind=kind)) == expected


def test_values_become_consecutive_in_their_order_and_the_ignore_label_the_highest():
    labels = {"background": 0, "low": -7, "unsure": 3, "high": 2035, "middle": 100}
    found = renumbered(describe(labels, ignore_label=3))
    assert found.labels == {"background": 0, "low": 1, "middle": 2, "high": 3, "unsure": 4}
    assert found.ignore_label == 4
    assert label_keys(found).labels == {"background": 0, "low": 1, "middle": 2, "high": 3, "ignore": 4}
    assert label_keys(found).regions_class_order is None


def test_an_ignore_label_without_a_name_is_written_too():
    found = renumbered(describe({"background": 0, "tumour": 4}, ignore_label=255))
    assert label_keys(found).labels == {"background": 0, "tumour": 1, "ignore": 2}


def test_consecutive_values_stay():
    description = describe({"background": 0, "a": 1, "b": 2}, ignore_label=None)
    assert renumbered(description) == description


def test_regions_of_one_label_each_need_no_regions():
    regions = (Region(name="A", labels=(1,), value=1), Region(name="B", labels=(2,), value=2))
    assert label_keys(describe({"background": 0, "a": 1, "b": 2}, regions=regions)) == (
        {"background": 0, "a": 1, "b": 2},
        None,
    )


def test_a_label_of_no_region_is_painted_first_as_a_region_of_its_own():
    regions = (Region(name="WT", labels=(1, 2), value=2), Region(name="TC", labels=(1,), value=1))
    keys = label_keys(describe({"background": 0, "core": 1, "edema": 2, "cavity": 3}, regions=regions))
    assert list(keys.labels.items()) == [("background", 0), ("cavity", [3]), ("WT", [1, 2]), ("TC", [1])]
    assert keys.regions_class_order == [3, 2, 1]
