import json
import os

import numpy as np
import pytest

from tests.broken import (
    LABELS,
    arrays,
    change,
    describe,
    files_of,
    reorient,
    rescale,
    respace,
    save,
    swap_sides,
    write_sound,
)
from tests.dicoms import Grid, box_contour, write_rtstruct, write_series
from tests.sources import layouts
from tumorseg.cli.main import run
from tumorseg.errors import InputError, StorageError
from tumorseg.schema.dataset import Dataset, LabelDoubt
from tumorseg.stages.datasets.check import CheckRequest, check
from tumorseg.stages.datasets.checking.case import CaseFacts, LabelFacts
from tumorseg.stages.datasets.checking.cohort import check_cohort
from tumorseg.stages.opening.loaded import Roots


def checked(place, **options):
    return check(CheckRequest(roots=Roots(data_root=place.parent), dataset=str(place), jobs=1, **options)).report


def kinds(report):
    return {found.kind for found in report.findings}


def write_manifest(
    folder, groups, header="case_id,CT,T1,label,group,label:kidney_left=1,label:kidney_right=2,label:tumour=3"
):
    """Describe the sound cases by a manifest, with a group each."""
    rows = [
        f"{case_id},imagesTr/{case_id}_0000.nii.gz,imagesTr/{case_id}_0001.nii.gz,labelsTr/{case_id}.nii.gz,{group},,,"
        for case_id, group in groups.items()
    ]
    (folder / "manifest.csv").write_text("\n".join([header, *rows]))
    return folder


def copy_images(folder, source, target, names=("ct", "t1", "label")):
    for name in names:
        path = getattr(files_of(folder, target), name)
        path.write_bytes(getattr(files_of(folder, source), name).read_bytes())


def ids(count):
    return [f"sound_{chr(97 + number)}" for number in range(count)]


def test_copies_in_one_group_are_a_warning_and_in_two_an_error(tmp_path):
    folder = write_sound(tmp_path / "Set", 6)
    copy_images(folder, "sound_a", "sound_b")
    report = checked(write_manifest(folder, dict(zip(ids(6), "aabcde", strict=True))))
    (found,) = report.findings
    assert (found.kind, found.severity, found.case_ids) == ("duplicate_image", "warning", ("sound_a", "sound_b"))
    assert "the default folds keep them together" in found.message
    report = checked(write_manifest(folder, dict(zip(ids(6), "abcdef", strict=True))))
    (found,) = report.findings
    assert (found.kind, found.severity) == ("duplicate_across_folds", "error")
    assert "train on one and validate on the other" in found.message


def test_copies_of_different_groups_are_an_error_wherever_the_folds_put_them(tmp_path):
    folder = write_sound(tmp_path / "Set", 2)
    copy_images(folder, "sound_a", "sound_b")
    (found,) = checked(write_manifest(folder, {"sound_a": "x", "sound_b": "y"})).findings
    assert (found.kind, found.severity) == ("duplicate_across_folds", "error")
    assert "of the groups x, y" in found.message


def test_a_copy_in_another_orientation_is_still_a_copy(tmp_path):
    folder = write_sound(tmp_path / "Set", 6)
    copy_images(folder, "sound_a", "sound_b")
    reorient(files_of(folder, "sound_b"), "ASR")
    assert "duplicate_across_folds" in kinds(checked(folder))


def test_like_images_of_one_group_need_no_telling(tmp_path):
    folder = write_sound(tmp_path / "Set", 6)
    copy_images(folder, "sound_a", "sound_b")
    for name in ("ct", "t1"):
        rng = np.random.default_rng(1)
        change(
            getattr(files_of(folder, "sound_b"), name),
            lambda a, rng=rng: a + rng.integers(0, 2, a.shape).astype(a.dtype),
        )
    change(files_of(folder, "sound_b").label, lambda a: np.where(a == 3, 1, a).astype(np.uint8))
    alone = dict(zip(ids(6), "abcdef", strict=True))
    assert kinds(checked(write_manifest(folder, alone))) == {"near_duplicate", "label_not_in_case"}
    assert kinds(checked(write_manifest(folder, alone | {"sound_b": "a"}))) == {"label_not_in_case"}


