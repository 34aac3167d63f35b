import pytest

from tests.ops.matching.described import BRATS_2021, BRATS_2023, WHOLE, described
from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, Channel, Dataset, ImageFile, Reading
from tumorseg.schema.mapping import parse_mapping
from tumorseg.sources.pooling import pool_datasets


def dataset(description, *case_ids, **fields):
    """Return a dataset whose images are called after their case and channel."""
    names = [channel.name for channel in description.channels]
    cases = []
    for case_id in case_ids:
        images = tuple(ImageFile(path=f"{description.name}/{case_id}/{name}.nii.gz") for name in names)
        cases.append(Case(case_id=case_id, images=images, label=f"{description.name}/{case_id}/seg.nii.gz", **fields))
    given = {name: getattr(description, name) for name in type(description).model_fields}
    return Dataset(**given, cases=tuple(cases))


def cases_of(pool):
    return {case.case_id: case for member in pool.members for case in member.dataset.cases}


def test_channels_that_all_have_are_called_as_in_the_first_dataset():
    pool = pool_datasets("P", [dataset(WHOLE, "a"), dataset(BRATS_2021, "b"), dataset(BRATS_2023, "c")])
    assert [channel.name for channel in pool.description.channels] == ["FLAIR", "T1"]
    # A kind that one dataset states holds for all.
    assert [channel.kind for channel in pool.description.channels] == ["mr", "mr"]
    assert pool.members[1].channels == {"FLAIR": "flair", "T1": "t1"}
    assert pool.members[1].dropped == ("t1ce", "t2")
    paths = [file.path for file in cases_of(pool)["b"].images]
    assert paths == ["BraTS2021/b/flair.nii.gz", "BraTS2021/b/t1.nii.gz"]


def test_ids_that_several_datasets_have_begin_with_the_datasets_name():
    pool = pool_datasets("P", [dataset(WHOLE, "a", "B-a", "b"), dataset(described("B", {"WT": 1}), "a", "c")])
    assert sorted(cases_of(pool)) == ["B-a", "B-a_2", "Whole-a", "b", "c"]
    assert [case.label for case in pool.members[1].dataset.cases] == ["B/a/seg.nii.gz", "B/c/seg.nii.gz"]


def test_patients_and_sites_of_two_datasets_are_never_one():
    first = dataset(WHOLE, "a", group="p1", site="north", columns={"age": "40"})
    second = dataset(described("B", {"WT": 1}), "b", group="p1")
    found = cases_of(pool_datasets("P", [first, second]))
    assert {case_id: (case.group, case.site) for case_id, case in found.items()} == {
        "a": ("Whole-p1", "Whole-north"),
        "b": ("B-p1", "B"),
    }
    assert found["a"].columns == {"age": "40", "dataset": "Whole"}


def test_a_column_called_dataset_is_kept_under_another_name(caplog):
    first = dataset(WHOLE, "a", columns={"dataset": "TCIA", "age": "40"})
    second = dataset(described("B", {"WT": 1}), "b", columns={"own_dataset": "x"})
    found = cases_of(pool_datasets("P", [first, second]))
    assert found["a"].columns == {"own_dataset_2": "TCIA", "age": "40", "dataset": "Whole"}
    assert found["b"].columns == {"own_dataset": "x", "dataset": "B"}
    assert "the datasets' own column dataset is called own_dataset_2 in the pool" in caplog.text


def test_datasets_that_share_an_image_under_two_names_are_refused(tmp_path):
    (tmp_path / "real").mkdir()
    for name in ("x", "y"):
        (tmp_path / f"real/{name}.nii.gz").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    def of(name, *paths):
        cases = [Case(case_id=path.split("/")[-1], images=[{"path": str(tmp_path / path)}]) for path in paths]
        given = described(name, {"WT": 1}, channels=("FLAIR",))
        return Dataset(**{field: getattr(given, field) for field in type(given).model_fields}, cases=cases)

    with pytest.raises(
        InputError, match=r"case x.nii.gz of A and case x.nii.gz of B are both made of .*real/x.nii.gz"
    ) as error:
        pool_datasets("P", [of("A", "real/x.nii.gz"), of("B", "link/x.nii.gz", "real/y.nii.gz")])
    assert "more such" not in str(error.value)
    with pytest.raises(InputError, match="and 1 more such cases; expected each image once"):
        pool_datasets("P", [of("A", "real/x.nii.gz", "real/y.nii.gz"), of("B", "link/x.nii.gz", "link/y.nii.gz")])
    assert len(cases_of(pool_datasets("P", [of("A", "real/x.nii.gz"), of("B", "link/y.nii.gz")]))) == 2


@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [
        ({"index": 0}, {"index": 0}, True),
        ({"index": 0}, {"index": 1}, False),
        ({"index": 1}, {}, True),
        ({"parts": ("1", "2")}, {"parts": ("2", "3")}, True),
        ({"parts": ("1",)}, {"parts": ("2",)}, False),
        ({"parts": ("1",)}, {}, True),
    ],
)
def test_volumes_of_one_file_and_parts_of_one_folder_are_images_of_their_own(tmp_path, first, second, is_shared):
    path = tmp_path / "x"
    if "parts" in first:
        path.mkdir()
        for name in ("1", "2", "3"):
            (path / name).write_bytes(b"")
    sides = []
    for name, image in (("A", first), ("B", second)):
        case = Case(case_id=name, images=[{"path": str(path), **image}])
        sides.append(Dataset(name=name, channels=["CT"], labels={"background": 0, "liver": 1}, cases=[case]))
    if is_shared:
        with pytest.raises(InputError, match="case A of A and case B of B are both made of"):
            pool_datasets("P", sides)
    else:
        assert len(cases_of(pool_datasets("P", sides))) == 2


