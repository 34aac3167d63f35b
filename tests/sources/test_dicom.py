"""Folders of DICOM as archives hand them out."""

import logging

import numpy as np
import pydicom
import pytest

from tests.dicoms import (
    Grid,
    box_contour,
    header,
    rewrite,
    save,
    write_enhanced,
    write_rtstruct,
    write_seg,
    write_series,
)
from tumorseg.errors import InputError
from tumorseg.sources.dicom import is_dicom, list_dicom, list_dicom_labels, read_dicom
from tumorseg.sources.inputs import open_inputs, open_labels
from tumorseg.sources.manifest import read_manifest
from tumorseg.storage.images import read_images

SHAPE = (4, 6, 7)


def volume(value=0):
    return np.full(SHAPE, value, np.int16)


def mask(*planes):
    found = np.zeros(SHAPE, bool)
    found[list(planes), 1:4, 2:5] = True
    return found


def write_study(folder, patient="P1", study="1.5", kinds=("CT",), names=("GTV",), **elements):
    """Write a study of one series per kind, all in one folder, and a SEG on the first."""
    series = [
        write_series(
            folder,
            volume(10 * number),
            kind=kind.split()[0],
            name=f"{patient}-{study}-{number}-" + "{number}",
            patient=patient,
            study=study,
            series=f"{study}.{number}",
            SeriesDescription=" ".join(kind.split()[1:]),
            **elements,
        )
        for number, kind in enumerate(kinds)
    ]
    if names:
        write_seg(
            folder / f"{patient}-{study}-seg", series[0], {name: mask(number) for number, name in enumerate(names)}
        )
    return series


def values_of(case):
    return [found.array.max() for found in read_images(case.images)]


def test_studies_in_one_flat_folder_are_told_apart(tmp_path):
    write_study(tmp_path, "P1", "1.5", ("CT", "PT"))
    write_study(tmp_path, "P2", "1.6", ("CT", "PT"))
    (tmp_path / "index.html").write_text("export")
    save(header("SR", study="1.5"), tmp_path / "report")
    directory = header("SR")
    directory.file_meta.MediaStorageSOPClassUID = directory.SOPClassUID = "1.2.840.10008.1.3.10"
    save(directory, tmp_path / "DICOMDIR")
    dataset = read_dicom(tmp_path)
    assert [(channel.name, channel.kind) for channel in dataset.channels] == [("CT", "ct"), ("PT", "pet")]
    assert [(case.case_id, case.group) for case in dataset.cases] == [("P1", "P1"), ("P2", "P2")]
    assert [values_of(case) for case in dataset.cases] == [[0, 10]] * 2
    assert dataset.labels == {"background": 0, "GTV": 1}


def test_labels_are_all_names_sorted(tmp_path):
    write_study(tmp_path / "a", "P1", "1.5", names=("node", "GTV"))
    series = write_study(tmp_path / "b", "P2", "1.6", names=())[0]
    write_rtstruct(tmp_path / "b" / "rt", series, {"body": [box_contour(Grid(), 1, (1, 1), (3, 3))], "iso": []})
    dataset = read_dicom(tmp_path)
    assert dataset.labels == {"background": 0, "GTV": 1, "body": 2, "node": 3}


def test_ids_are_the_patients_then_the_studys_date_then_a_digest(tmp_path):
    studies = [
        ("A/1", "1.1", "20200101"),
        ("A/1", "1.2", "20210101"),
        ("A/1", "1.3", "20210101"),
        ("B", "1.4", ""),
        ("", "1.5", ""),
        ("", "1.6", "20220101"),
        ("A_1", "1.7", "20200102"),
        ("b", "1.8", ""),
    ]
    for patient, study, date in studies:
        write_study(tmp_path / study, patient, study, names=(), StudyDate=date)
    cases = read_dicom(tmp_path).cases
    assert len(cases) == len(studies)
    found = {case.case_id: case.group for case in cases}
    assert {"A_1_20200101", "A_1_20200102", "patient_20220101"} <= set(found)
    assert sum(case_id.startswith("A_1_20210101_") for case_id in found) == 2
    assert sum(case_id.casefold().startswith("b_") for case_id in found) == 2
    assert found["A_1_20200102"] == "A_1"
    assert found["A_1_20200101"] == "A/1"
    assert found["patient_20220101"] is None