def test_names_that_mean_the_viewers_sides_are_told_once(tmp_path):
    folder = write_sound(tmp_path / "Set", 6)
    for case_id in ids(6):
        change(files_of(folder, case_id).label, swap_sides)
    (found,) = checked(folder).findings
    assert found.kind == "sides_reversed"
    assert found.case_ids == tuple(ids(6))
    assert "in 6 of 6 cases" in found.message


def test_a_single_label_value_that_one_case_has_alone_is_a_note(tmp_path):
    folder = write_sound(tmp_path / "Set", 12)
    for case_id in ids(12)[1:]:
        change(files_of(folder, case_id).label, lambda a: np.where(a == 3, 1, a).astype(np.uint8))
    report = checked(folder)
    (found,) = [f for f in report.findings if f.kind == "rare_label"]
    assert found.case_ids == ("sound_a",)
    assert "tumour (3)" in found.message


def test_ids_of_one_patient_without_a_group_are_noted(tmp_path):
    folder = write_sound(tmp_path / "Set", 0)
    for number in range(12):
        for path, array in zip(files_of(folder, f"p{number // 2:02}_t{number % 2}"), arrays(number), strict=True):
            save(path, array)
    (found,) = checked(folder).findings
    assert found.kind == "ungrouped_cases"
    assert "such as p00 with p00_t0 and p00_t1" in found.message
    assert found.message.endswith("or plan with --splits group")


def test_spacings_that_vary_everywhere_have_no_outlier(tmp_path):
    folder = write_sound(tmp_path / "Set", 8)
    for number, case_id in enumerate(ids(8)):
        respace(files_of(folder, case_id), 0.4 * 1.5**number)
    assert "spacing_outlier" not in kinds(checked(folder))


def test_a_spacing_that_rounds_to_nothing_is_an_error_of_its_case_in_check_and_fingerprint(tmp_path, capfd):
    folder = write_sound(tmp_path / "Set", 3)
    files = files_of(folder, ids(3)[1])
    respace(files, 1e-9)
    found = checked(folder).findings
    assert {(one.kind, one.severity, one.case_ids) for one in found} == {("bad_affine", "error", (ids(3)[1],))}
    assert {one.file for one in found} == {str(path) for path in files}
    assert run(["-q", "fingerprint", "-d", str(folder), "--output", str(tmp_path / "f.json"), "--jobs", "1"]) == 1
    told = capfd.readouterr().err
    assert "mm at least; mend the header" in told
    assert "ValidationError" not in told
    assert "Traceback" not in told


def test_a_set_without_any_label_is_told_once(tmp_path):
    folder = write_sound(tmp_path / "Set", 3)
    for path in (folder / "labelsTr").iterdir():
        path.unlink()
    report = checked(folder)
    assert [(f.kind, f.case_ids) for f in report.findings] == [("unlabelled", ())]
    assert not report.has_errors


