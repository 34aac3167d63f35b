import json

import pytest

from tests.broken import DEFECTS, LABELS, PAIRS, describe, files_of, id_of, write_broken, write_case, write_sound
from tumorseg.cli.main import run
from tumorseg.schema.findings import SEVERITIES
from tumorseg.stages.datasets.check import CheckRequest, check
from tumorseg.stages.opening.loaded import Roots


def checked(folder, **options):
    roots = Roots(data_root=folder.parent, work=folder.parent / "runs")
    return check(CheckRequest(roots=roots, dataset=str(folder), jobs=1, **options)).report


@pytest.fixture(scope="session")
def broken(tmp_path_factory):
    folder = write_broken(tmp_path_factory.mktemp("data") / "Broken")
    write_case(folder, "no_image", 400)
    for path in files_of(folder, "no_image")[:2]:
        path.unlink()
    (folder / "imagesTr" / "sound_a_0007.nii.gz").write_bytes(b"")
    (folder / "imagesTr" / "stray.nii.gz").write_bytes(b"")
    write_case(folder, "link", 401)
    image = files_of(folder, "link").ct
    image.rename(folder.parent / "elsewhere.nii.gz")
    image.symlink_to(folder.parent / "elsewhere.nii.gz")
    describe(folder, labels=LABELS | {"cyst": 4})
    return folder


@pytest.fixture(scope="session")
def report(broken):
    return checked(broken)


def kinds_of(report, case_id):
    return {found.kind for found in report.findings if case_id in found.case_ids}


@pytest.mark.parametrize("defect", DEFECTS)
def test_every_defect_is_named_with_its_case_in_one_run_and_nothing_else_is_claimed(report, defect):
    found = kinds_of(report, id_of(defect)) - {"label_not_in_case"}
    expected = DEFECTS[defect][1] - {"label_not_in_case"}
    assert found == expected


@pytest.mark.parametrize("defect", PAIRS)
def test_every_defect_of_two_cases_names_both(report, defect):
    expected = PAIRS[defect][1]
    for case_id in (id_of(defect), f"{id_of(defect)}_original"):
        found = kinds_of(report, case_id) - {"label_not_in_case"}
        assert {"duplicate" if k in ("duplicate_image", "duplicate_across_folds") else k for k in found} == expected


def test_sound_cases_among_broken_ones_are_left_alone(report):
    for letter in "bcdefghijkl":
        assert kinds_of(report, f"sound_{letter}") == {"label_not_in_case"}


def test_what_the_source_alone_would_refuse_does_not_hide_the_rest(report):
    told = [found for found in report.findings if found.kind == "dataset_entry"]
    assert len(told) == 4
    assert {case_id for found in told for case_id in found.case_ids} == {"no_image", "sound_a", "link"}
    assert any("stray.nii.gz" in found.message for found in told)
    assert kinds_of(report, "link") == {"dataset_entry"}


def test_a_label_that_no_case_has_is_told_of_the_dataset(report):
    (absent,) = [found for found in report.findings if found.kind == "absent_label"]
    assert absent.case_ids == ()
    assert "cyst (4)" in absent.message


def test_missing_labels_are_listed_by_name(report):
    (found,) = [f for f in report.findings if f.kind == "label_not_in_case" and f.case_ids == ("no_tumour",)]
    assert "tumour (3), cyst (4)" in found.message


@pytest.mark.parametrize(
    ("kind", "case_id", "told"),
    [
        ("label_grid", "label_elsewhere", "8.66 mm"),
        ("label_header", "label_nearly_there", "0.173 mm"),
        ("channel_elsewhere", "channel_of_another_study", "139 mm away"),
        ("unknown_label", "unknown_value", "9 (1 voxels)"),
        ("not_finite", "NaN", "1 voxels"),
        ("non_integer_label", "interpolated_label", "1.5 (1 voxels)"),
        ("non_integer_label", "NaN_in_label", "nan (1 voxels)"),
        ("forms_disagree", "two_affines", "20 mm apart"),
        ("spacing_outlier", "thick_slices", "10 x 1.1 x 0.9 mm"),
        ("orientation_outlier", "other_axes", "ASR"),
        ("oblique", "oblique", "20 degrees"),
        ("intensity_outlier", "another_scale", "times as wide"),
        ("tiny_components", "speck", "tumour: 1 of 2, of 1 voxels (2.48 mm³"),
        ("sides_swapped", "swapped_sides", "kidney_left lies"),
        ("channel_count", "four_volumes", "found 4 volumes"),
        ("unreadable_file", "no_gzip", "is a web page by its first bytes"),
    ],
)
def test_messages_hold_figures(report, kind, case_id, told):
    (found,) = [f for f in report.findings if f.kind == kind and case_id in f.case_ids]
    assert told in found.message
    assert found.severity == SEVERITIES[kind]
    assert "\n" not in found.message


def test_the_gravest_stand_first_and_are_counted(report):
    ranks = [["error", "warning", "note"].index(found.severity) for found in report.findings]
    assert ranks == sorted(ranks)
    assert report.counts == {name: ranks.count(i) for i, name in enumerate(["error", "warning", "note"])}
    assert len(report.findings) == len(set(report.findings))


@pytest.mark.slow
def test_the_command_prints_all_and_fails_and_two_processes_find_the_same(broken, report, capfd, tmp_path):
    page = tmp_path / "page.html"
    assert run(["-q", "data", "check", "-d", str(broken), "--jobs", "2", "--html", str(page)]) == 1
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert out.splitlines()[0].split() == ["severity", "kind", "case", "file", "message"]
    for found in report.findings:
        assert found.message in out
        assert found.kind in out
    assert f"{report.counts['error']} errors, {report.counts['warning']} warnings" in out
    html = page.read_text()
    assert html.count('<tr class="') == len(report.findings)
    assert 10 < html.count("data:image/png;base64,") <= 60


def test_json_is_one_object_with_findings_and_counts(broken, report, capfd):
    assert run(["-q", "--json", "data", "check", "-d", str(broken), "--jobs", "1"]) == 1
    found = json.loads(capfd.readouterr().out)
    assert found["counts"] == report.counts
    assert len(found["findings"]) == len(report.findings)
    assert set(found["findings"][0]) == {"severity", "kind", "case_ids", "message", "file"}


def test_a_sound_dataset_has_no_error_and_no_warning(tmp_path, capfd):
    folder = write_sound(tmp_path / "Sound")
    assert run(["data", "check", "-d", str(folder), "--jobs", "1"]) == 0
    assert "Sound: 0 errors, 0 warnings, 0 notes in 12 cases" in capfd.readouterr().out