def test_one_study_uid_of_two_patients_is_two_cases(tmp_path):
    for patient, number in (("P1", 1), ("P2", 2)):
        write_series(tmp_path / patient, volume(number), patient=patient, study="1.5", series="1.5.1")
    assert [(case.case_id, values_of(case)) for case in read_dicom(tmp_path).cases] == [("P1", [1]), ("P2", [2])]


def test_several_series_of_a_modality_are_called_by_their_descriptions(tmp_path):
    for number in (1, 2):
        write_study(
            tmp_path / str(number), f"P{number}", f"1.{number}", ("MR T2 flair", "MR T1/post", "CT"), names=("x",)
        )
    dataset = read_dicom(tmp_path)
    assert [(c.name, c.kind) for c in dataset.channels] == [("T2 flair", "mr"), ("CT", "ct"), ("T1-post", "mr")]
    assert [values_of(case) for case in dataset.cases] == [[0, 20, 10]] * 2


def test_what_labels_were_drawn_on_comes_first(tmp_path):
    series = write_study(tmp_path, "P1", "1.5", ("CT", "PT"), names=())
    write_rtstruct(tmp_path / "rt", series[1], {"GTV": [box_contour(Grid(), 1, (1, 1), (3, 3))]})
    assert [channel.name for channel in read_dicom(tmp_path).channels] == ["PT", "CT"]


def test_series_that_not_every_study_has_are_left_out_and_told(tmp_path, caplog):
    write_study(tmp_path / "a", "P1", "1.5", ("CT soft", "CT lung", "MR"))
    write_study(tmp_path / "b", "P2", "1.6", ("CT soft", "CT bone"))
    dataset = read_dicom(tmp_path)
    assert [channel.name for channel in dataset.channels] == ["CT"]
    assert [values_of(case) for case in dataset.cases] == [[0], [0]]
    assert (
        "series of CT that not every study has just once are left out: bone (in 1 studies); lung (in 1 studies)"
        in caplog.text
    )
    assert "series of MR" in caplog.text


def test_the_series_that_was_drawn_on_is_the_channel_where_descriptions_differ(tmp_path, caplog):
    write_study(tmp_path / "a", "P1", "1.5", ("CT soft", "CT lung"))
    write_study(tmp_path / "b", "P2", "1.6", ("CT st", "CT bone"))
    dataset = read_dicom(tmp_path)
    assert [channel.name for channel in dataset.channels] == ["CT"]
    assert [values_of(case) for case in dataset.cases] == [[0], [0]]
    assert "are left out: bone (in 1 studies); lung (in 1 studies)" in caplog.text


@pytest.mark.parametrize(
    ("kinds", "names", "message"),
    [
        (
            ("CT a", "CT b"),
            (),
            r"no one series of CT in each study, nor several of the same descriptions; found P1 1.5: CT soft; "
            r"P2 1.6: CT a, CT b; expected the same series in each; write a manifest",
        ),
        (("PT",), ("GTV",), "no one series of CT in each study"),
        (("PT",), (), "found no series that every study has"),
    ],
)
def test_studies_that_differ_are_listed(tmp_path, kinds, names, message):
    write_study(tmp_path / "a", "P1", "1.5", ("CT soft",), names=names)
    write_study(tmp_path / "b", "P2", "1.6", kinds, names=names)
    with pytest.raises(InputError, match=message) as refused:
        read_dicom(tmp_path)
    assert "\n" not in str(refused.value)