def test_the_ignore_label_is_neither_unknown_nor_foreground(tmp_path):
    folder = write_sound(tmp_path / "Set", 2)
    describe(folder, labels=LABELS | {"ignore": 7})
    for case_id in ids(2):
        change(files_of(folder, case_id).label, lambda a: np.where(a == 0, 7, a).astype(np.uint8))
    assert kinds(checked(folder)) == set()
    change(files_of(folder, "sound_a").label, lambda a: np.where(a == 7, 7, 0).astype(np.uint8))
    assert kinds(checked(folder)) == {"empty_label"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not JSON"),
        ('{"channel_names": {"0": "CT"}}', "labels: missing"),
        ('{"channel_names": {"1": "CT"}, "labels": {"background": 0}, "file_ending": ".nii.gz"}', "expected 0, 1"),
        ('{"channel_names": {"0": "CT"}, "labels": {"background": 0}, "file_ending": ".nii.gz"}', "found no case"),
    ],
)
def test_a_dataset_that_its_source_refuses_is_a_finding(tmp_path, content, told, capfd):
    (tmp_path / "Bad").mkdir()
    (tmp_path / "Bad" / "dataset.json").write_text(content)
    page = tmp_path / "page.html"
    assert run(["data", "check", "-d", str(tmp_path / "Bad"), "--html", str(page)]) == 1
    out, err = capfd.readouterr()
    assert told in out
    assert "unreadable_dataset" in out
    assert "Traceback" not in err
    assert "unreadable_dataset" in page.read_text()


def test_a_folder_of_no_known_layout_is_a_finding_and_no_folder_at_all_is_wrong_usage(tmp_path):
    (tmp_path / "Empty").mkdir()
    assert kinds(checked(tmp_path / "Empty")) == {"unreadable_dataset"}
    with pytest.raises(InputError, match="is not there"):
        checked(tmp_path / "None")


def test_bad_rows_of_a_manifest_do_not_hide_the_other_cases(tmp_path):
    folder = write_manifest(write_sound(tmp_path / "Set", 4), dict.fromkeys(ids(4), ""))
    lines = (folder / "manifest.csv").read_text().splitlines()
    change(files_of(folder, "sound_c").ct, lambda a: np.zeros_like(a))
    rows = [
        lines[0],
        lines[1] + ",extra",
        lines[2].replace("imagesTr/sound_b_0000.nii.gz", ""),
        lines[3],
        lines[3],
        lines[4],
    ]
    (folder / "manifest.csv").write_text("\n".join(rows))
    report = checked(folder)
    assert [(f.kind, f.case_ids) for f in report.findings] == [
        ("dataset_entry", ("sound_a",)),
        ("dataset_entry", ("sound_b",)),
        ("dataset_entry", ("sound_c",)),
        ("constant_channel", ("sound_c",)),
    ]
    assert "row 1: found" in report.findings[0].message


def test_a_page_is_not_written_over_anything_but_a_page(tmp_path):
    folder = write_sound(tmp_path / "Set", 2)
    victim = files_of(folder, "sound_a").ct
    with pytest.raises(InputError, match=r"expected a name that ends in \.html"):
        checked(folder, html=victim)


def test_a_page_shows_every_flagged_case_that_can_be_read(tmp_path):
    folder = write_sound(tmp_path / "Set", 6)
    change(files_of(folder, "sound_a").label, lambda a: a * 0 + 9)
    files_of(folder, "sound_b").ct.unlink()
    change(files_of(folder, "sound_c").label, lambda a: a[1:])
    files_of(folder, "sound_d").t1.unlink()
    files_of(folder, "sound_d").ct.unlink()
    files_of(folder, "sound_e").label.write_bytes(b"")
    report = checked(folder, html=tmp_path / "deep" / "page.html")
    page = (tmp_path / "deep" / "page.html").read_text()
    assert [case for case in ids(6) if f"<figcaption>{case}: " in page] == ["sound_a", "sound_b", "sound_c", "sound_e"]
    assert page.count('<tr class="') == len(report.findings) >= 4
    assert "<figcaption>sound_a: unknown label" in page


def test_flat_images_are_checked_too(tmp_path):
    for number in range(6):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 255, (33, 41)).astype(np.uint8)
        labels = np.zeros((33, 41), np.uint8)
        labels[5:20, 7 : 20 + number] = 1
        save(tmp_path / "Flat" / "images" / f"{number}.nii.gz", image, np.diag([0.5, 0.7, 1, 1]))
        save(tmp_path / "Flat" / "labels" / f"{number}.nii.gz", labels, np.diag([0.5, 0.7, 1, 1]))
    assert kinds(checked(tmp_path / "Flat")) == set()
    save(tmp_path / "Flat" / "images" / "5.nii.gz", image * 0, np.diag([0.5, 0.7, 1, 1]))
    assert kinds(checked(tmp_path / "Flat")) == {"constant_image"}


