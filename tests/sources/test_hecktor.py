from tests.sources import layouts
from tumorseg.sources.hecktor import list_hecktor, read_hecktor
from tumorseg.sources.registry import open_dataset


def test_kinds_labels_and_sites(tmp_path):
    dataset = read_hecktor(layouts.write_hecktor(tmp_path, ["CHUM-001", "MDA-017"]))
    assert [(channel.name, channel.kind) for channel in dataset.channels] == [("CT", "ct"), ("PT", "pet")]
    assert dataset.labels == {"background": 0, "GTVp": 1, "GTVn": 2}
    assert dataset.optional_labels == ("GTVn",)
    assert [case.site for case in dataset.cases] == ["CHUM", "MDA"]


def test_2021_has_the_primary_tumour_alone(tmp_path):
    dataset = read_hecktor(layouts.write_hecktor_2021(tmp_path, ["CHGJ007", "CHUV001"]))
    assert dataset.labels == {"background": 0, "GTVp": 1}
    assert [case.site for case in dataset.cases] == ["CHGJ", "CHUV"]
    folder = layouts.write_hecktor_2021(tmp_path / "flat", ["CHUV001"])
    for path in (folder / "hecktor_nii").iterdir():
        path.rename(folder / path.name)
    assert len(read_hecktor(folder).cases) == 1


def test_test_cases_are_listed_without_labels(tmp_path):
    folder = layouts.write_hecktor(tmp_path / "HECKTOR", ["CHUM-001"])
    for ending in ("__CT", "__PT"):
        layouts.save(folder / "imagesTs" / f"USZ-002{ending}.nii.gz", layouts.image(1, 0))
    assert [(case.case_id, case.label is None) for case in list_hecktor(folder).cases] == [
        ("CHUM-001", False),
        ("USZ-002", True),
    ]
    assert len(open_dataset("HECKTOR", tmp_path).cases) == 1