def test_pet_in_different_units_is_refused(tmp_path):
    write_study(tmp_path / "a", "P1", "1.5", ("PT",), Units="BQML")
    write_study(tmp_path / "b", "P2", "1.6", ("PT",), Units="CNTS")
    with pytest.raises(InputError, match=r"found PT in different units: BQML \(1\), CNTS \(1\); expected one"):
        read_dicom(tmp_path)


def test_localizers_and_planes_without_a_place_are_no_series(tmp_path, caplog):
    caplog.set_level(logging.INFO, "tumorseg")
    write_study(tmp_path, "P1", "1.5", ("MR T1",))
    write_series(
        tmp_path / "scout", volume(), kind="MR", study="1.5", series="7", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    paths = write_series(
        tmp_path / "three planes", volume(), kind="MR", study="1.5", series="8", SeriesDescription="loc"
    )
    rewrite(paths[1], ImageOrientationPatient=[0, 1, 0, 0, 0, 1])
    for path in write_series(
        tmp_path / "screen", volume(), kind="MR", study="1.5", series="9", SeriesDescription="shot"
    ):
        rewrite(path, ImagePositionPatient=None, ImageOrientationPatient=None)
    assert [channel.name for channel in read_dicom(tmp_path).channels] == ["MR"]
    for text in (
        "localizer (4)",
        "MR loc is left out: its planes are not parallel",
        "MR shot is left out: its planes do not say",
    ):
        assert text in caplog.text
    with pytest.raises(InputError, match="found no image series of CT, MR or PET that can be read"):
        read_dicom(tmp_path / "scout")


def test_a_study_may_have_a_file_for_each_structure(tmp_path):
    (series,) = write_study(tmp_path, names=())
    for number, name in enumerate(("GTV", "node")):
        write_seg(tmp_path / f"seg-{name}", series, {name: mask(number)})
    (case,) = read_dicom(tmp_path).cases
    assert [path.rpartition("/")[2] for path in case.label_files] == ["seg-GTV", "seg-node"]


def test_a_label_is_found_by_what_it_names_even_in_another_study(tmp_path):
    series = [write_study(tmp_path / p, p, s, names=())[0] for p, s in (("P1", "1.5"), ("P2", "1.6"))]
    write_rtstruct(
        tmp_path / "rt", series[1], {"GTV": [box_contour(Grid(), 1, (1, 1), (3, 3))]}, patient="", study="1.77"
    )
    (case,) = read_dicom(tmp_path).cases
    assert (case.case_id, case.label) == ("P2", str(tmp_path / "rt"))


def test_a_label_without_references_belongs_to_the_only_series_in_its_world(tmp_path, caplog):
    series = write_study(tmp_path, "P1", "1.5", ("CT", "PT"), names=())
    contours = {"GTV": [box_contour(Grid(), 1, (1, 1), (3, 3))]}
    path = write_rtstruct(tmp_path / "rt", series[0], contours)
    rewrite(path, ReferencedFrameOfReferenceSequence=None)
    assert read_dicom(tmp_path).cases[0].label is None
    assert "the image of its patient that it was drawn on is not here; it is left out" in caplog.text
    for other in series[1]:
        other.unlink()
    assert read_dicom(tmp_path).cases[0].label == str(path)
    rewrite(path, FrameOfReferenceUID="9.9")
    assert read_dicom(tmp_path).cases[0].label is None


def test_studies_without_labels_are_listed_but_not_trained_on(tmp_path, caplog):
    write_study(tmp_path / "a", "P1", "1.5")
    write_study(tmp_path / "b", "P2", "1.6", names=())
    assert [case.case_id for case in read_dicom(tmp_path).cases] == ["P1"]
    assert "1 studies without labels are left out" in caplog.text
    assert [case.case_id for case in list_dicom(tmp_path).cases] == ["P1", "P2"]


def test_a_damaged_file_fails_the_cases_beside_it_rather_than_lose_a_slice(tmp_path):
    (series,) = write_study(tmp_path / "a", "P1", "1.5", names=())
    write_study(tmp_path / "b", "P2", "1.6", names=())
    series[-1].write_bytes(series[-1].read_bytes()[:300])  # the last plane leaves no gap
    first, second = read_dicom(tmp_path).cases
    with pytest.raises(InputError, match="cannot be read as DICOM"):
        read_images(first.images)
    assert values_of(second) == [0]


def test_a_damaged_label_fails_with_its_case(tmp_path):
    (series,) = write_study(tmp_path, names=())
    path = write_rtstruct(tmp_path / "rt", series, {"GTV": [box_contour(Grid(), 1, (1, 1), (3, 3))]})
    dataset = pydicom.dcmread(path)
    dataset.ROIContourSequence[0].ContourSequence[0].ContourData = [1.0, 2.0]
    save(dataset, path)
    assert read_dicom(tmp_path).cases[0].label == str(path)


def test_all_of_one_patient_is_told(tmp_path, caplog):
    for study in ("1.5", "1.6"):
        write_study(tmp_path / study, "ANON", study, names=())
    read_dicom(tmp_path)
    assert "all 2 studies are of the patient ANON, so that none can be held out" in caplog.text


def test_a_folder_of_volumes_or_of_no_dicom_is_none(tmp_path):
    write_study(tmp_path / "dicom", names=())
    assert is_dicom(tmp_path)
    (tmp_path / "a.nii.gz").write_bytes(b"")
    assert not is_dicom(tmp_path)
    assert is_dicom(tmp_path / "dicom")
    (tmp_path / "other").mkdir()
    for number in range(70):
        (tmp_path / "other" / f"{number:03d}").write_bytes(b"x" * 200)
    assert not is_dicom(tmp_path / "other")
    save(header("CT"), tmp_path / "other" / "zzz")
    assert is_dicom(tmp_path / "other")
    assert not is_dicom(tmp_path / "none")


def test_a_long_search_says_how_far_it_is(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "tumorseg")
    write_study(tmp_path, names=())
    monkeypatch.setattr("tumorseg.storage.dicom.headers.SECONDS_BETWEEN_NOTES", 0.0)
    read_dicom(tmp_path)
    assert f"{tmp_path}: 3 files looked at, now in {tmp_path}" in caplog.text


def test_a_series_a_study_and_a_file_can_be_predicted_on(tmp_path):
    series = write_study(tmp_path / "study", "P1", "1.5", ("CT", "PT"))
    enhanced = write_enhanced(tmp_path / "enhanced.dcm", volume(5), patient="P9")
    for path, channels, kinds, expected in (
        (tmp_path / "study", ["CT", "PT"], ["ct", "pet"], [0, 10]),
        (tmp_path / "study", ["pet"], ["pet"], [10]),
        (tmp_path / "study", ["SUV", "planning"], ["pet", "ct"], [10, 0]),
        (enhanced, ["MRI"], ["mr"], [5]),
        (enhanced, ["image"], ["other"], [5]),
        (enhanced, ["image"], [], [5]),
        (series[0][0], ["CT"], ["ct"], [0]),
    ):
        (case,) = open_inputs([path], channels, kinds).cases
        assert values_of(case) == expected


@pytest.mark.parametrize(
    ("channels", "kinds"), [(["CT"], ["ct"]), (["T1", "T2"], ["mr", "mr"]), (["image", "CT"], [None, "ct"])]
)
def test_channels_of_another_kind_are_refused(tmp_path, channels, kinds):
    path = write_enhanced(tmp_path / "enhanced.dcm", volume(5))
    with pytest.raises(
        InputError, match=r"found the channels MR \(mr\), expected .*; missing: .*; .* write a manifest"
    ):
        open_inputs([path], channels, kinds)


def test_labels_are_found_with_their_images_and_without(tmp_path):
    write_study(tmp_path / "a", "P1", "1.5")
    seg = next((tmp_path / "a").glob("*seg"))
    expected = [("P1", (str(seg),))]
    assert list_dicom_labels(tmp_path) == expected
    assert list_dicom_labels(seg) == expected
    assert open_labels([seg]).files == open_labels([tmp_path]).files == dict(expected)
    (tmp_path / "only").mkdir()
    seg.rename(tmp_path / "only" / "seg")
    assert open_labels([tmp_path / "only"]).files == {"P1": (str(tmp_path / "only" / "seg"),)}
    with pytest.raises(InputError, match="found cases, but no label among them"):
        open_labels([tmp_path / "a"])


def test_a_manifest_may_name_folders_of_series_and_dicom_labels(tmp_path):
    (series,) = write_study(tmp_path / "ct", names=())
    write_seg(tmp_path / "seg.dcm", series, {"node": mask(1), "GTV": mask(2)})
    (tmp_path / "manifest.csv").write_text("case_id,CT,label\na,ct,seg.dcm\n")
    dataset = read_manifest(tmp_path)
    assert dataset.labels == {"background": 0, "GTV": 1, "node": 2}
    assert values_of(dataset.cases[0]) == [0]
    (tmp_path / "manifest.csv").write_text("case_id,CT,label,label:GTV=4\na,ct,seg.dcm,\n")
    assert read_manifest(tmp_path).labels == {"background": 0, "GTV": 4}


def test_names_and_numbers_are_not_mixed_in_a_manifest_without_labels(tmp_path):
    from tests.sources import layouts

    (series,) = write_study(tmp_path / "ct", names=())
    write_seg(tmp_path / "seg.dcm", series, {"node": mask(1)})
    layouts.save(tmp_path / "b.nii.gz", layouts.label(1))
    (tmp_path / "manifest.csv").write_text("case_id,CT,label\na,ct,seg.dcm\nb,ct,b.nii.gz\n")
    with pytest.raises(InputError, match=r"found labels with names \(node\) and labels with values"):
        read_manifest(tmp_path)


def test_a_label_of_another_patient_is_never_attached(tmp_path, caplog):
    (series,) = write_study(tmp_path, "P1", "1.5", names=())
    contours = {"GTV": [box_contour(Grid(), 1, (1, 1), (3, 3))]}
    write_rtstruct(tmp_path / "rt", series, contours, patient="P2", study="1.5")
    (case,) = read_dicom(tmp_path).cases
    assert case.label is None
    assert "rt: the image of its patient that it was drawn on is not here" in caplog.text


def test_channels_that_share_no_frame_of_reference_are_told(tmp_path, caplog):
    write_study(tmp_path / "a", "P1", "1.5", ("CT", "PT"))
    read_dicom(tmp_path)
    assert "frames of reference" not in caplog.text
    for path in (tmp_path / "a").iterdir():
        if "-1-" in path.name:
            rewrite(path, FrameOfReferenceUID="1.2.3.4")
    read_dicom(tmp_path)
    assert "the channels CT, PT have frames of reference of their own" in caplog.text


def test_what_is_damaged_beside_no_series_is_told_and_an_empty_slice_fails_its_case(tmp_path, caplog):
    (series,) = write_study(tmp_path / "a", names=())
    label = write_rtstruct(tmp_path / "b" / "rt.dcm", series, {"GTV": [box_contour(Grid(), 1, (1, 1), (3, 3))]})
    label.write_bytes(label.read_bytes()[:200])
    assert len(read_dicom(tmp_path).cases) == 1
    assert "rt.dcm: is damaged and lies beside no series; it is left out; restore it" in caplog.text
    (tmp_path / "a" / "empty.dcm").write_bytes(b"")
    (case,) = read_dicom(tmp_path).cases
    with pytest.raises(InputError, match=r"empty\.dcm"):
        read_images(case.images)