def test_a_second_protocol_is_one_note_rather_than_a_flood(tmp_path):
    folder = write_sound(tmp_path / "Set", 12)
    for case_id in ids(12)[:4]:
        respace(files_of(folder, case_id), 3)
        rescale(files_of(folder, case_id).t1, 300)
    report = checked(folder)
    found = {one.kind: one for one in report.findings}
    assert {"spacing_groups", "intensity_groups"} <= found.keys()
    assert {"spacing_outlier", "intensity_outlier"}.isdisjoint(found)
    assert found["spacing_groups"].case_ids == tuple(ids(4))
    assert "4 of 12 cases" in found["intensity_groups"].message
    assert report.counts["warning"] == 0


def test_what_reading_warns_of_is_a_finding(tmp_path):
    folder = tmp_path / "Study"
    series = write_series(folder, np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    corners = [box_contour(Grid(), 1, (1, 1), (3, 3)), box_contour(Grid(), 1.3, (1, 1), (3, 3))]
    write_rtstruct(folder / "rt", series, {"GTV": corners})
    found = [one for one in checked(folder).findings if one.kind == "reading"]
    assert [one.file for one in found] == [str(folder / "rt")]
    assert "planes of contours lie between slices" in found[0].message


def test_names_that_are_no_text_are_shown_and_written(tmp_path):
    folder = write_sound(tmp_path / "Set", 2)
    (folder / "imagesTr" / os.fsdecode(b"scan\xe9\x9b.nii.gz")).write_bytes(b"")
    page = tmp_path / "page.html"
    report = checked(folder, html=page)
    assert any("scan\\udce9\\udc9b.nii.gz" in one.message for one in report.findings)
    assert "scan" in page.read_text("utf-8")


def test_a_page_that_cannot_be_written_is_told_before_anything_is_read(tmp_path):
    folder = write_sound(tmp_path / "Set", 2)
    (tmp_path / "page.html").mkdir()
    with pytest.raises(InputError, match="is a folder, expected a file"):
        checked(folder, html=tmp_path / "page.html")
    with pytest.raises(StorageError, match="cannot write"):
        checked(folder, html=tmp_path / "Set" / "dataset.json" / "page.html")


def test_an_id_that_can_be_no_files_name_hides_no_other_problem(tmp_path):
    folder = write_sound(tmp_path / "Set", 3)
    for path in files_of(folder, "sound_b"):
        path.rename(path.with_name(f" {path.name}"))
    change(files_of(folder, "sound_c").ct, lambda a: np.zeros_like(a))
    found = [(one.kind, one.case_ids) for one in checked(folder).findings]
    assert ("dataset_entry", ("sound_b~1",)) in found
    assert ("constant_channel", ("sound_c",)) in found


def test_an_entry_without_label_is_a_case_without_one(tmp_path):
    folder = layouts.write_msd(tmp_path / "Set", modality=("MRI",))
    content = json.loads((folder / "dataset.json").read_text())
    del content["training"][1]["label"]
    (folder / "dataset.json").write_text(json.dumps(content))
    found = [(one.kind, one.case_ids) for one in checked(folder).findings if one.severity == "error"]
    assert ("missing_label_file", ("case_a",)) in found


def write_exclusive(folder):
    """Write masks of 0 and 1 beside masks of 0 and 255, and nothing that names them."""
    for number in range(4):
        ct, _, labels = arrays(number)
        save(folder / "images" / f"c{number}.nii.gz", ct)
        save(
            folder / "labels" / f"c{number}.nii.gz", (labels > 0).astype(np.uint8) * np.uint8(255 if number > 2 else 1)
        )
    return folder


def facts_of(dataset, *voxels):
    """Return what is compared of cases that hold these voxels of each label; None for one whose label cannot be read."""
    return [
        CaseFacts(
            case_id=case.case_id,
            spacing_mm=(2.5, 1.1, 0.9),
            shape=(13, 19, 21),
            code="LPS",
            oblique_deg=0.0,
            is_left_handed=False,
            channels=(None,),
            digests=(None,),
            signature=None,
            label=None if held is None else LabelFacts(held, None, {}),
        )
        for case, held in zip(dataset.cases, voxels, strict=True)
    ]


def described(num_cases, labels, doubts=()):
    cases = [{"case_id": f"case_{number}", "images": [], "label": "x.nii"} for number in range(num_cases)]
    return Dataset(name="Toy", channels=("CT",), labels=labels, cases=cases, doubts=doubts)


def certainty(dataset, facts, **options):
    kinds_here = ("doubtful_labels", "absent_label", "many_labels")
    return [found for found in check_cohort(dataset, facts, **options) if found.kind in kinds_here]


def test_labels_that_exclude_each_other_are_an_error_that_shows_the_groups(tmp_path):
    (found,) = [one for one in checked(write_exclusive(tmp_path / "Set")).findings if one.kind == "doubtful_labels"]
    assert (found.severity, found.case_ids) == ("error", ("c0", "c1", "c2", "c3"))
    assert "1 in 3 cases (c0, c1, c2); 255 in 1 case (c3)" in found.message
    assert "label:NAME=VALUE" in found.message


def test_doubtful_and_absent_labels_that_are_confirmed_are_warnings():
    doubts = (LabelDoubt(message="1 in one case, 255 in another", case_ids=("case_0", "case_1")),)
    dataset = described(2, {"background": 0, "liver": 1, "tumour": 2}, doubts)
    facts = facts_of(dataset, {0: 9, 1: 5}, {0: 8})
    found = certainty(dataset, facts)
    assert [(one.kind, one.severity) for one in found] == [("doubtful_labels", "error"), ("absent_label", "error")]
    assert found[0].case_ids == ("case_0", "case_1")
    assert found[0].message.startswith("1 in one case, 255 in another; ")
    found = certainty(dataset, facts, confirm_labels=True)
    assert [(one.kind, one.severity) for one in found] == [("doubtful_labels", "warning"), ("absent_label", "warning")]


def test_a_label_without_a_voxel_is_an_error_unless_some_label_file_could_not_be_read():
    dataset = described(2, {"background": 0, "liver": 1, "tumour": 2})
    (found,) = certainty(dataset, facts_of(dataset, {0: 9, 1: 5}, {0: 8}))
    assert (found.kind, found.severity) == ("absent_label", "error")
    assert "tumour (2) is in no case," in found.message
    (found,) = certainty(dataset, facts_of(dataset, {0: 9, 1: 5}, None))
    assert (found.kind, found.severity) == ("absent_label", "warning")
    assert "in no case that could be read" in found.message
    assert certainty(dataset, facts_of(dataset, None, None)) == []
    assert certainty(dataset, facts_of(dataset, {1: 5}, {2: 1})) == []


def test_the_ignored_label_need_not_occur():
    dataset = described(1, {"background": 0, "liver": 1, "unknown": 9}).model_copy(update={"ignore_label": 9})
    assert certainty(dataset, facts_of(dataset, {1: 5})) == []


def test_many_labels_that_nothing_names_are_a_warning():
    dataset = described(1, {"background": 0} | {f"label_{value}": value for value in range(3, 33)})
    (found,) = certainty(dataset, facts_of(dataset, dict.fromkeys(range(3, 33), 1)))
    assert (found.kind, found.severity) == ("many_labels", "warning")
    assert "30 labels" in found.message
