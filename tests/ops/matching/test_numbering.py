import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.matching.described import BRATS_2021, BRATS_2023, MSD_BRAIN, WHOLE, described
from tumorseg.errors import InputError
from tumorseg.ops.labels import paint_regions, to_indices
from tumorseg.ops.matching.common import Common, Party, common_structures, stated_structures
from tumorseg.ops.matching.numbering import number_labels, regions_in_common
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.mapping import parse_mapping
from tumorseg.schema.targets import targets_of


def numbered(*descriptions):
    found = number_labels(descriptions, common_structures(descriptions))
    # It is a sound dataset.
    DatasetDescription(
        name="Pool", channels=("a",), labels=found.labels, regions=found.regions, ignore_label=found.ignore_label
    )
    return found


def test_the_first_datasets_own_values_stay_so_that_its_files_may():
    found = numbered(BRATS_2021, BRATS_2023, MSD_BRAIN)
    assert found.labels == {"background": 0, "necrotic core": 1, "edema": 2, "enhancing tumour": 4}
    assert found.regions == BRATS_2021.regions
    assert found.values == (
        {0: 0, 1: 1, 2: 2, 4: 4},
        {0: 0, 1: 1, 2: 2, 3: 4, 4: 0},
        {0: 0, 1: 2, 2: 1, 3: 4},
    )


def test_parts_that_are_told_apart_nowhere_else_become_one_label():
    for order in ((BRATS_2021, WHOLE), (WHOLE, BRATS_2021)):
        found = numbered(*order)
        assert found.labels == {"background": 0, "WT": 1}
        assert found.regions == ()
        assert dict(zip([one.name for one in order], found.values, strict=True)) == {
            "BraTS2021": {0: 0, 1: 1, 2: 1, 4: 1},
            "Whole": {0: 0, 1: 1},
        }


def test_values_that_are_taken_or_cannot_be_painted_are_replaced():
    one = described("A", {"liver": -3, "kidney": 2})
    other = described("B", {"kidney": 1, "liver": 2})
    found = numbered(one, other)
    assert found.labels == {"background": 0, "kidney": 2, "liver": 1}
    assert found.values == ({0: 0, -3: 1, 2: 2}, {0: 0, 1: 2, 2: 1})


def test_what_only_one_dataset_has_becomes_background():
    found = numbered(described("A", {"liver": 1, "spleen": 2}), described("B", {"liver": 1}))
    assert found.values[0] == {0: 0, 1: 1, 2: 0}


def test_ignored_voxels_have_one_value_beside_the_labels():
    one = described("A", {"liver": 1, "unsure": 2}, ignore_label=2)
    other = described("B", {"liver": 2, "kept out": 1}, ignore_label=1)
    found = numbered(one, other)
    assert found.labels == {"background": 0, "liver": 1, "unsure": 2}
    assert found.ignore_label == 2
    assert found.values == ({0: 0, 1: 1, 2: 2}, {0: 0, 2: 1, 1: 2})


def test_structures_that_no_order_of_painting_restores_are_refused():
    regions = {"left": (1, 2), "right": (2, 3)}
    one = described("A", {"a": 1, "b": 2, "c": 3}, regions)
    other = described("B", {"x": 7, "y": 8, "z": 9}, {"left": (7, 8), "right": (8, 9)})
    with pytest.raises(
        InputError, match=r"lie in left; in left and right; in right: .*leave one out with --labels"
    ) as error:
        numbered(one, other)
    assert "\n" not in str(error.value)


def test_a_mapping_that_nests_a_structure_in_one_dataset_only_is_refused():
    sides = [described(name, {"liver": 1, "tumor": 2}) for name in "AB"]
    stated = parse_mapping({"liver": {"A": 1, "B": [1, 2]}, "tumor": {"A": 2, "B": 2}}, source="labels.json")
    common = stated_structures([Party(one, (one.name,), one.name) for one in sides], stated)
    with pytest.raises(InputError, match="lie in liver; in tumor; in liver and tumor"):
        number_labels(sides, common)