def test_an_organ_with_its_tumours_is_not_pooled_with_the_organ_without():
    beside = described("Beside", {"liver": 1, "tumor": 2})
    within = described("Within", {"a": 1, "b": 2}, {"liver": (1, 2), "tumor": (2,)})
    pool = pool_datasets("P", [dataset(beside, "a"), dataset(within, "b")])
    assert pool.description.labels == {"background": 0, "tumor": 2}
    assert [member.values for member in pool.members] == [{0: 0, 1: 0, 2: 2}] * 2
    assert pool.left_out == ("liver: includes tumor in Within, but not in Beside, so that it is not the same",)
    stated = parse_mapping({"liver": {"Beside": 1, "Within": "liver"}, "tumor": {"Beside": 2, "Within": 2}}, source="x")
    with pytest.raises(InputError, match="no model could be right"):
        pool_datasets("P", [dataset(beside, "a"), dataset(within, "b")], stated)


def test_folders_of_one_name_are_not_one_dataset():
    first, second = (dataset(described("data", {"label_1": 1}, channels=("T1",)), case_id) for case_id in "ab")
    with pytest.raises(InputError, match="data has label_1; data_2 has label_1; names such as label_1"):
        pool_datasets("P", [first, second])
    first, second = (dataset(described("data", {"WT": 1}, channels=("channel_0",)), case_id) for case_id in "ab")
    with pytest.raises(
        InputError, match="no channel in common: data has channel_0; data_2 has channel_0; names such as"
    ):
        pool_datasets("P", [first, second])


def test_two_datasets_of_one_name_are_told_apart():
    pool = pool_datasets("P", [dataset(WHOLE, "a"), dataset(WHOLE, "b")])
    assert [member.dataset.name for member in pool.members] == ["Whole", "Whole_2"]
    assert {case.site for case in cases_of(pool).values()} == {"Whole", "Whole_2"}


def test_labels_that_mean_the_same_in_the_pool_may_stay_as_they_are():
    pool = pool_datasets("P", [dataset(BRATS_2021, "a"), dataset(BRATS_2023, "b")])
    assert [member.keeps_labels for member in pool.members] == [True, False]
    assert pool.members[1].values == {0: 0, 1: 1, 2: 2, 3: 4, 4: 0}
    assert pool.description.regions == BRATS_2021.regions


def test_a_mapping_states_labels_by_dataset():
    mapping = parse_mapping({"lesion": {"A": "x", "Whole": ["WT"]}}, source="labels.json")
    pool = pool_datasets("P", [dataset(WHOLE, "a"), dataset(described("A", {"x": 4, "y": 5}), "b")], mapping)
    assert pool.description.labels == {"background": 0, "lesion": 1}
    assert pool.members[1].values == {0: 0, 4: 1, 5: 0}


def test_a_label_may_be_in_no_case_if_it_may_in_every_dataset():
    labels = {"tumour": 1, "cavity": 2}
    first = described("A", labels, optional_labels=("cavity", "tumour"))
    second = described("B", labels, optional_labels=("cavity",))
    assert pool_datasets("P", [dataset(first, "a"), dataset(second, "b")]).description.optional_labels == ("cavity",)


def test_nothing_in_common_is_refused_with_what_each_has():
    with pytest.raises(InputError, match="no channel in common: Whole has FLAIR, T1; C has CT; expected"):
        pool_datasets("P", [dataset(WHOLE, "a"), dataset(described("C", {"WT": 1}, channels=("CT",)), "b")])
    with pytest.raises(InputError, match="no label or region in common: Whole has WT; B has liver"):
        pool_datasets("P", [dataset(WHOLE, "a"), dataset(described("B", {"liver": 1}), "b")])


def test_kinds_and_orientations_that_contradict_each_other_are_refused():
    kinds = [
        described(name, {"WT": 1}, channels=(Channel(name="x", kind=kind),))
        for name, kind in (("A", None), ("B", "ct"), ("C", "mr"))
    ]
    with pytest.raises(InputError, match="channel x is ct in one dataset and mr in another"):
        pool_datasets("P", [dataset(one, one.name) for one in kinds])
    stated = described("B", {"WT": 1}, reading=Reading(assumed_orientation="LPS"))
    with pytest.raises(InputError, match="Whole nothing, B LPS"):
        pool_datasets("P", [dataset(WHOLE, "a"), dataset(stated, "b")])


def test_the_channel_whose_grid_counts_is_called_as_in_the_pool():
    stated = described("B", {"WT": 1}, channels=("t1", "flair"), reading=Reading(grid_channel="flair"))
    first = described("A", {"WT": 1}, reading=Reading(grid_channel="FLAIR"))
    assert pool_datasets("P", [dataset(first, "a"), dataset(stated, "b")]).description.reading.grid_channel == "FLAIR"
    assert pool_datasets("P", [dataset(WHOLE, "a"), dataset(stated, "b")]).description.reading.grid_channel is None