def test_regions_are_painted_in_an_order_that_restores_them_whatever_their_sizes():
    # The duct is painted as what it shares with the liver, though the vein's label is less.
    structures, names = ((2, 3), (1, 2), (3,), (1,)), ("liver", "duct", "artery", "vein")
    found = number_labels([described("A", {"a": 1, "b": 2, "c": 3})], Common(names, (structures,), ()))
    assert [(region.name, region.value) for region in found.regions][1:] == [("duct", 2), ("artery", 3), ("vein", 1)]
    assert restores(found, names, structures, found.values[0])


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([WHOLE], [("WT", (1, 2, 4), 2)]),
        ([BRATS_2023], [("WT", (1, 2, 4), 2), ("TC", (1, 4), 1), ("ET", (4,), 4)]),
    ],
)
def test_regions_in_common_are_painted_as_the_dataset_does(others, expected):
    common = common_structures((BRATS_2021, *others))
    found = regions_in_common(BRATS_2021, common, 0)
    assert [(region.name, region.labels, region.value) for region in found] == expected


def test_regions_that_a_dataset_does_not_have_itself_are_painted_by_their_outermost_label():
    common = common_structures((MSD_BRAIN, BRATS_2021))
    found = regions_in_common(MSD_BRAIN, common, 0)
    assert [(region.name, region.labels, region.value) for region in found] == [
        ("WT", (1, 2, 3), 1),
        ("TC", (2, 3), 2),
        ("ET", (3,), 3),
    ]


def restores(found, names, structures, mapped):
    """Tell whether each label of a dataset belongs to the same structures after the pool's regions were painted and read."""
    targets = targets_of(DatasetDescription(name="P", channels=("a",), labels=found.labels, regions=found.regions))
    members = dict(zip(names, structures, strict=True))
    masks = np.array([[value in members[name] for value in mapped] for name in targets.region_names])
    painted = to_indices(paint_regions(masks, targets), targets)
    read = np.array([np.isin(painted, classes) for classes in targets.scored_classes])
    return np.array_equal(read, masks)


def is_paintable(num_structures, values):
    """Tell whether some order of painting leaves each pattern a region of its own on top, by trying all."""
    patterns = set()
    for structures in values:
        for value in itertools.chain(*structures):
            patterns.add(frozenset(n for n, members in enumerate(structures) if value in members))
    orders = itertools.permutations(range(num_structures))
    return any(len({max(pattern, key=order.index) for pattern in patterns}) == len(patterns) for order in orders)


@settings(max_examples=40)
@given(st.data())
def test_every_voxel_belongs_to_the_same_structures_as_before(data):
    """Whatever labels a structure is made of in each dataset, and however structures overlap."""
    num_structures = data.draw(st.integers(1, 3))
    descriptions, values = [], []
    for name in data.draw(st.sampled_from(("A", "AB", "ABC"))):
        labels = data.draw(st.lists(st.integers(-3, 9).filter(bool), min_size=1, max_size=5, unique=True))
        members = st.lists(st.sampled_from(labels), min_size=1, unique=True).map(lambda found: tuple(sorted(found)))
        values.append(tuple(data.draw(members) for _ in range(num_structures)))
        descriptions.append(described(name, {f"label_{value}": value for value in labels}))
    names = tuple(f"structure {number}" for number in range(num_structures))
    try:
        found = number_labels(descriptions, Common(names, tuple(values), ()))
    except InputError:
        assert not is_paintable(num_structures, values)
        return
    regions = {region.name: region.labels for region in found.regions}
    pooled = regions or {name: (found.labels[name],) for name in names}
    assert len(set(found.labels.values())) == len(found.labels)
    for description, structures, mapped in zip(descriptions, values, found.values, strict=True):
        assert not found.regions or restores(found, names, structures, mapped)
        for value in description.foreground.values():
            before = {name for name, members in zip(names, structures, strict=True) if value in members}
            assert {name for name, members in pooled.items() if mapped[value] in members} == before
